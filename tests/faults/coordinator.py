"""The coordinator alone: how much memory and time a round of many sites costs it, beside Flower's own FedAvg.

The sites are simulated. A reply is made from a file in the moment that it is pulled, so what the process holds is
what the coordinator holds; the time that making it takes is the sites' and is not counted. Each measurement has a
process of its own, which has conducted a small run before: what is imported is not counted either.

Memory is in models: bytes above the level before, over the bytes of the weights.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import FedAvg

from fedminet.simulation.in_process_grid import InProcessGrid, server_identity
from minet_core.protocol.exchange_plan import exchange_plan_of, initial_weights
from minet_core.settings.federation import FederationSettings, ModelSettings
from minet_core.weights.lazy_arrays import StoredArrays
from minet_core.weights.manifest import Arrays
from minet_core.weights.payload import save_parcel
from server.processes.server_processes import ALLOCATOR
from server.rounds.run import run_federation
from server.runs.run_directory import RunDirectory
from tests.faults.endurance import in_own_process
from tests.faults.resident_memory import resident_bytes
from tests.faults.simulated_sites import N_SLICES, Clock, SimulatedSites, moved
from tests.faults.trial_sites import TRIAL_SITES, conduct_trial, trial_federation, trial_site

TEN_MILLION = ModelSettings(n_groups=6, n_blocks=10, n_features=64)
"""10,203,387 parameters, 40.8 MB."""

N_SITES = 100
LIMIT_MODELS = 3.0
CLEAR_REFS = Path("/proc/self/clear_refs")
RESET_PEAK = "5"
"""What resets VmHWM; see proc_pid_clear_refs(5)."""

STEPS = {
    "asked": "begin",
    "sent": "requests",
    "all sent": "requests",
    "received": "replies",
    "aggregated": "mean",
    "saved": "checkpoint",
}
"""By the moment of a run that ends it: the step whose peak is measured."""


@dataclass(frozen=True)
class Cost:
    """What one way of aggregating took, without the sites' part.

    seconds, processor_seconds: a round; wall time holds the disk's answer to every fsync. peak_models: by step, the
    most in any round.
    """

    seconds: float
    processor_seconds: float
    peak_models: dict[str, float]

    @property
    def most(self) -> float:
        return max(self.peak_models.values())


@dataclass(frozen=True)
class Coordinator:
    """The costs of a round over `n_sites` sites.

    ours: replies are handed over as Flower's grid does, a message with the weights' bytes. transported: the same run
    with the deployment engine's sending and receiving in it, but for the network. flower: FedAvg's aggregation alone,
    without sending, receiving or keeping anything.
    """

    n_sites: int
    n_parameters: int
    ours: Cost
    transported: Cost
    flower: Cost

    @property
    def held(self) -> bool:
        return max(self.ours.most, self.transported.most) < LIMIT_MODELS


def coordinator(
    n_sites: int = N_SITES, *, model: ModelSettings = TEN_MILLION, rounds: int = 2
) -> Coordinator:
    """Measure the three, one after the other. Raises HostError (FM-S500) where /proc has no figures."""
    federation = federation_of_sites(n_sites, model=model, rounds=rounds)
    with tempfile.TemporaryDirectory(prefix="coordinator-") as folder:
        parcel = Path(folder) / "parcel.safetensors"
        in_own_process(write_parcel, parcel, federation)
        ours, transported = (
            in_own_process(
                *(conduct, Path(folder) / f"run-{transport}", federation, parcel, transport),
                environment=ALLOCATOR,
            )
            for transport in (False, True)
        )
        flower = in_own_process(_flower, n_sites, parcel, environment=ALLOCATOR)
    return Coordinator(n_sites, exchange_plan_of(federation).shared.n_values, ours, transported, flower)


def coordinator_as_text(result: Coordinator) -> str:
    """The table of a result."""
    megabytes = 4 * result.n_parameters / 1e6
    lines = [
        f"{result.n_sites} sites, {result.n_parameters:,} parameters ({megabytes:.1f} MB); memory above the level "
        "before, in models",
        f"{'':<34} {'s a round':>10} {'processor':>10} {'peak':>7}  by step",
    ]
    for name, cost in (
        ("fedminet, replies handed over", result.ours),
        ("fedminet, Flower's transport in it", result.transported),
        ("Flower's FedAvg, aggregation alone", result.flower),
    ):
        steps = ", ".join(f"{step} {models:.2f}" for step, models in cost.peak_models.items())
        lines.append(
            f"{name:<34} {cost.seconds:>10.1f} {cost.processor_seconds:>10.1f} {cost.most:>7.2f}  {steps}"
        )
    return "\n".join([*lines, f"below {LIMIT_MODELS:g} models holds: {'yes' if result.held else 'no'}"])


class _TimedReplies(Iterator[Message]):
    """Replies in Flower's own form, each made when it is asked for. `clock`: spent on making them."""

    def __init__(self, n_sites: int, arrays: Arrays) -> None:
        self._sites = iter(range(n_sites))
        self._arrays = arrays
        self.clock = Clock()

    def __next__(self) -> Message:
        generator = np.random.default_rng(next(self._sites))
        began = Clock.now()
        record = ArrayRecord({name: Array(moved(array, generator)) for name, array in self._arrays.items()})
        content = RecordDict({"arrays": record, "metrics": MetricRecord({"num-examples": N_SLICES})})
        self.clock += Clock.now() - began
        return Message(content, 1, "train")


