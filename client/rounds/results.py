"""What a site keeps of a round for itself: the whole model of a personal run, and the slice that its report shows."""

from __future__ import annotations

import numpy as np

from client.rounds.round_request import RoundRequest
from client.site_home import SiteHome
from minet_core.checkpoint import save_checkpoint
from minet_core.checkpoint_manifest import describe, provenance_of
from minet_core.evaluation.volume_scores import VolumeScores
from minet_core.models.base import SuperResolver
from minet_core.report.panel import Panel
from minet_core.runtime.files.atomic_write import replacing, write_json
from minet_core.weights.manifest import learnable
from sites.store.store import Store
from sites.store.training_domain import measured_domain

PANEL_NAMES = {"global": "output"}
"""Where a method's name in the scores differs from its field in a `Panel`."""


def keep_whole_model(incoming: RoundRequest, model: SuperResolver) -> None:
    """The shared body with this site's own head, which no other place has: what the site infers with."""
    federation, weights = incoming.federation, learnable(model)
    manifest = describe(
        weights,
        model=federation.model,
        scale=federation.scale,
        round_number=incoming.round_number,
        provenance=provenance_of(federation),
        domain=measured_domain(Store(incoming.home.store), scale=federation.scale),
    )
    save_checkpoint(incoming.home.results / "model.safetensors", weights, manifest)


def keep_panel(home: SiteHome, scores: dict[str, VolumeScores]) -> None:
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
    with np.load(path, allow_pickle=False) as arrays:  # plain arrays alone: a pickle would be code
        images = {name: arrays[name] for name in arrays.files if name != "slice_number"}
        return Panel(**images, slice_number=int(arrays["slice_number"]))
