"""The coordinator alone: how much memory and time a round of many sites costs it, beside Flower's own FedAvg.

The sites are simulated. A reply is made from a file in the moment that it is pulled, so what the process holds is
what the coordinator holds; the time that making it takes is the sites' and is not counted. Each measurement has a
process of its own, which has conducted a small run before: what is imported is not counted either.

Memory is in models: bytes above the level before, over the bytes of the weights.
"""

from __future__ import annotations

import io
import logging
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from flwr.app.message import make_message
from flwr.app.message.arraychunk import ArrayChunk
from flwr.common.constant import FLWR_PRIVATE_MAX_ARRAY_CHUNK_SIZE, SType
from flwr.proto.message_pb2 import PullObjectRequest, PullObjectResponse
from flwr.proto.node_pb2 import Node
from flwr.serverapp.strategy import FedAvg
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects
from flwr.supercore.inflatable.inflatable_protobuf_utils import make_pull_object_fn_protobuf
from flwr.supercore.inflatable.inflatable_utils import push_objects
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from fedminet.faults.endurance import in_own_process, resident_bytes
from fedminet.faults.trial_sites import (
    TRIAL_SITES,
    binding,
    conduct_trial,
    honest_test_reply,
    trial_federation,
    trial_site,
)
from fedminet.in_process_grid import InProcessGrid, server_identity
from minet_core import wire
from minet_core.agreement import agreement_of, initial_weights
from minet_core.federation import FederationSettings, ModelSettings
from minet_core.parcel import save_parcel
from minet_core.stored_arrays import StoredArrays
from minet_core.weights import Arrays
from server.federated_run import run_federation
from server.prompt_grid import put_together
from server.run_directory import RunDirectory
from server.superlink import ALLOCATOR

TEN_MILLION = ModelSettings(n_groups=6, n_blocks=10, n_features=64)
"""10,203,387 parameters, 40.8 MB."""

N_SITES = 100
LIMIT_MODELS = 3.0
RELATIVE_STEP = 1e-3
"""A site's weights are the common ones times 1 + RELATIVE_STEP * u, with u uniform in [0, 1)."""

CHUNK_BYTES = FLWR_PRIVATE_MAX_ARRAY_CHUNK_SIZE
"""How much of an array Flower sends at a time."""

PART_BYTES = 2**18
"""How much of a simulated site's weights is made at a time: what that takes is not the coordinator's."""

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
class Clock:
    """Wall and processor seconds: of an instant, or taken by something."""

    wall: float = 0.0
    processor: float = 0.0

    @classmethod
    def now(cls) -> Clock:
        return cls(time.perf_counter(), time.process_time())

    def __add__(self, other: Clock) -> Clock:
        return Clock(self.wall + other.wall, self.processor + other.processor)

    def __sub__(self, other: Clock) -> Clock:
        return Clock(self.wall - other.wall, self.processor - other.processor)


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
    federation = _federation(n_sites, model=model, rounds=rounds)
    with tempfile.TemporaryDirectory(prefix="coordinator-") as folder:
        parcel = Path(folder) / "parcel.safetensors"
        in_own_process(_write_parcel, parcel, federation)
        ours, transported = (
            in_own_process(
                *(_conduct, Path(folder) / f"run-{transport}", federation, parcel, transport),
                environment=ALLOCATOR,
            )
            for transport in (False, True)
        )
        flower = in_own_process(_flower, n_sites, parcel, environment=ALLOCATOR)
    return Coordinator(n_sites, agreement_of(federation).shared.n_values, ours, transported, flower)


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


