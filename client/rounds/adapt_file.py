"""A model's file adapted at a site by the hospital's own command: later, for other patients, or without a federation.

The recipe is that of the federation file that the model comes from, where the site has it; else that of the first
preset that has its architecture, and of `AdaptationSettings`. No coordinator asks, so no policy is held against it, and
nothing leaves.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from client.rounds.adaptation_task import ADAPTATION, SiteAdaptation, alone_steps
from client.rounds.adapted_models import card_of
from client.rounds.round import prepared_training_slices
from client.rounds.round_cache import one_at_a_time
from client.rounds.site_adaptation import adapt_at_site, score_adapted
from client.site_home import SiteHome
from minet_core.admission.kit import FEDERATION_FILE
from minet_core.checkpoint import load_model
from minet_core.checkpoint_manifest import CheckpointManifest
from minet_core.errors import FileMissing
from minet_core.protocol.figures import adaptation_figures
from minet_core.report.wording import KEPT_WORDS, gain_text
from minet_core.runtime.observer import Observer
from minet_core.runtime.progress import Advance
from minet_core.settings.adaptation import AdaptationSettings
from minet_core.settings.federation import PRESETS, FederationSettings
from minet_core.settings.presets import federation_of
from minet_core.training.gradient_rules import require_part
from minet_core.weights.manifest import learnable
from sites.store.store import Store


def adapt_file(home: SiteHome, path: Path | None, *, advance: Advance = lambda *_: None) -> dict[str, Any]:
    """Adapt the model of a file; its card, and the figures on the site's test patients under their agreed names.

    path: None for the model that the last adaptation here began with, as that of the last federation. advance: told of
    the steps made and of all; of a training that goes on, those of now until the end.

    Raises FileMissing (FM-C103), CheckpointInvalid (FM-M301), and what `adapt_at_site` raises.
    """
    source = path or home.results / ADAPTATION / "global.safetensors"
    if path is None and not source.is_file():
        raise FileMissing(
            "this site has no global model yet", got=source, action="Give the file of one with --model"
        )
    model, manifest = load_model(source)
    federation = recipe_for(home, manifest)
    adaptation = federation.adaptation or AdaptationSettings()
    weights = learnable(model)
    if adaptation.head_steps:
        require_part(adaptation.head, names=weights)
    store = Store(home.store)
    with one_at_a_time(home.state):
        prepared = prepared_training_slices(store, scale=federation.scale)
        n_alone = alone_steps(federation, home, n_slices=len(prepared))
        task = SiteAdaptation(home, federation, adaptation, weights, n_alone, origin=manifest)
        adapted = adapt_at_site(task, prepared, observer=_told_of_steps(task, advance))
        advance(_steps_in_all(task), _steps_in_all(task))
        scores = score_adapted(task, adapted)
    chosen = adapted.choice.chosen
    return {
        **card_of(task, adapted),
        "model": str(task.folder / "model.safetensors"),
        "n_test_patients": len(scores["global"]),
        "test": adaptation_figures(scores, chosen=chosen, seed=federation.seed),
    }


def _steps_in_all(task: SiteAdaptation) -> int:
    return task.cost_of("adapted") + task.cost_of("alone")


def _told_of_steps(task: SiteAdaptation, advance: Advance) -> Observer:
    """Told each time that a training is kept."""
    n_steps, done = _steps_in_all(task), 0
    advance(0, n_steps)

    def kept(_: str) -> None:
        nonlocal done
        done += task.keep_every
        advance(min(done, n_steps), n_steps)

    return kept


def recipe_for(home: SiteHome, manifest: CheckpointManifest) -> FederationSettings:
    """The federation file that a model comes from, where the site has it; else one of its preset around the model."""
    if (home.kit / FEDERATION_FILE).is_file():
        own = home.federation()
        if manifest.provenance.get("federation_digest") == own.digest():
            return own
    preset = federation_of(
        name="released-model",
        sites=(home.settings().name,),
        preset=_preset_of(manifest),
        scale=manifest.scale,
        rounds=max(manifest.round_number, 1),
    )
    return preset.model_copy(update={"model": manifest.model, "adaptation": AdaptationSettings()})


def _preset_of(manifest: CheckpointManifest) -> str:
    """The first preset whose model has the architecture: how such a one is trained; else the first of all."""
    wanted = manifest.model.architecture
    return next(
        (name for name, (model, _) in PRESETS.items() if model.architecture == wanted), next(iter(PRESETS))
    )


def _patients(number: int, split: str) -> str:
    return f"{number} {split} patient{'' if number == 1 else 's'}"


def _error_bars_as_text(bars: Mapping[str, Any] | None) -> str:
    if bars is None:
        return "Its error bars were not measured."
    held = " and ".join(f"{held:.0%}" for held in bars["promised"].values())
    return (
        f"Its error bars were measured on {_patients(bars['patients'], 'validation')}, {bars['slices']} slices: bars "
        f"of 68% and 95% hold at least {held} of a new patient's voxels, on average over patients."
    )


def adapted_as_text(page: Mapping[str, Any]) -> str:
    """What was chosen and why, for a person."""
    validation, test = page["validation"], page["test"]
    lines = [f"This site keeps {KEPT_WORDS[page['chosen']]}: {page['model']}"]
    if validation["patients"]:
        lines.append(f"Judged by {_patients(validation['patients'], 'validation')}, mean PSNR [dB]:")
        for name, mean in validation["psnr_db"].items():
            behind = validation["behind_the_best"][name]
            lines.append(
                f"  {name:8s} {mean:6.2f}, {behind['mean_db']:.2f} behind the best, standard error "
                f"{behind['standard_error_db']:.2f}"
            )
        for tried in page.get("tried", ()):
            mean = "its training diverged" if tried["diverged"] else f"{tried['psnr_db']:.2f}"
            lines.append(f"  adapted at {tried['learning_rate']:g}, {tried['steps']} steps: {mean}")
        lines.append(_error_bars_as_text(page["error_bars"]))
    else:
        lines.append(
            "It has no validation patient but those it trains on, and so nothing to choose by: what costs least where "
            "it is wrong is kept. More patients would judge."
        )
    lines.append(f"On {_patients(page['n_test_patients'], 'test')}, looked at after the choice, PSNR [dB]:")
    lines += [
        f"  {name.removesuffix('_db').replace('_', ' '):22s} {gain_text(value)}"
        for name, value in test.items()
        if name.endswith("_db") and "_less_" in name
    ]
    return "\n".join(lines)
