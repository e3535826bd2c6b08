"""Hostile and broken replies: each is refused by the site's name, and the mean is that of the honest sites."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from numpy.typing import NDArray

from fedminet.simulation.in_process_grid import InProcessGrid
from minet_core.checkpoint import load_checkpoint
from minet_core.protocol import messages
from minet_core.protocol.exchange_plan import initial_weights
from minet_core.settings.federation import FederationSettings
from minet_core.weights.manifest import weighted_mean
from minet_core.weights.payload import pack
from server.runs.run_directory import RunDirectory
from tests.faults.trial_sites import (
    RepeatingGrid,
    Reshape,
    Weights,
    conduct_trial,
    honest_reply,
    trial_federation,
    trial_site,
    weights_in,
)

SITES = {"sms": (0.25, 100), "umr": (0.5, 50), "fastmri": (0.375, 70)}
"""By site: how far its honest training moves every weight, and its training slices."""

ODD = "fastmri"
SECRET = "/mnt/archive/DOE^JOHN/1961-02-03"
"""What a careless site might let out; it must be found nowhere at the coordinator."""


@dataclass(frozen=True)
class Verdict:
    """What became of one hostile reply. equal: the global model has the bytes of the mean over the honest sites."""

    name: str
    code: str
    named: bool
    equal: bool
    status: str

    @property
    def held(self) -> bool:
        return self.named and self.equal


def parcel_of(content: RecordDict) -> Array:
    return content.array_records[messages.MODEL][messages.PARCEL]


def with_weights(content: RecordDict, weights: Weights) -> RecordDict:
    content[messages.MODEL] = ArrayRecord({messages.PARCEL: Array(pack(weights))})
    return content


def first_replaced(make: Callable[[NDArray[np.float32]], NDArray[np.generic]]) -> Reshape:
    def reshape(content: RecordDict, _request: Message) -> RecordDict:
        weights = weights_in(content)
        name = sorted(weights)[0]
        weights[name] = make(weights[name].astype(np.float32))
        return with_weights(content, weights)

    return reshape


def one_value(value: float) -> Reshape:
    def make(array: NDArray[np.float32]) -> NDArray[np.float32]:
        array = array.copy()
        array.flat[0] = value
        return array

    return first_replaced(make)


def update_times(factor: float) -> Reshape:
    def reshape(content: RecordDict, request: Message) -> RecordDict:
        before, after = weights_in(request), weights_in(content)
        moved = {
            name: (before[name] + np.float32(factor) * (after[name] - before[name])).astype(np.float32)  # type: ignore[operator]
            for name in before
        }
        return with_weights(content, moved)

    return reshape


def turned_after(n_rounds: int, factor: float, *, within: int = 1) -> Reshape:
    """A site that is honest for so many rounds, and multiplies its updates by `factor` so many rounds later."""

    def reshape(content: RecordDict, request: Message) -> RecordDict:
        number = int(str(request.content.config_records[messages.REQUEST]["round"]))
        way = min(max(number - n_rounds, 0) / within, 1.0)
        return content if way == 0 else update_times(1.0 + way * (factor - 1.0))(content, request)

    return reshape


def without_a_key(content: RecordDict, _request: Message) -> RecordDict:
    weights = weights_in(content)
    weights.pop(sorted(weights)[0])
    return with_weights(content, weights)


def with_an_extra_key(content: RecordDict, _request: Message) -> RecordDict:
    return with_weights(content, {**weights_in(content), SECRET: np.zeros(3, np.float32)})


def a_hundred_times_too_large(content: RecordDict, _request: Message) -> RecordDict:
    size = 100 * parcel_of(content).numpy().nbytes + 1_000_000
    content[messages.MODEL] = ArrayRecord({messages.PARCEL: Array(np.zeros(size, np.uint8))})
    return content


def without_weights(content: RecordDict, _request: Message) -> RecordDict:
    content[messages.MODEL] = ArrayRecord({})
    return content


def figure(name: str, value: object) -> Reshape:
    def reshape(content: RecordDict, _request: Message) -> RecordDict:
        figures = {**content.metric_records[messages.METRICS], name: value}
        content[messages.METRICS] = MetricRecord(figures)  # type: ignore[arg-type]
        return content

    return reshape


def replayed_from_the_first_round() -> Reshape:
    """From the second round on, the site sends what it sent in the first."""
    kept: list[RecordDict] = []

    def reshape(content: RecordDict, request: Message) -> RecordDict:
        kept.append(content)
        del request
        return kept[0]

    return reshape


def of_another_run(content: RecordDict, request: Message) -> RecordDict:
    other = honest_reply(request, shift=0.375, n_training_slices=70)
    other[messages.METRICS] = MetricRecord({**content.metric_records[messages.METRICS], "run": 12345})
    return other


def a_failure_with_text(_content: RecordDict, _request: Message) -> RecordDict:
    return RecordDict({messages.FAILURE: ConfigRecord({"code": SECRET, "trace": SECRET})})


HOSTILE: dict[str, Callable[[], Reshape | None]] = {
    "NaN": lambda: one_value(np.nan),
    "infinity": lambda: one_value(np.inf),
    "(1,) that would broadcast": lambda: first_replaced(lambda _: np.ones(1, np.float32)),
    "missing key": lambda: without_a_key,
    "extra key": lambda: with_an_extra_key,
    "wrong dtype": lambda: first_replaced(lambda array: array.astype(np.float64)),
    "negative examples": lambda: figure("n_training_slices", -9),
    "no examples": lambda: figure("n_training_slices", 0),
    "1e12 examples": lambda: figure("n_training_slices", 10**12),
    "duplicate reply": lambda: None,
    "replayed round": replayed_from_the_first_round,
    "update times 1e6": lambda: update_times(1e6),
    "empty": lambda: without_weights,
    "100 times too large": lambda: a_hundred_times_too_large,
    "update times 100": lambda: update_times(100.0),
    "another run": lambda: of_another_run,
    "another cohort": lambda: figure("cohort", 8),
    "twice the declared examples": lambda: figure("n_training_slices", 140),
    "text in a failure": lambda: a_failure_with_text,
}
"""Fourteen that the contract names, and five more of their kind. A duplicate is honest and comes twice."""


def hostile_table() -> list[Verdict]:
    """Every hostile reply in a federation of its own."""
    verdicts = []
    for name in HOSTILE:
        with tempfile.TemporaryDirectory(prefix="hostile-") as folder:
            verdicts.append(tried(Path(folder), name))
    return verdicts


def hostile_as_text(verdicts: list[Verdict]) -> str:
    """A line for each hostile reply, and how many were held off."""
    lines = [f"{'hostile reply':30s} {'code':8s} named  mean of the honest, to the byte"]
    lines += [
        f"{v.name:30s} {v.code:8s} {'yes' if v.named else 'NO':5s}  {'yes' if v.equal else 'NO'}"
        for v in verdicts
    ]
    return "\n".join([*lines, f"{sum(v.held for v in verdicts)} of {len(verdicts)} refused and named"])


def tried(folder: Path, name: str) -> Verdict:
    """Two rounds: the odd site is honest in the first where its fault needs a past, and hostile in the last."""
    federation = trial_federation(quarantine={"refuse_norm": True})
    reshape = HOSTILE[name]()
    sites = {
        site: trial_site(
            shift=shift, n_training_slices=slices, reshape=_in_last_round(reshape) if site == ODD else None
        )
        for site, (shift, slices) in SITES.items()
    }
    grid = RepeatingGrid(sites, twice=ODD) if reshape is None else InProcessGrid(sites)
    run = conduct_trial(folder, grid, federation)
    refused = [event for event in run.events_recorded() if event["event"] == "reply-refused"]
    honest = [site for site in SITES if site != ODD or reshape is None]
    return Verdict(
        name=name,
        code=refused[-1]["code"] if refused else "accepted",
        named={event["site"] for event in refused} == {ODD},
        equal=_bytes_of(run) == _honest_bytes(federation, last=honest),
        status=run.state.status,
    )


def _in_last_round(reshape: Reshape | None) -> Reshape | None:
    if reshape is None:
        return None

    def only_then(content: RecordDict, request: Message) -> RecordDict:
        first = request.content.config_records[messages.REQUEST]["round"] == 1
        if first and reshape.__qualname__.startswith(replayed_from_the_first_round.__name__):
            return reshape(content, request)  # it must have a past to replay
        return content if first else reshape(content, request)

    return only_then


def _honest_bytes(federation: FederationSettings, *, last: list[str]) -> dict[str, bytes]:
    """Two means written out: over every site, then over `last`."""
    _, weights = initial_weights(federation)
    for members in (list(SITES), last):
        moved = [
            (site, float(SITES[site][1]), {n: w + np.float32(SITES[site][0]) for n, w in weights.items()})
            for site in members
        ]
        weights = weighted_mean(moved)
    return {name: array.tobytes() for name, array in weights.items()}


def _bytes_of(run: RunDirectory) -> dict[str, bytes]:
    tensors, _ = load_checkpoint(run.global_model)
    return {name: tensor.numpy().tobytes() for name, tensor in tensors.items()}