@dataclass
class _Peaks:
    """The most memory above the level at the start, in bytes, by step."""

    baseline: int
    of: dict[str, int] = field(default_factory=dict)
    asked: Clock | None = None
    clock: Clock = field(default_factory=Clock)

    @classmethod
    def begin(cls) -> _Peaks:
        CLEAR_REFS.write_text(RESET_PEAK, encoding="ascii")
        return cls(resident_bytes())

    def at(self, moment: str) -> None:
        self.step(STEPS[moment])
        if moment == "asked":
            self.asked = Clock.now()
        if moment == "saved" and self.asked is not None:
            self.clock += Clock.now() - self.asked

    def step(self, name: str) -> None:
        """What was held since the last step was the step `name`."""
        peak = resident_bytes("VmHWM") - self.baseline
        self.of[name] = max(self.of.get(name, 0), peak)
        CLEAR_REFS.write_text(RESET_PEAK, encoding="ascii")

    def in_models(self, n_bytes: int) -> dict[str, float]:
        return {step: peak / n_bytes for step, peak in self.of.items()}


def federation_of_sites(n_sites: int, *, model: ModelSettings, rounds: int) -> FederationSettings:
    return trial_federation(
        sites=tuple(f"site-{number:03d}" for number in range(1, n_sites + 1)),
        rounds=rounds,
        model=model.model_dump(),
        participation={"quorum": n_sites, "deadline_s": 3600.0, "retries": 0},
    )


def write_parcel(path: Path, federation: FederationSettings) -> None:
    save_parcel(path, initial_weights(federation)[1])


def conduct(folder: Path, federation: FederationSettings, parcel: Path, transport: bool) -> Cost:
    """A run of ours, in this process."""
    small = {name: trial_site(shift=0.25, n_training_slices=N_SLICES) for name in TRIAL_SITES}
    conduct_trial(folder / "small", InProcessGrid(small), trial_federation())
    grid = SimulatedSites(federation.sites, parcel, transport=transport)
    run = RunDirectory.create(folder / "run", federation, engine="in-process", keep_checkpoints=1)
    peaks = _Peaks.begin()
    with server_identity():
        run_federation(grid, run, observer=peaks.at)
    peaks.step("end")
    n_bytes = exchange_plan_of(federation).shared.n_bytes
    taken = peaks.clock - grid.clock
    return Cost(taken.wall / federation.rounds, taken.processor / federation.rounds, peaks.in_models(n_bytes))


def _flower(n_sites: int, parcel: Path) -> Cost:
    """Flower's own aggregation of as many replies of as many weights, in this process."""
    logging.getLogger("flwr").setLevel(logging.ERROR)
    with server_identity():
        FedAvg().aggregate_train(1, _TimedReplies(2, {"weight": np.ones((4, 4), np.float32)}))
        arrays = StoredArrays(parcel)
        replies = _TimedReplies(n_sites, arrays)
        peaks = _Peaks.begin()
        began = Clock.now()
        averaged, _ = FedAvg().aggregate_train(1, replies)
        taken = Clock.now() - began - replies.clock
        peaks.step("replies and mean")
    assert averaged is not None
    return Cost(taken.wall, taken.processor, peaks.in_models(arrays.manifest().n_bytes))
