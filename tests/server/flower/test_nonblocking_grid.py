"""A reply is taken when all of it is there; what is half there, lost, too large or falsely labelled holds nobody up."""

from __future__ import annotations

import gc
import json
import time
import weakref
from collections.abc import Callable

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.app.message import remove_content_from_message
from flwr.app.message.arraychunk import ArrayChunk
from flwr.common.constant import ErrorCode
from flwr.common.serde import message_to_proto
from flwr.proto.message_pb2 import ConfirmMessageReceivedRequest, PullObjectRequest, PullObjectResponse
from flwr.proto.node_pb2 import Node
from flwr.proto.runtime_pb2 import PullAppMessagesRequest, PullAppMessagesResponse
from flwr.supercore.inflatable.inflatable_object import (
    add_header_to_object_body,
    get_all_nested_objects,
    get_object_id,
    get_object_tree,
)
from flwr.supercore.run import Run

from fedminet.simulation.in_process_grid import RUN_ID, node_id_of, server_identity
from minet_core.errors import ReplyRefused
from minet_core.protocol.flat_form import FLAT
from minet_core.protocol.messages import FAILURE, MODEL, REQUEST
from server.flower.held_answers import APPLICATION_ASKS, HOLD_S
from server.flower.nonblocking_grid import OBJECTS_MARGIN_BYTES, NonBlockingGrid, announced, put_together
from server.rounds.exchange import MIN_POLL_S, POLL_INTERVAL_S, _pause_after, request

MAX_BYTES = 100_000


class SuperLink:
    """The runtime calls of a SuperLink that a grid makes; a part is there when it is in `parts`."""

    def __init__(self) -> None:
        self.replies: dict[str, tuple[object, object]] = {}
        self.parts: dict[str, bytes] = {}
        self.known: set[str] = set()
        self.confirmed: list[str] = []
        self.pulled: list[str] = []
        self.questions = 0

    def announce(self, request_id: str, reply: Message) -> dict[str, bytes]:
        """Announce a reply, as a SuperNode does before it sends the parts; returns them."""
        objects = {part: item.deflate() for part, item in get_all_nested_objects(reply).items()}
        reply.metadata.__dict__["_message_id"] = reply.object_id
        tree = get_object_tree(reply)
        self.replies[request_id] = (message_to_proto(remove_content_from_message(reply)), tree)
        self.known |= set(objects)
        return objects

    def PullMessages(self, request: PullAppMessagesRequest) -> PullAppMessagesResponse:  # noqa: N802
        """A reply is given out once, as by Flower."""
        self.questions += 1
        found = [self.replies.pop(one) for one in request.message_ids if one in self.replies]
        return PullAppMessagesResponse(
            messages_list=[message for message, _ in found], message_object_trees=[tree for _, tree in found]
        )

    def PullObject(self, request: PullObjectRequest) -> PullObjectResponse:  # noqa: N802
        self.pulled.append(request.object_id)
        content = self.parts.get(request.object_id, b"")
        return PullObjectResponse(
            object_found=request.object_id in self.known,
            object_available=bool(content),
            object_content=content,
        )

    def ConfirmMessageReceived(self, request: ConfirmMessageReceivedRequest) -> None:  # noqa: N802
        self.confirmed.append(request.message_object_id)


class FlowerGrid:
    """What of Flower's HttpGrid is used, over that SuperLink."""

    def __init__(self) -> None:
        self._runtime_client = SuperLink()
        self.node = Node(node_id=1)
        self.run = Run.create_empty(RUN_ID)
        self.pushed: list[Message] = []

    def push_messages(self, messages: list[Message]) -> list[str]:
        self.pushed += messages
        return [message.object_id for message in messages]


def asked(site: str) -> Message:
    with server_identity():
        message = Message(RecordDict(), node_id_of(site), "train")
    message.metadata.__dict__["_message_id"] = f"request-{site}"
    return message


def answer(site: str, array: np.ndarray) -> Message:
    return Message(RecordDict({"weights": ArrayRecord({"all": Array(array)})}), reply_to=asked(site))


@pytest.fixture
def flower() -> FlowerGrid:
    return FlowerGrid()


@pytest.fixture
def superlink(flower: FlowerGrid) -> SuperLink:
    return flower._runtime_client


@pytest.fixture
def grid(flower: FlowerGrid) -> NonBlockingGrid:
    return NonBlockingGrid(flower, max_bytes=MAX_BYTES)  # type: ignore[arg-type]


