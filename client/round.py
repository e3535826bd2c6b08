"""What a site does with one message: score the global model, train it on its own slices, answer.

`train` scores the weights that came in on the validation split before it trains, so a round costs one message.
`evaluate` scores them on the test split, beside the interpolations. The site trains by the federation file it
was admitted with; a message that names another federation is refused.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from numpy.typing import NDArray

from client.optimizer_state import continued_adam, keep_adam
from client.site_home import SiteHome
from minet_core import wire
from minet_core.evaluation import VolumeScores, evaluate_volume, score_slices
from minet_core.federation import FederationSettings
from minet_core.metrics import bootstrap_interval
from minet_core.models.minet import MINet
from minet_core.parcel import packed, unpacked
from minet_core.report.panel import Panel
from minet_core.runtime.durable import replacing, write_json
from minet_core.runtime.errors import FederationMismatch, ReplyRefused, WeightsRefused
from minet_core.samples import draw_batches
from minet_core.seeds import numpy_generator, torch_generator
from minet_core.training import (
    SETTLING_STEPS,
    adam,
    autocast_dtype_for,
    bring_to_form,
    device_of,
    preferred_device,
    train_steps,
)
from minet_core.weights import WeightManifest, check_weights, learnable, load_weights
from sites.dataset import StoreSlices
from sites.store import Store

Arrays = dict[str, NDArray[np.generic]]

PANEL_NAMES = {"global": "output"}
"""Where a method's name in the scores differs from its field in a `Panel`."""


def train(message: Message, site_folder: Path) -> RecordDict:
    """Score the incoming weights on the validation split, train them, return them with the agreed figures."""
    began = time.monotonic()
    home, federation, model, request = _opened(message, site_folder)
    round_number = request.round_number
    settings = home.settings()
    store = Store(home.store)
    validation = _validate(model, store, federation)
    slices = StoreSlices(store, "training")
    n_steps = steps_per_round(federation, n_slices=len(slices))
    batches = draw_batches(
        slices,
        scale=federation.scale,
        batch_size=federation.training.batch_size,
        patch_px=federation.training.patch_px,
        generator=torch_generator(federation.seed, round_number, settings.name, "batches"),
    )
    training = federation.training
    bring_to_form(model)
    kept = continued_adam(model, home.state, run=request.run, round_number=round_number)
    optimizer = kept or adam(model)
    report = train_steps(
        model,
        batches,
        first_step=(round_number - 1) * n_steps,
        n_steps=n_steps,
        total_steps=federation.rounds * n_steps,
        learning_rate=training.learning_rate,
        warmup_steps=training.warmup_steps,
        decay_fraction=training.decay_fraction,
        clip_norm=training.clip_norm,
        alpha=training.alpha,
        beta=training.beta,
        autocast_dtype=autocast_dtype_for(device_of(model)),
        optimizer=optimizer,
        settling_steps=0 if kept else SETTLING_STEPS,
    )
    keep_adam(optimizer, model, home.state, run=request.run, round_number=round_number)
    figures: dict[str, int | float] = {
        "n_training_slices": len(slices),
        "train_loss": report.loss_mean,
        "seconds": time.monotonic() - began,
        **{f"validation_{score}": validation[score] for score in wire.SCORES},
    }
    return _reply(figures, wire.TRAIN_FIGURES, weights=learnable(model))


def evaluate(message: Message, site_folder: Path) -> RecordDict:
    """Score the incoming weights on the test split, beside sinc and bicubic; keep the details on the site."""
    began = time.monotonic()
    home, federation, model, _ = _opened(message, site_folder)
    store = Store(home.store)
    precision = autocast_dtype_for(device_of(model))
    scores: dict[str, VolumeScores] = {}
    for pseudonym, target, reference in store.volumes("test"):
        scores[pseudonym] = evaluate_volume(
            model, target, reference, scale=federation.scale, keep_images=not scores, autocast_dtype=precision
        )
    _keep_on_site(home, scores)
    figures: dict[str, int | float] = {
        "n_training_slices": len(StoreSlices(store, "training")),
        "n_test_volumes": len(scores),
        "few_patients": int(store.cohort.few_patients),
        "kind": wire.KINDS.index(store.cohort.data_kind),
        "seconds": time.monotonic() - began,
        **summary_figures([volume.metrics for volume in scores.values()], seed=federation.seed),
    }
    return _reply(figures, wire.TEST_FIGURES, weights=None)


HANDLERS = {"train": train, "evaluate": evaluate}


