"""A Flower grid at which no site can hold up the others: a reply is taken when all of it is there, and never awaited.

Flower's grid takes a reply over as soon as it is announced and waits for its parts: three minutes after the last one
that came, two hours in all. A site whose line breaks in the middle of an upload stops every round that way, past any
deadline. It also believes whatever an array says of itself (one chunk may be named a million times), and holds a reply
three times over while it is put together; here it is held once.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

from flwr.app import Array, Error, Message, Metadata
from flwr.app.message import make_message
from flwr.app.message.arraychunk import ArrayChunk
from flwr.common.constant import SUPERLINK_NODE_ID, ErrorCode
from flwr.common.serde_utils import metadata_from_proto
from flwr.proto.message_pb2 import ConfirmMessageReceivedRequest
from flwr.proto.node_pb2 import NodeInfo
from flwr.proto.runtime_pb2 import PullAppMessagesRequest
from flwr.supercore.constant import SYSTEM_MESSAGE_TYPE
from flwr.supercore.date import now
from flwr.supercore.inflatable.inflatable_object import (
    InflatableObject,
    get_object_body,
    get_object_head_values_from_object_content,
    iterate_object_tree,
)
from flwr.supercore.inflatable.inflatable_protobuf_utils import make_pull_object_fn_protobuf
from flwr.supercore.inflatable.inflatable_utils import (
    ObjectPullError,
    ObjectUnavailableError,
    inflatable_class_registry,
)
from flwr.superlink.grid import HttpGrid

from minet_core.errors import ReplyRefused
from server.flower.flat_messages import FlatMessages

OBJECTS_MARGIN_BYTES = 2**20
"""What a message may need beside its weights: its figures, and the heads of its parts."""

PullObject = Callable[[str], bytes]
"""The bytes of an object by its id. Raises Flower's ObjectUnavailableError for one that is still under way."""


class MessageGrid(Protocol):
    """What of Flower's `Grid` a run needs."""

    def get_nodes(self) -> Iterable[NodeInfo]:
        """Every node of the federation, with its registered name and whether it is online."""
        ...

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Send messages; the id of each."""
        ...

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """The replies that are there to the messages of these ids."""
        ...


def announced(grid: MessageGrid, message_ids: Iterable[str]) -> list[str]:
    """Those of these messages that a reply may be pulled for: with one question for all of them, where that can be
    asked. A round of a hundred sites would ask a hundred at every look, and nearly always for nothing.
    """
    wanted = list(message_ids)
    return grid.announced(wanted) if isinstance(grid, NonBlockingGrid) else wanted


class NonBlockingGrid:
    """A MessageGrid over the deployment engine's grid. max_bytes: what the weights of a reply may have."""

    def __init__(self, grid: HttpGrid, *, max_bytes: int) -> None:
        self._grid = grid
        self._max_bytes = max_bytes + OBJECTS_MARGIN_BYTES
        self._arriving: list[_Arriving] = []
        self._flat = FlatMessages()

    def get_nodes(self) -> Iterable[NodeInfo]:
        """As the grid has them."""
        return self._grid.get_nodes()

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Send messages. What was still arriving from a node that is asked anew is forgotten."""
        messages = list(messages)
        asked = {message.metadata.dst_node_id for message in messages}
        self._arriving = [reply for reply in self._arriving if reply.metadata.src_node_id not in asked]
        leaving = self._flat.requests(messages)
        message_ids = list(self._grid.push_messages(leaving))
        self._flat.note_sent(leaving, message_ids)
        return message_ids

    def announced(self, message_ids: Iterable[str]) -> list[str]:
        """Those of these messages whose reply is announced; its parts may be under way."""
        wanted = list(message_ids)
        self._take_announced(set(wanted))
        known = {reply.metadata.reply_to_message_id for reply in self._arriving}
        return [message_id for message_id in wanted if message_id in known]

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """The replies that have arrived as a whole; one whose parts were lost is answered for by an error.

        Raises ReplyRefused (FM-F401) and what else a reply does to the code that puts it together; it is gone then.
        """
        wanted = set(message_ids)
        self._take_announced(wanted)
        for reply in [reply for reply in self._arriving if reply.metadata.reply_to_message_id in wanted]:
            try:
                message = self._flat.reply(self._whole(reply)) or _lost(reply.metadata)
            except ObjectUnavailableError:
                continue
            except ObjectPullError:
                message = _lost(reply.metadata)
            except Exception:  # whatever a site's bytes do to the code that puts them together
                self._acknowledge(reply)
                raise
            self._acknowledge(reply)
            return [message]
        return []

    def _take_announced(self, message_ids: set[str]) -> None:
        known = {reply.metadata.reply_to_message_id for reply in self._arriving}
        if message_ids - known:
            self._arriving += self._announced(message_ids - known)

    def _announced(self, message_ids: set[str]) -> list[_Arriving]:
        response = self._grid._runtime_client.PullMessages(
            PullAppMessagesRequest(message_ids=sorted(message_ids))
        )
        return [
            _Arriving(
                metadata_from_proto(message.metadata),
                frozenset(part.object_id for part in iterate_object_tree(tree)),
            )
            for message, tree in zip(response.messages_list, response.message_object_trees, strict=True)
        ]

    def _whole(self, reply: _Arriving) -> Message:
        pulled = make_pull_object_fn_protobuf(
            self._grid._runtime_client.PullObject, self._grid.node, self._run_id
        )
        return reply.put_together(pulled, max_bytes=self._max_bytes)

    def _acknowledge(self, reply: _Arriving) -> None:
        """Neither this grid nor the SuperLink keeps it any longer."""
        self._arriving.remove(reply)
        self._grid._runtime_client.ConfirmMessageReceived(
            ConfirmMessageReceivedRequest(
                node=self._grid.node, run_id=self._run_id, message_object_id=reply.metadata.message_id
            )
        )

    @property
    def _run_id(self) -> int:
        return self._grid.run.run_id


def as_nonblocking(grid: MessageGrid, *, max_bytes: int) -> MessageGrid:
    """The deployment engine's grid as a NonBlockingGrid; that of a simulation, which waits for nothing, as it is."""
    return NonBlockingGrid(grid, max_bytes=max_bytes) if isinstance(grid, HttpGrid) else grid