def test_a_site_that_refuses_a_flat_request_is_asked_again_in_the_other_form(
    grid: NonBlockingGrid, flower: FlowerGrid, superlink: SuperLink
) -> None:
    """Its refusal comes as a lost message, which an exchange asks for again."""
    weights = {"conv": np.zeros(3, np.float32)}
    content = request(weights, round_number=1, run="first", digest="d" * 64)
    with server_identity():
        requests = [Message(content, node_id_of("sms"), "train") for _ in range(2)]
    (message_id,) = grid.push_messages(requests[:1])
    first = asked("sms")
    first.metadata.__dict__["_message_id"] = message_id
    refusal = Message(RecordDict({FAILURE: ConfigRecord({"code": "FM-F401"})}), reply_to=first)
    superlink.parts |= superlink.announce(message_id, refusal)
    (reply,) = grid.pull_messages([message_id])
    assert reply.error.code == ErrorCode.MESSAGE_UNAVAILABLE
    assert reply.metadata.reply_to_message_id == message_id
    assert superlink.confirmed == [refusal.metadata.message_id]
    grid.push_messages(requests[1:])
    assert [set(one.content) for one in flower.pushed] == [{FLAT}, {MODEL, REQUEST}]


@pytest.mark.parametrize("n_values", [10, 4_000_000])
def test_a_whole_reply_comes_as_it_was_sent(flower: FlowerGrid, superlink: SuperLink, n_values: int) -> None:
    grid = NonBlockingGrid(flower, max_bytes=2**25)  # type: ignore[arg-type]
    sent = np.arange(n_values, dtype=np.float32)
    superlink.parts = superlink.announce("request-sms", answer("sms", sent))
    (reply,) = grid.pull_messages(["request-sms"])
    np.testing.assert_array_equal(reply.content.array_records["weights"]["all"].numpy(), sent)
    assert reply.metadata.src_node_id == node_id_of("sms")
    assert reply.metadata.reply_to_message_id == "request-sms"
    assert superlink.confirmed == [reply.metadata.message_id]
    assert len(superlink.pulled) == len(set(superlink.pulled)) >= 5  # each part once
    assert list(grid.pull_messages(["request-sms"])) == []


def test_a_reply_whose_parts_are_under_way_holds_nobody_up(
    grid: NonBlockingGrid, superlink: SuperLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        time, "sleep", lambda _: pytest.fail("Flower's own grid sleeps before it looks again")
    )
    slow = superlink.announce("request-umr", answer("umr", np.ones(100, np.float32)))
    whole = superlink.announce("request-sms", answer("sms", np.zeros(100, np.float32)))
    superlink.parts = dict(whole)
    assert [reply.metadata.src_node_id for reply in grid.pull_messages(["request-umr", "request-sms"])] == [
        node_id_of("sms")
    ]
    for part, content in slow.items():  # one part after the other arrives
        assert list(grid.pull_messages(["request-umr"])) == []
        superlink.parts[part] = content
    (reply,) = grid.pull_messages(["request-umr"])
    assert reply.content.array_records["weights"]["all"].numpy().sum() == 100


def test_one_question_tells_of_all_sites_whether_they_have_answered(
    grid: NonBlockingGrid, superlink: SuperLink
) -> None:
    everybody = [*(f"request-{number}" for number in range(99)), "request-sms"]
    assert announced(grid, everybody) == []
    assert superlink.questions == 1
    superlink.parts |= superlink.announce("request-sms", answer("sms", np.ones(3, np.float32)))
    assert announced(grid, everybody) == ["request-sms"]
    assert superlink.questions == 2
    assert len(list(grid.pull_messages(["request-sms"]))) == 1
    assert superlink.questions == 2  # it was known already
    assert announced(grid, []) == []
    assert superlink.questions == 2


def test_a_grid_that_waits_for_nothing_is_asked_message_by_message() -> None:
    assert announced(FlowerGrid(), iter(["a", "b"])) == ["a", "b"]  # type: ignore[arg-type]


def test_a_part_that_is_missing_is_asked_for_alone_and_nothing_is_pulled_again_and_again(
    grid: NonBlockingGrid, superlink: SuperLink
) -> None:
    parts = superlink.announce("request-umr", answer("umr", np.ones(100, np.float32)))
    missing = list(parts)[-1]
    superlink.parts = {part: content for part, content in parts.items() if part != missing}
    for _ in range(20):
        assert list(grid.pull_messages(["request-umr"])) == []
    assert all(superlink.pulled.count(part) <= 2 for part in parts if part != missing)
    assert superlink.pulled.count(missing) >= 19


def test_a_reply_whose_parts_were_lost_is_answered_for_by_an_error(
    grid: NonBlockingGrid, superlink: SuperLink
) -> None:
    superlink.announce("request-umr", answer("umr", np.ones(100, np.float32)))
    assert list(grid.pull_messages(["request-umr"])) == []
    superlink.known.clear()  # Flower gives an upload up three minutes after its last part
    (reply,) = grid.pull_messages(["request-umr"])
    assert reply.has_error()
    assert reply.error.code == ErrorCode.MESSAGE_UNAVAILABLE
    assert reply.metadata.reply_to_message_id == "request-umr"