def steps_per_round(federation: FederationSettings, *, n_slices: int) -> int:
    """Optimizer steps of one round: as declared, or as many as local_epochs passes take."""
    training = federation.training
    if training.local_epochs is None:
        assert training.local_steps is not None  # the federation file declares one of the two
        return training.local_steps
    return training.local_epochs * -(-n_slices // training.batch_size)


def summary_figures(metrics: list[dict[str, dict[str, float]]], *, seed: int) -> dict[str, float]:
    """Mean and 95% bootstrap interval over volumes, for every method and score, under their agreed names."""
    figures: dict[str, float] = {}
    for method in wire.METHODS:
        for score in wire.SCORES:
            values = [volume[method][score] for volume in metrics]
            figures[f"{method}_{score}"] = float(np.mean(values))
            interval = bootstrap_interval(values, generator=numpy_generator(seed, method, score, "bootstrap"))
            if interval is not None:
                figures[f"{method}_{score}_low"], figures[f"{method}_{score}_high"] = interval
    return figures


@dataclass(frozen=True)
class _Request:
    """The agreed values of a request."""

    round_number: int
    run: str


def _opened(message: Message, site_folder: Path) -> tuple[SiteHome, FederationSettings, MINet, _Request]:
    """The request, checked against what this site was admitted to."""
    home = SiteHome.at(site_folder)
    federation = home.federation()
    if set(message.content) != {wire.MODEL, wire.REQUEST}:
        raise ReplyRefused("the request has the wrong records", got=sorted(message.content))
    request = message.content[wire.REQUEST]
    assert isinstance(request, ConfigRecord)
    if request.get("federation") != federation.digest():
        raise FederationMismatch(
            "the request names another federation file",
            got=request.get("federation"),
            expected=federation.digest(),
            action="Ask the coordinator for a kit of the present federation",
        )
    round_number = request.get("round")
    if not isinstance(round_number, int) or not 1 <= round_number <= federation.rounds:
        raise FederationMismatch("the request's round is out of range", got=round_number)
    run = request.get("run")
    if not isinstance(run, str) or not wire.RUN_NAME.fullmatch(run):
        raise FederationMismatch("the request's run has no plain name")
    model = MINet(**federation.model.model_dump(), scale=federation.scale)
    weights = message.content[wire.MODEL]
    if not isinstance(weights, ArrayRecord) or set(weights) != {wire.PARCEL}:
        raise WeightsRefused("the request's weights are not one parcel")
    manifest = WeightManifest.of(learnable(model))
    load_weights(model, unpacked(weights[wire.PARCEL].numpy(), manifest=manifest))
    model.to(preferred_device())
    return home, federation, model, _Request(round_number, run)


def _validate(model: MINet, store: Store, federation: FederationSettings) -> dict[str, float]:
    slices = StoreSlices(store, "validation")
    limit = federation.training.validation_slices or len(slices)
    indices = np.unique(np.linspace(0, len(slices) - 1, min(limit, len(slices))).round().astype(int))
    return score_slices(
        model,
        slices,
        [int(index) for index in indices],
        scale=federation.scale,
        autocast_dtype=autocast_dtype_for(device_of(model)),
    )


def _reply(
    figures: Mapping[str, int | float], agreed: Mapping[str, wire.Figure], *, weights: Arrays | None
) -> RecordDict:
    """A reply that holds what was agreed; checked here, before anything leaves."""
    wire.checked_figures(figures, agreed=agreed)
    content = RecordDict({wire.METRICS: MetricRecord(dict(figures))})
    if weights is not None:
        check_weights(weights, WeightManifest.of(weights))
        content[wire.MODEL] = ArrayRecord({wire.PARCEL: Array(packed(weights))})
    return content


def _keep_on_site(home: SiteHome, scores: dict[str, VolumeScores]) -> None:
    """The scores of every volume by pseudonym, and the images of one slice, for the site's own report."""
    write_json(
        home.results / "test.json", {pseudonym: volume.metrics for pseudonym, volume in scores.items()}
    )
    images = next(iter(scores.values())).images
    assert images is not None  # kept for the first volume
    middle = len(images["target"]) // 2
    arrays = {PANEL_NAMES.get(name, name): volume[middle] for name, volume in images.items()}
    with replacing(home.results / "panel.npz") as temporary, temporary.open("wb") as stream:
        np.savez(stream, slice_number=np.array(middle), **arrays)


def read_panel(home: SiteHome) -> Panel | None:
    """The images that `evaluate` kept of one test slice; None before the first test."""
    path = home.results / "panel.npz"
    if not path.exists():
        return None
    with np.load(path, allow_pickle=False) as arrays:
        images = {name: arrays[name] for name in arrays.files if name != "slice_number"}
        return Panel(**images, slice_number=int(arrays["slice_number"]))
