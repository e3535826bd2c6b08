"""What must agree before a site can be configured: its kit, its keys, its own policy and its store."""

from __future__ import annotations

import contextlib
import stat
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from client.admission.keys import read_site_keys
from client.admission.kit import Kit, kit_in_use, pinned_kit
from client.admission.model_size import keep_model_size, read_model_size
from client.admission.policy import require_policy, require_policy_of_size
from client.site_home import SiteHome
from client.status.finding import CHECKS_OF_PART, Finding, Part
from minet_core.admission.kit import require_current
from minet_core.errors import FedminetError, NoScansFound, ScanInvalid, StoreDamaged
from minet_core.protocol.cohort_declaration import DECLARATION_FILE, read_declaration
from minet_core.settings.drawable import require_drawable
from minet_core.settings.federation import FederationSettings
from sites.settings.site_policy import require_bundle_allowed
from sites.store.cohort import Cohort, PairRecord
from sites.store.pair_file import INGEST_AGAIN, open_pair
from sites.store.pseudonym import site_key
from sites.store.store import Store
from sites.store.verify import check as check_every_byte


@dataclass
class Admitted:
    """What the checks found out for those that follow. kit: None where it cannot be used."""

    kit: Kit | None = None
    findings: list[Finding] = field(default_factory=list)


def check_admission(
    home: SiteHome, *, thorough: bool = False, part: Part = "all", count_model: bool = True
) -> Admitted:
    """Kit, keys, policy and store, one finding each, but what the part of the site does not see (CHECKS_OF_PART).

    Parameters
    ----------
    home
        The site's folder.
    thorough
        Reads every byte of the store.
    part
        The part of the site that asks.
    count_model
        False where nothing is started on the answer: the model's weights are as many as were counted last, which is
        found without torch. Where that is not known, they are counted.
    """
    admitted = Admitted()
    found = admitted.findings
    seen = CHECKS_OF_PART[part]
    try:
        admitted.kit = kit_in_use(home) if "keys" in seen else pinned_kit(home)
        require_current(admitted.kit.settings)
        settings = admitted.kit.settings
        found.append(
            Finding("kit", "ok", f"site {settings.site} of {settings.federation}, {settings.address}")
        )
    except FedminetError as failure:
        found.append(Finding.refused("kit", failure))
    if "keys" in seen:
        try:
            found.append(_keys(home))
        except FedminetError as failure:
            found.append(Finding.refused("keys", failure))
    try:
        found.append(_policy(home, admitted.kit, seen, count_model=count_model))
    except FedminetError as failure:
        found.append(Finding.refused("policy", failure))
    if "store" in seen:
        try:
            federation = None if admitted.kit is None else admitted.kit.federation
            found.append(_store(home, federation, thorough=thorough))
        except FedminetError as failure:
            found.append(Finding.refused("store", failure))
    return admitted


def _keys(home: SiteHome) -> Finding:
    keys = read_site_keys(home.keys)
    mode = stat.S_IMODE(home.keys.stat().st_mode)
    if mode & 0o022:
        return Finding(
            "keys",
            "warning",
            f"others can write into the folder of the keys: mode {mode:o}",
            "mode 700",
            "Run `chmod 700` on the folder keys",
        )
    return Finding("keys", "ok", keys.fingerprint)


def _policy(home: SiteHome, kit: Kit | None, seen: Collection[str], *, count_model: bool) -> Finding:
    settings = home.settings()
    policy = settings.policy
    if kit is None:
        return Finding("policy", "unknown", "it is held against the kit, and there is none to use")
    require_bundle_allowed(policy, digest=kit.settings.bundle_digest)
    cohort = None
    if "store" in seen:
        with contextlib.suppress(FedminetError):  # the check of the store says what is wrong with it
            cohort = Store(home.store).cohort
    n_parameters = None if count_model else read_model_size(home, kit.federation)
    if n_parameters is None:
        n_parameters = require_policy(settings, kit.federation, cohort=cohort).n_parameters
        keep_model_size(home, kit.federation, n_parameters)
    else:
        require_policy_of_size(settings, kit.federation, n_parameters=n_parameters, cohort=cohort)
    listed = "on the site's list" if policy.bundles else "the kit's"
    return Finding(
        "policy",
        "ok",
        f"{kit.federation.rounds} rounds, {n_parameters:,} weights; bundle {kit.settings.bundle_digest[:12]} {listed}",
    )


def _store(home: SiteHome, federation: FederationSettings | None, *, thorough: bool) -> Finding:
    store = Store(home.store)
    cohort = store.cohort
    if thorough:
        check_every_byte(home.store)
    else:
        site_key(home.store, may_make=False)
        _require_whole(home.store, cohort)
    for split, count in cohort.counts.items():
        if count.slices == 0:
            raise NoScansFound(
                f"the store has nothing for the {split} split", got="0 slices", action="Ingest more patients"
            )
    if federation is not None:
        _require_drawable(cohort, federation)
    counts = ", ".join(f"{split} {count.patients}" for split, count in cohort.counts.items())
    n_slices = cohort.counts["training"].slices
    said = f"patients: {counts}; {n_slices} training slices; {'every byte' if thorough else 'every file'} checked"
    if _declared_digest(home) not in (None, cohort.digest):
        return Finding(
            "store",
            "warning",
            f"{said}; it has changed since {DECLARATION_FILE} was written",
            "the cohort that was declared: the server refuses the replies of another one (FM-F409)",
            "Run `fedminet site ingest` once more and send the coordinator the new declaration",
        )
    if cohort.site != home.settings().name:
        return Finding(
            "store", "warning", f"{said}; ingested as {cohort.site}", f"the site {home.settings().name}"
        )
    return Finding("store", "ok", said)


def _require_whole(store: Path, cohort: Cohort) -> None:
    """Raise StoreDamaged (FM-D207) naming the files that are missing, cut short or of another shape.

    HDF5 refuses a file that is shorter than it says; a changed byte is found by reading all of them.
    """
    damaged = [pair.file for pair in cohort.pairs if not _is_whole(store, pair)]
    if damaged:
        shown = ", ".join(damaged[:3]) + (f" and {len(damaged) - 3} more" if len(damaged) > 3 else "")
        raise StoreDamaged("files of the store are missing or damaged", got=shown, action=INGEST_AGAIN)


def _is_whole(store: Path, pair: PairRecord) -> bool:
    try:
        with open_pair(store / pair.file, shape=pair.shape):
            return True
    except StoreDamaged:
        return False


def _require_drawable(cohort: Cohort, federation: FederationSettings) -> None:
    """Raise ScanInvalid (FM-D202), InvalidSetting (FM-C102) where the federation's patches do not fit the slices."""
    patch, scale = federation.training.patch_px, federation.scale
    require_drawable(cohort.counts["training"].slices, scale=scale, patch_px=patch)
    edges = [edge // scale * scale for pair, _ in cohort.pairs_of("training") for edge in pair.shape[1:]]
    if patch is not None and min(edges) < patch:
        raise ScanInvalid(
            "the federation trains on patches that are larger than a slice of this site",
            got=f"{min(edges)} px",
            expected=f"at least {patch} px in both directions",
            action="Tell the coordinator: training.patch_px of federation.yaml does not fit this site",
        )


def _declared_digest(home: SiteHome) -> str | None:
    path = home.path / DECLARATION_FILE
    return read_declaration(path).cohort_digest if path.is_file() else None
