"""Sites that do not exist, for a trial of the coordinator alone: a reply is made when it is pulled."""

from __future__ import annotations

import io
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from flwr.app.message import make_message
from flwr.app.message.arraychunk import ArrayChunk
from flwr.common.constant import FLWR_PRIVATE_MAX_ARRAY_CHUNK_SIZE, SType
from flwr.proto.message_pb2 import PullObjectRequest, PullObjectResponse
from flwr.proto.node_pb2 import Node
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects
from flwr.supercore.inflatable.inflatable_protobuf_utils import make_pull_object_fn_protobuf
from flwr.supercore.inflatable.inflatable_utils import push_objects
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from fedminet.simulation.in_process_grid import InProcessGrid
from minet_core.protocol import messages as wire
from server.flower.nonblocking_grid import put_together
from tests.faults.trial_sites import binding, honest_test_reply, trial_site

RELATIVE_STEP = 1e-3
"""A site's weights are the common ones times 1 + RELATIVE_STEP * u, with u uniform in [0, 1)."""

CHUNK_BYTES = FLWR_PRIVATE_MAX_ARRAY_CHUNK_SIZE
"""How much of an array Flower sends at a time."""

PART_BYTES = 2**18
"""How much of a simulated site's weights is made at a time: what that takes is not the coordinator's."""

N_SLICES = 50
"""Training slices of each."""


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
            return Message(honest_test_reply(request, n_training_slices=N_SLICES), reply_to=request)
        seed = (request.metadata.dst_node_id, int(binding(request)["round"]))
        figures = {
            name: 1 if figure.whole else 0.5
            for name, figure in wire.TRAIN_FIGURES.items()
            if figure.whole or figure.required
        }
        metrics = MetricRecord({**figures, **binding(request), "n_training_slices": N_SLICES})
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
        arrived = put_together(message_id, pull, max_bytes=2 * self._parcel.n_bytes)
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
        return moved(weights, np.random.default_rng([*seed, part])).tobytes()


def _heads_of(message: Message, chunks: list[str]) -> dict[str, bytes]:
    """Every object of a message whose one array has these chunks, but the chunks: as it travels, by its id."""
    array = message.content.array_records[wire.MODEL][wire.PARCEL]
    array.__dict__["_chunks"] = [(object_id, ArrayChunk(memoryview(b""))) for object_id in chunks]
    items = (message, message.content, *message.content.values(), array)
    return {item.object_id: item.deflate() for item in items}


def moved(weights: NDArray[np.float32], generator: np.random.Generator) -> NDArray[np.float32]:
    """The weights of a site that has trained a little."""
    step = RELATIVE_STEP * generator.random(weights.shape, np.float32)
    return np.asarray(weights * (1 + step), np.float32)
