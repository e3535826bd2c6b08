"""A small federation for tests: the real server over sites whose replies a test can shape."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import safetensors.numpy
from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from fedminet.in_process_grid import run_in_process
from minet_core import wire
from minet_core.federation import FederationSettings, ModelSettings
from minet_core.parcel import packed
from server.app import build_server_app
from server.run_directory import RunDirectory

SMALL_MODEL = ModelSettings(n_groups=1, n_blocks=1, n_features=4, reduction=2)

Reshape = Callable[[RecordDict], RecordDict]
"""What a test does with the honest content of a reply."""


def small_federation(**changes: object) -> FederationSettings:
    """Three sites, two rounds, a model of a few hundred parameters."""
    return FederationSettings.model_validate(
        {
            "name": "small",
            "sites": ("sms", "umr", "fastmri"),
            "rounds": 2,
            "quorum": 2,
            "round_deadline_s": 5.0,
            "model": SMALL_MODEL.model_dump(),
            **changes,
        }
    )


def honest_reply(message: Message, *, shift: float, n_training_slices: int) -> RecordDict:
    """A reply of the agreed form: the incoming weights moved by `shift`."""
    figures = {name: 1 if figure.whole else 0.5 for name, figure in wire.TRAIN_FIGURES.items()}
    weights = safetensors.numpy.load(message.content.array_records[wire.MODEL][wire.PARCEL].numpy().tobytes())
    moved = {name: (array + np.float32(shift)).astype(np.float32) for name, array in weights.items()}
    return RecordDict(
        {
            wire.METRICS: MetricRecord({**figures, "n_training_slices": n_training_slices}),
            wire.MODEL: ArrayRecord({wire.PARCEL: Array(packed(moved))}),
        }
    )


def honest_test_reply() -> RecordDict:
    """Agreed test figures: kind 0 is a phantom."""
    figures = {
        name: 0.5 if not figure.whole else max(int(figure.low), 0)
        for name, figure in wire.TEST_FIGURES.items()
    }
    return RecordDict({wire.METRICS: MetricRecord(figures)})


def shaped_site(*, shift: float, n_training_slices: int, reshape: Reshape | None = None) -> ClientApp:
    """A ClientApp that answers honestly, or with `reshape` applied to every training reply."""
    site = ClientApp()

    @site.train()
    def train(message: Message, context: Context) -> Message:
        content = honest_reply(message, shift=shift, n_training_slices=n_training_slices)
        return Message(reshape(content) if reshape else content, reply_to=message)

    @site.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        return Message(honest_test_reply(), reply_to=message)

    return site


def run_small(
    folder: Path,
    sites: Mapping[str, ClientApp],
    *,
    federation: FederationSettings | None = None,
    silent: frozenset[str] = frozenset(),
) -> RunDirectory:
    """Run the server to its end over `sites`; what it raises is raised."""
    run = RunDirectory.create(folder / "run", federation or small_federation(), engine="in-process")
    run_in_process(build_server_app(folder), sites, run_config={"run": "run"}, silent=silent)
    return run