class SimulatedSites(InProcessGrid):
    """A grid of sites that do not exist: of a request it keeps what binds a reply to it, and a reply is made when
    it is pulled.

    parcel: the file that every site's weights are made of. transport: messages are taken apart by Flower's own
    functions and put together as the deployment engine's replies are, without the network between. `clock`: spent on
    making replies.
    """

    def __init__(self, names: Iterable[str], parcel: Path, *, transport: bool) -> None:
        names = list(names)
        super().__init__(dict.fromkeys(names, trial_site(shift=0.0, n_training_slices=1)))
        self._parcel = SiteParcel(parcel)
        self._transport = transport
        self._requests: dict[str, Message] = {}
        self._pushed = 0
        self.clock = Clock()

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Let the content go; an id for each."""
        message_ids = []
        for message in messages:
            if self._transport:
                push_objects(get_all_nested_objects(message), lambda _id, _content: None)
            metadata = message.metadata
            # Not by config_records: whoever touched that lives until the cyclic garbage is collected.
            kept = RecordDict({wire.REQUEST: message.content[wire.REQUEST]})
            request = Message(kept, metadata.dst_node_id, metadata.message_type, ttl=metadata.ttl)
            self._pushed += 1
            request.metadata.__dict__["_message_id"] = f"request-{self._pushed}"
            self._requests[request.metadata.message_id] = request
            message_ids.append(request.metadata.message_id)
        return message_ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """The reply to each of these requests that has had none."""
        return [
            self._reply(self._requests.pop(message_id))
            for message_id in message_ids
            if message_id in self._requests
        ]

    def _reply(self, request: Message) -> Message:
        began = Clock.now()
        if request.metadata.message_type != "train":
            return Message(honest_test_reply(request, n_training_slices=_SLICES), reply_to=request)
        seed = (request.metadata.dst_node_id, int(binding(request)["round"]))
        figures = {
            name: 1 if figure.whole else 0.5
            for name, figure in wire.TRAIN_FIGURES.items()
            if figure.whole or figure.required
        }
        metrics = MetricRecord({**figures, **binding(request), "n_training_slices": _SLICES})
        parts = self._parcel.taken_apart(seed) if self._transport else {}
        array = self._parcel.array(None if self._transport else seed)
        message = Message(
            RecordDict({wire.METRICS: metrics, wire.MODEL: ArrayRecord({wire.PARCEL: array})}),
            reply_to=request,
        )
        if not self._transport:
            self.clock += Clock.now() - began
            return message
        heads = _heads_of(message, list(parts))
        metadata, message_id = message.metadata, message.object_id
        del message, array
        self.clock += Clock.now() - began

        def answered(asked: PullObjectRequest) -> PullObjectResponse:
            began = Clock.now()
            part = parts.get(asked.object_id)
            content = heads[asked.object_id] if part is None else self._parcel.chunk(seed, part).deflate()
            body = PullObjectResponse(
                object_found=True, object_available=True, object_content=content
            ).SerializeToString()
            self.clock += Clock.now() - began
            response = PullObjectResponse()
            response.ParseFromString(body)  # as the answer of the SuperLink is read
            return response

        pull = make_pull_object_fn_protobuf(answered, Node(node_id=1), 1)
        arrived = put_together(message_id, pull, most_bytes=2 * self._parcel.n_bytes)
        assert isinstance(arrived, Message)
        return make_message(metadata, arrived.content)


class SiteParcel:
    """A site's weights as they travel, made from a file chunk by chunk: nothing of it stays in memory.

    seed: of the site and the round; the same seed makes the same bytes again.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.n_bytes = path.stat().st_size
        head = io.BytesIO()
        npy_format.write_array_header_1_0(
            head, {"descr": "|u1", "fortran_order": False, "shape": (self.n_bytes,)}
        )
        self._head = head.getvalue()
        with path.open("rb") as stream:
            self._first_weight = 8 + int.from_bytes(stream.read(8), "little")

    def array(self, seed: tuple[int, ...] | None) -> Array:
        """The array of a reply, as it is when its message was received; without its bytes where there is no seed."""
        whole = io.BytesIO()
        if seed is not None:
            whole.seek(len(self._head) + self.n_bytes - 1)
            whole.write(b"\0")  # so that it has its size at once, and does not grow by copies
            whole.seek(0)
            for part in range(self._n_parts(PART_BYTES)):
                whole.write(self._part(seed, part, PART_BYTES))
        return Array("uint8", (self.n_bytes,), SType.NUMPY, whole.getvalue())

    def taken_apart(self, seed: tuple[int, ...]) -> dict[str, int]:
        """The number of each of its chunks as they travel, by id and in their order."""
        return {self.chunk(seed, part).object_id: part for part in range(self._n_parts(CHUNK_BYTES))}

    def chunk(self, seed: tuple[int, ...], part: int) -> ArrayChunk:
        """One chunk, made anew."""
        return ArrayChunk(memoryview(self._part(seed, part, CHUNK_BYTES)))

    def _n_parts(self, n_bytes: int) -> int:
        return 1 + -(-(self.n_bytes - self._first_weight) // n_bytes)

    def _part(self, seed: tuple[int, ...], part: int, n_bytes: int) -> bytes:
        """Part 0 is what stands before the weights; each of the others holds `n_bytes` of them, the last one fewer."""
        with self._path.open("rb") as stream:
            if part == 0:
                return self._head + stream.read(self._first_weight)
            stream.seek(self._first_weight + (part - 1) * n_bytes)
            weights = np.frombuffer(stream.read(n_bytes), np.float32)
        return _moved(weights, np.random.default_rng([*seed, part])).tobytes()


_SLICES = 50


def _heads_of(message: Message, chunks: list[str]) -> dict[str, bytes]:
    """Every object of a message whose one array has these chunks, but the chunks: as it travels, by its id."""
    array = message.content.array_records[wire.MODEL][wire.PARCEL]
    array.__dict__["_chunks"] = [(object_id, ArrayChunk(memoryview(b""))) for object_id in chunks]
    items = (message, message.content, *message.content.values(), array)
    return {item.object_id: item.deflate() for item in items}


class _TimedReplies(Iterator[Message]):
    """Replies in Flower's own form, each made when it is asked for. `clock`: spent on making them."""

    def __init__(self, n_sites: int, arrays: Arrays) -> None:
        self._sites = iter(range(n_sites))
        self._arrays = arrays
        self.clock = Clock()

    def __next__(self) -> Message:
        generator = np.random.default_rng(next(self._sites))
        began = Clock.now()
        record = ArrayRecord({name: Array(_moved(array, generator)) for name, array in self._arrays.items()})
        content = RecordDict({"arrays": record, "metrics": MetricRecord({"num-examples": _SLICES})})
        self.clock += Clock.now() - began
        return Message(content, 1, "train")


def _moved(weights: NDArray[np.float32], generator: np.random.Generator) -> NDArray[np.float32]:
    step = RELATIVE_STEP * generator.random(weights.shape, np.float32)
    return np.asarray(weights * (1 + step), np.float32)


@dataclass
class _Peaks:
    """The most memory above the level at the start, in bytes, by step."""

    baseline: int
    of: dict[str, int] = field(default_factory=dict)
    asked: Clock | None = None
    clock: Clock = Clock()

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


def _federation(n_sites: int, *, model: ModelSettings, rounds: int) -> FederationSettings:
    return trial_federation(
        sites=tuple(f"site-{number:03d}" for number in range(1, n_sites + 1)),
        rounds=rounds,
        model=model.model_dump(),
        participation={"quorum": n_sites, "deadline_s": 3600.0, "retries": 0},
    )


def _write_parcel(path: Path, federation: FederationSettings) -> None:
    save_parcel(path, initial_weights(federation)[1])


def _conduct(folder: Path, federation: FederationSettings, parcel: Path, transport: bool) -> Cost:
    """A run of ours, in this process."""
    small = {name: trial_site(shift=0.25, n_training_slices=_SLICES) for name in TRIAL_SITES}
    conduct_trial(folder / "small", InProcessGrid(small), trial_federation())
    grid = SimulatedSites(federation.sites, parcel, transport=transport)
    run = RunDirectory.create(folder / "run", federation, engine="in-process", keep_checkpoints=1)
    peaks = _Peaks.begin()
    with server_identity():
        run_federation(grid, run, at=peaks.at)
    peaks.step("end")
    n_bytes = agreement_of(federation).shared.n_bytes
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
