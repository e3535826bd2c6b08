"""Sites of scans in which each patient in turn is the test patient, as a site of few patients has them.

All others train; validation is on held-out slices of theirs, so no patient judges which model is kept.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from client.site_home import SiteHome
from fedminet.experiment.patients.plan import patients_of
from fedminet.single_machine.sites import make_sites_once
from minet_core.runtime.files.atomic_write import write_json
from minet_core.runtime.files.file_lock import held
from sites.store.cohort import make_cohort
from sites.store.split import Split
from sites.store.store import Store

TURN = "turn.json"
"""Written last into a turn's folder: it is whole."""


def patients_by_site(out: Path, named: Mapping[str, Path]) -> dict[str, int]:
    """How many patients each site has. Raises ConfigurationError (FM-C100) for a site of one."""
    return {site: len(patients_of(Store(home.store))) for site, home in _homes_of_scans(out, named).items()}


def homes_of_turn(out: Path, named: Mapping[str, Path], *, turn: int) -> dict[str, SiteHome]:
    """Each site with one patient to be tested, made where it is not there yet.

    turn: from 1. A site with fewer patients than another begins again with its first one, who was tested before: it
    takes part in the rounds.
    """
    folder = out / "data" / f"scans-turn{turn}"
    scans = _homes_of_scans(out, named)
    with held(folder.with_name(f"{folder.name}.lock"), patience_s=None):
        if not (folder / TURN).is_file():
            shutil.rmtree(folder, ignore_errors=True)
            for site, home in scans.items():
                _copy_with_split(home, folder / "sites" / site, turn=turn)
            write_json(folder / TURN, {"turn": turn})
    return {site: SiteHome.at(folder / "sites" / site) for site in named}


def _homes_of_scans(out: Path, named: Mapping[str, Path]) -> dict[str, SiteHome]:
    folder = out / "data" / "scans"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with held(folder.with_name(f"{folder.name}.lock"), patience_s=None):
        make_sites_once(folder, named, sites=tuple(named), n_patients=0, seed=0)
    return {site: SiteHome.at(folder / "sites" / site) for site in named}


def _copy_with_split(home: SiteHome, to: Path, *, turn: int) -> None:
    shutil.copytree(home.path, to)
    store = Store(SiteHome.at(to).store)
    cohort, patients = store.cohort, patients_of(store)
    tested = patients[(turn - 1) % len(patients)]
    split: dict[str, Split] = {one: "test" if one == tested else "training" for one in cohort.patients}
    store.write_cohort(
        make_cohort(
            cohort.pairs,
            split,
            site=cohort.site,
            data_kind=cohort.data_kind,
            target=cohort.target,
            reference=cohort.reference,
        )
    )