@dataclass
class _Arriving:
    """A reply that was announced. parts: the ids of its objects. seen: of those that are known to be there.

    metadata: as announced, which the SuperLink has checked; what stands in the reply itself it has not.
    """

    metadata: Metadata
    parts: frozenset[str]
    seen: set[str] = field(default_factory=set)

    def put_together(self, pull: PullObject, *, max_bytes: int) -> Message:
        """The message. Raises ObjectUnavailableError while parts are under way, and then held none of it."""

        def seen(object_id: str) -> bytes:
            if object_id not in self.parts:
                raise ReplyRefused("a reply names a part that it does not have")
            content = pull(object_id)
            self.seen.add(object_id)
            return content

        if self.seen:  # an earlier try found a part missing: what came meanwhile is looked for first
            for object_id in sorted(self.parts - self.seen):
                seen(object_id)
        message = put_together(self.metadata.message_id, seen, max_bytes=max_bytes)
        if not isinstance(message, Message):
            raise ReplyRefused("a reply is no message")
        if message.has_error():
            return make_message(self.metadata, error=message.error)
        return make_message(self.metadata, message.content)


def put_together(object_id: str, pull: PullObject, *, max_bytes: int) -> InflatableObject:
    """An object and all that it consists of, each part pulled when it is needed and held once.

    Raises ReplyRefused (FM-F401) for one that comes to more than `max_bytes`, and what `pull` raises.
    """
    return _Assembly(pull, max_bytes).made(object_id)


class _Assembly:
    """What was put together so far. No closures: one that calls itself would hold all of it until it is collected."""

    def __init__(self, pull: PullObject, max_bytes: int) -> None:
        self._pull, self._max_bytes, self._n_bytes = pull, max_bytes, 0
        self._done: dict[str, InflatableObject] = {}

    def made(self, object_id: str) -> InflatableObject:
        if object_id not in self._done:
            content = self._pulled(object_id)
            kind, children, _ = get_object_head_values_from_object_content(content)
            if kind == Array.__qualname__:
                made: InflatableObject = _array(content, children, self._pulled)
            else:
                parts = {child: self.made(child) for child in children}
                made = inflatable_class_registry[kind].inflate(content, children=parts)
            self._done[object_id] = made
        return self._done[object_id]

    def _pulled(self, object_id: str) -> bytes:
        content = self._pull(object_id)
        self._n_bytes += len(content)
        if self._n_bytes > self._max_bytes:
            raise ReplyRefused(
                "a reply is far larger than the weights", expected=f"{self._max_bytes} bytes at most"
            )
        return content


def _array(content: bytes, children: list[str], pull: PullObject) -> Array:
    """An array from its chunks, one after the other into the bytes that it will have."""
    facts = json.loads(get_object_body(content, Array))
    data = io.BytesIO()
    for index in facts["arraychunk_ids"]:
        data.write(get_object_body(pull(children[index]), ArrayChunk))
    return Array(facts["dtype"], tuple(facts["shape"]), facts["stype"], data.getvalue())


def _lost(reply: Metadata) -> Message:
    """What Flower's grid answers for a reply whose parts will not come."""
    metadata = Metadata(
        run_id=reply.run_id,
        message_id="",
        src_node_id=SUPERLINK_NODE_ID,
        dst_node_id=SUPERLINK_NODE_ID,
        message_type=SYSTEM_MESSAGE_TYPE,
        group_id="",
        ttl=0,
        reply_to_message_id=reply.reply_to_message_id,
        created_at=now().timestamp(),
    )
    return make_message(metadata, error=Error(ErrorCode.MESSAGE_UNAVAILABLE, "parts of the reply were lost"))
