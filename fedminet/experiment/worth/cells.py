"""One cell of `experiment worth`: a site adapts a federation's model, chooses on validation patients, and is scored.

The site's part is the product's own, `client.rounds.site_adaptation`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping

from client.rounds.round import prepared_training_slices
from client.rounds.site_adaptation import SiteAdaptation, adapt_at_site, alone_steps, score_adapted
from fedminet.experiment.worth.plan import WorthKey, WorthPlan
from fedminet.simulation.simulate import federate_untested
from minet_core.checkpoint import load_model
from minet_core.errors import ConfigurationError
from minet_core.runtime.files.atomic_write import write_json
from minet_core.runtime.progress import Advance
from minet_core.runtime.versions import versions
from minet_core.settings.federation import FederationSettings
from minet_core.settings.yaml_file import Settings, parse_settings
from minet_core.weights.manifest import learnable
from sites.store.store import Store

PsnrDb = dict[str, dict[str, float]]
"""By candidate, by patient's place in the split's order, dB. A phantom's pseudonym is nobody's."""


class WorthCell(Settings):
    """What came of a cell.

    settings: digest of the federation's settings with the adaptation. cohort: of the site. chosen: by the validation
    patients. validation_db, test_db: PSNR by candidate and patient; test_db is empty where no test patient was read.
    """

    site: str
    scale: int
    seed: int
    patients: int
    recipe: str
    n_steps: int
    settings: str
    cohort: str
    chosen: str
    validation_db: PsnrDb
    test_db: PsnrDb
    diverged: tuple[str, ...]
    seconds: float
    versions: dict[str, str]

    def shown_db(self, *, validation: bool) -> PsnrDb:
        """The figures of the patients that a page shows, by candidate; "chosen" is one of them."""
        shown = self.validation_db if validation else self.test_db
        return {**shown, "chosen": shown[self.chosen]}


def read_cell(plan: WorthPlan, key: WorthKey) -> WorthCell | None:
    """A cell that is done, or None. Raises ConfigurationError (FM-C100) for one of other settings or scans."""
    path = plan.cell_file(key)
    if not path.is_file():
        return None
    cell = parse_settings(json.loads(path.read_text(encoding="utf-8")), WorthCell, source=str(path))
    if cell.settings != with_adaptation(plan, key).digest():
        raise ConfigurationError(
            "a result of other settings is here", got=path, action="Name a new folder with --out"
        )
    return cell


def kept_cells(plan: WorthPlan) -> list[WorthCell]:
    """Every cell of the plan's folder, of whatever recipe and seed; none of another scale."""
    found = [
        parse_settings(json.loads(path.read_text(encoding="utf-8")), WorthCell, source=str(path))
        for path in sorted((plan.folder / "cells").glob("*.json"))
    ]
    return [cell for cell in found if cell.scale == plan.scale]


def with_adaptation(plan: WorthPlan, key: WorthKey) -> FederationSettings:
    """The settings as a federation file with `adaptation` has them."""
    return plan.federation(key.seed).model_copy(update={"adaptation": plan.adaptation})


def make_cell(plan: WorthPlan, key: WorthKey, *, advance: Advance) -> WorthCell:
    """Train what the cell needs, from where it stands, and keep the cell. Raises what training raises."""
    began, homes = time.monotonic(), plan.homes(key)
    home, federation = homes[key.site], with_adaptation(plan, key)
    file = federate_untested(plan.federation_folder(key), plan.federation(key.seed), homes, advance)
    store = Store(home.store)
    prepared = prepared_training_slices(store, scale=plan.scale)
    n_alone = alone_steps(federation, home, n_slices=len(prepared))
    task = SiteAdaptation(home, federation, plan.adaptation, learnable(load_model(file)[0]), n_alone)
    adapted = adapt_at_site(task, prepared)
    tested: PsnrDb = {}
    if not plan.validation:
        tested = {
            candidate: {patient: methods["global"]["psnr_db"] for patient, methods in patients.items()}
            for candidate, patients in score_adapted(task, adapted).items()
        }
    cell = WorthCell(
        site=key.site,
        scale=plan.scale,
        seed=key.seed,
        patients=key.patients,
        recipe=plan.recipe,
        n_steps=plan.n_steps,
        settings=federation.digest(),
        cohort=store.cohort.digest,
        chosen=adapted.choice.chosen,
        validation_db=_numbered(adapted.psnr_db),
        test_db=_numbered(tested),
        diverged=adapted.diverged,
        seconds=time.monotonic() - began,
        versions=versions(),
    )
    write_json(plan.cell_file(key), cell.model_dump(mode="json"))
    return cell


def _numbered(psnr_db: Mapping[str, Mapping[str, float]]) -> PsnrDb:
    """By the patient's place in the order of the pseudonyms, which is the same for every candidate."""
    return {
        candidate: {str(place): patients[name] for place, name in enumerate(sorted(patients), start=1)}
        for candidate, patients in psnr_db.items()
    }
