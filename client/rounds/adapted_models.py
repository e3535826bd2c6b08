"""What came of an adaptation at a site: the models, what was chosen by, and what is kept of them.

    results/adaptation/model.safetensors     the chosen model
                       card.json             by what it was chosen, what it was made from; no figure of a test patient
                       global.safetensors    the model that it began with
                       adapted.safetensors   where the training further stands, and at its end its weights
                       alone.safetensors     likewise of the model that is trained alone

The chosen model may be the ensemble: its networks in one file. With a ladder of learning rates there is one such file a
rate, `adapted-0.0003.safetensors`, in place of the third.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from client.rounds.adaptation_task import SiteAdaptation
from client.rounds.candidate_training import digest_of_weights
from minet_core.calibration import Calibration
from minet_core.checkpoint import save_checkpoint
from minet_core.checkpoint_manifest import describe, provenance_of
from minet_core.evaluation.model_choice import Choice
from minet_core.runtime.files.atomic_write import write_json
from minet_core.runtime.versions import versions
from minet_core.settings.adaptation import CANDIDATES, Candidate
from minet_core.weights.manifest import Arrays
from sites.store.store import Store
from sites.store.training_domain import measured_domain


@dataclass(frozen=True)
class Ladder:
    """What was tried of an adaptation. chosen: the learning rate by the validation patients; None: all diverged.

    psnr_db: by rate whose training ended, by the validation patient's pseudonym; it stays at the site.
    """

    chosen: float | None
    psnr_db: Mapping[float, Mapping[str, float]]


@dataclass(frozen=True, eq=False)
class AdaptedModels:
    """What came of it. weights: by candidate. diverged: candidates whose training did not end.

    psnr_db: what was chosen by, by candidate and the validation patient's pseudonym; it stays at the site. ladder: the
    learning rates that were tried, and the one of the candidate. ensembled: of which candidates the ensemble is; empty
    where there is none. calibration: of the chosen model's error bars; None where no validation patient measures them.
    """

    choice: Choice
    weights: Mapping[Candidate, Arrays]
    psnr_db: Mapping[Candidate, Mapping[str, float]]
    ladder: Ladder
    diverged: tuple[Candidate, ...] = field(default=())
    ensembled: tuple[Candidate, ...] = field(default=())
    calibration: Calibration | None = None

    def n_networks(self, candidate: Candidate) -> int:
        """How many networks a candidate's weights are of, as `SiteAdaptation.settings_of` asks for."""
        return len(self.ensembled) if candidate == "ensemble" else 1


def keep_adapted(task: SiteAdaptation, adapted: AdaptedModels) -> None:
    """The model to begin with, the chosen model, and last its card: a card says that all of it is there."""
    chosen = adapted.choice.chosen
    own = {"kept": chosen, "began_with": digest_of_weights(task.weights)}
    bars = adapted.calibration
    for name, candidate, said, calibration in (("global", "global", {}, None), ("model", chosen, own, bars)):
        _save(
            task,
            task.folder / f"{name}.safetensors",
            adapted.weights[candidate],
            trained=candidate,
            n_networks=adapted.n_networks(candidate),
            said=said,
            calibration=calibration,
        )
    write_json(task.folder / "card.json", card_of(task, adapted))


def kept_provenance(task: SiteAdaptation) -> dict[str, str]:
    return provenance_of(task.federation) if task.origin is None else dict(task.origin.provenance)


def _save(
    task: SiteAdaptation,
    path: Path,
    weights: Arrays,
    *,
    trained: Candidate,
    n_networks: int,
    said: Mapping[str, str],
    calibration: Calibration | None,
) -> None:
    """A candidate as a checkpoint: from where the model to begin with is, and what the site trained it on if it did."""
    federation, origin = task.federation, task.origin
    domain = None if origin is None else origin.domain
    if trained != "global":
        domain = measured_domain(Store(task.home.store), scale=federation.scale)
    manifest = describe(
        weights,
        model=task.settings_of(n_networks),
        scale=federation.scale,
        round_number=federation.rounds if origin is None else origin.round_number,
        provenance={**kept_provenance(task), **said},
        domain=domain,
        calibration=calibration,
    )
    save_checkpoint(path, weights, manifest)


def card_of(task: SiteAdaptation, adapted: AdaptedModels) -> dict[str, Any]:
    """What a person who uses the chosen model has to know of it. Counts, digests and means: no patient's own figure."""
    choice = adapted.choice
    return {
        "schema": 1,
        "chosen": choice.chosen,
        "validation": {
            "patients": choice.n_patients,
            "psnr_db": dict(choice.means_db),
            "behind_the_best": {name: asdict(behind) for name, behind in choice.behind.items()},
        },
        "steps": {candidate: _steps_behind(task, adapted, candidate) for candidate in adapted.weights},
        "cost_steps": {name: task.cost_of(name) for name in CANDIDATES},
        **_ladder_card(task, adapted.ladder),
        "diverged": list(adapted.diverged),
        "ensembled": list(adapted.ensembled),
        "error_bars": None if adapted.calibration is None else adapted.calibration.as_card(),
        "began_with": digest_of_weights(task.weights),
        "weights": digest_of_weights(adapted.weights[choice.chosen]),
        "scale": task.federation.scale,
        "federation": task.federation.name,
        "cohort": Store(task.home.store).cohort.digest,
        "versions": versions(),
    }


def _steps_behind(task: SiteAdaptation, adapted: AdaptedModels, candidate: Candidate) -> int:
    """Optimizer steps of the site behind a candidate's weights, without those of the rounds."""
    networks = adapted.ensembled if candidate == "ensemble" else (candidate,)
    return sum(task.steps_of(name) for name in networks)


def _ladder_card(task: SiteAdaptation, ladder: Ladder) -> dict[str, Any]:
    """Each rate that was tried, where there was more than one: what it cost, and its mean."""
    if not task.adaptation.rates:
        return {}
    tried = []
    for rate, rung in task.rungs.items():
        values = ladder.psnr_db.get(rate)
        mean = float(np.mean(list(values.values()))) if values else None
        tried.append(
            {
                "learning_rate": rate,
                "steps": rung.cost_of("adapted"),
                "psnr_db": mean,
                "diverged": values is None,
            }
        )
    return {"learning_rate": ladder.chosen, "tried": tried}