def test_what_was_arriving_from_a_node_is_forgotten_when_it_is_asked_anew(
    grid: NonBlockingGrid, superlink: SuperLink
) -> None:
    superlink.announce("request-umr", answer("umr", np.ones(100, np.float32)))
    superlink.announce("request-sms", answer("sms", np.ones(100, np.float32)))
    assert list(grid.pull_messages(["request-umr", "request-sms"])) == []
    grid.push_messages([asked("umr")])
    assert [reply.metadata.src_node_id for reply in grid._arriving] == [node_id_of("sms")]


def test_a_reply_counts_for_whom_the_superlink_announced_and_not_for_whom_it_names(
    grid: NonBlockingGrid, superlink: SuperLink
) -> None:
    """The announcement was checked against the key; the parts are whatever the site wrote."""
    true, false = answer("umr", np.ones(3, np.float32)), answer("sms", np.ones(3, np.float32))
    parts = superlink.announce("request-umr", false)
    announced, _ = superlink.replies["request-umr"]
    announced.metadata.src_node_id = true.metadata.src_node_id  # type: ignore[attr-defined]
    announced.metadata.reply_to_message_id = "request-umr"  # type: ignore[attr-defined]
    superlink.parts = parts
    (reply,) = grid.pull_messages(["request-umr"])
    assert reply.metadata.src_node_id == node_id_of("umr")
    assert reply.metadata.reply_to_message_id == "request-umr"


def test_more_bytes_than_the_weights_have_are_refused_before_they_are_all_here(
    grid: NonBlockingGrid, superlink: SuperLink
) -> None:
    n_bytes = MAX_BYTES + OBJECTS_MARGIN_BYTES
    superlink.parts = superlink.announce("request-umr", answer("umr", np.zeros(2 * n_bytes, np.uint8)))
    with pytest.raises(ReplyRefused, match="far larger"):
        grid.pull_messages(["request-umr"])
    assert len(superlink.confirmed) == 1  # and the SuperLink lets go of it
    assert list(grid.pull_messages(["request-umr"])) == []


def chunks_named(n_times: int) -> tuple[str, dict[str, bytes]]:
    """An array of one chunk of 50 kB that its own page names `n_times`."""
    chunk = ArrayChunk(memoryview(bytes(50_000)))
    array = Array("uint8", (50_000 * n_times,), "numpy.ndarray", b"")
    array.__dict__["_chunks"] = [(chunk.object_id, chunk)]
    page = json.loads(array.deflate().split(b"\x00", 1)[1])
    page["arraychunk_ids"] = [0] * n_times
    content = add_header_to_object_body(json.dumps(page).encode(), array)
    return get_object_id(content), {get_object_id(content): content, chunk.object_id: chunk.deflate()}


def test_a_small_reply_that_unfolds_into_a_large_one_is_refused() -> None:
    root, parts = chunks_named(2)
    assert len(put_together(root, parts.__getitem__, max_bytes=200_000).data) == 100_000  # type: ignore[attr-defined]
    root, parts = chunks_named(1_000)
    with pytest.raises(ReplyRefused, match="far larger"):
        put_together(root, parts.__getitem__, max_bytes=200_000)


def test_a_reply_that_names_a_part_of_another_is_refused(grid: NonBlockingGrid, superlink: SuperLink) -> None:
    parts = superlink.announce("request-umr", answer("umr", np.ones(100, np.float32)))
    _, tree = superlink.replies["request-umr"]
    del tree.children[:]  # type: ignore[attr-defined]
    superlink.parts = parts
    with pytest.raises(ReplyRefused, match="part that it does not have"):
        grid.pull_messages(["request-umr"])


def test_what_was_put_together_is_let_go_without_waiting_for_the_garbage_collector() -> None:
    reply = answer("umr", np.ones(100, np.float32))
    parts = {part: item.deflate() for part, item in get_all_nested_objects(reply).items()}
    array = next(item for item in get_all_nested_objects(reply).values() if isinstance(item, Array))
    gc.collect()
    gc.disable()
    try:
        made = put_together(array.object_id, parts.__getitem__, max_bytes=MAX_BYTES)
        gone: Callable[[], object] = weakref.ref(made)
        del made
        assert gone() is None
    finally:
        gc.enable()


def test_a_young_round_is_asked_often_and_a_long_one_seldom() -> None:
    pauses = [_pause_after(seconds, look_s=0.001) for seconds in (0.0, 1.0, 4.0, 9.0, 120.0)]
    assert pauses[:2] == [MIN_POLL_S, MIN_POLL_S]
    assert pauses[2] == pytest.approx(0.1)
    assert pauses[3:] == [pytest.approx(0.225), POLL_INTERVAL_S]


def test_a_superlink_that_answers_slowly_is_asked_less() -> None:
    assert _pause_after(1.0, look_s=0.04) == pytest.approx(0.16)
    assert _pause_after(1.0, look_s=5.0) == POLL_INTERVAL_S


def test_after_a_look_that_was_held_the_next_one_follows_at_once() -> None:
    held = HOLD_S[APPLICATION_ASKS]
    assert [_pause_after(100.0, look_s=seconds) for seconds in (held, held + 0.3)] == [MIN_POLL_S, MIN_POLL_S]
