"""A small federation whose sites answer as they are told to: the real server over replies that a trial shapes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
import safetensors.numpy
from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from numpy.typing import NDArray

from fedminet.simulation.in_process_grid import InProcessGrid, node_id_of, server_identity
from minet_core.protocol import messages
from minet_core.settings.federation import FederationSettings, ModelSettings
from minet_core.settings.yaml_file import parse_settings
from minet_core.weights.payload import pack
from server.rounds.run import run_federation
from server.runs.run_directory import RunDirectory

TRIAL_SITES = ("sms", "umr", "fastmri")
TRIAL_MODEL = ModelSettings(n_groups=1, n_blocks=1, n_features=4, reduction=2)

Weights = dict[str, NDArray[np.generic]]

Reshape = Callable[[RecordDict, Message], RecordDict]
"""What a trial does with the honest content of a reply, given the request that it answers."""


def trial_federation(**changes: object) -> FederationSettings:
    """Three sites, two rounds, a model of a few hundred parameters."""
    content: dict[str, object] = {
        "name": "trial",
        "sites": TRIAL_SITES,
        "rounds": 2,
        "participation": {"quorum": 2, "deadline_s": 5.0, "retries": 0},
        "model": TRIAL_MODEL.model_dump(),
    }
    return parse_settings({**content, **changes}, FederationSettings, source="the trial")


def weights_in(message: Message | RecordDict) -> Weights:
    """The arrays of a request's or a reply's parcel."""
    content = message if isinstance(message, RecordDict) else message.content
    parcel = content.array_records[messages.MODEL][messages.PARCEL].numpy()
    return dict(safetensors.numpy.load(parcel.tobytes()))


def binding(message: Message) -> dict[str, int]:
    """The figures that bind a reply to its request."""
    request = message.content.config_records[messages.REQUEST]
    number = messages.run_number(str(request["run"]), federation=str(request["federation"]))
    return {"round": int(str(request["round"])), "run": number, "cohort": 7}


def honest_reply(message: Message, *, shift: float, n_training_slices: int) -> RecordDict:
    """A reply of the agreed form: the incoming weights moved by `shift`."""
    figures: dict[str, int | float] = {
        name: 1 if figure.whole else 0.5 for name, figure in messages.TRAIN_FIGURES.items()
    }
    figures |= {**binding(message), "n_training_slices": n_training_slices}
    moved = {
        name: (array + np.float32(shift)).astype(np.float32)  # type: ignore[operator]
        for name, array in weights_in(message).items()
    }
    return RecordDict(
        {
            messages.METRICS: MetricRecord(dict(figures)),
            messages.MODEL: ArrayRecord({messages.PARCEL: Array(pack(moved))}),
        }
    )


def honest_test_reply(message: Message, *, n_training_slices: int) -> RecordDict:
    """Agreed test figures: kind 0 is a phantom."""
    figures: dict[str, int | float] = {
        name: 0.5 if not figure.whole else max(int(figure.low), 0)
        for name, figure in messages.TEST_FIGURES.items()
    }
    figures |= {**binding(message), "n_training_slices": n_training_slices}
    return RecordDict({messages.METRICS: MetricRecord(dict(figures))})


def trial_site(*, shift: float, n_training_slices: int, reshape: Reshape | None = None) -> ClientApp:
    """A ClientApp that answers honestly, or with `reshape` applied to every training reply."""
    site = ClientApp()

    @site.train()
    def train(message: Message, _context: Context) -> Message:
        content = honest_reply(message, shift=shift, n_training_slices=n_training_slices)
        return Message(content if reshape is None else reshape(content, message), reply_to=message)

    @site.evaluate()
    def evaluate(message: Message, _context: Context) -> Message:
        return Message(honest_test_reply(message, n_training_slices=n_training_slices), reply_to=message)

    return site


class RepeatingGrid(InProcessGrid):
    """A grid on which every reply of one site arrives twice."""

    def __init__(self, sites: Mapping[str, ClientApp], *, twice: str) -> None:
        super().__init__(sites)
        self._twice = node_id_of(twice)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """The next reply, and once more where it is that site's."""
        replies = list(super().pull_messages(message_ids))
        return replies * 2 if replies and replies[0].metadata.src_node_id == self._twice else replies


def conduct_trial(folder: Path, grid: InProcessGrid, federation: FederationSettings) -> RunDirectory:
    """Run the server to its end over `grid`; what it raises is raised."""
    run = RunDirectory.create(folder / "run", federation, engine="in-process")
    with server_identity():
        run_federation(grid, run)
    return run
