"""A task that ends without an answer is given out again, however it ended. The same with real processes: tests/e2e."""

from __future__ import annotations

import threading
import time
from datetime import timedelta

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Error, Message, RecordDict
from flwr.app.message import make_message
from flwr.app.metadata import Metadata
from flwr.common.constant import SUPERLINK_NODE_ID, ErrorCode, Status, SubStatus
from flwr.proto.runtime_pb2 import AcquireTaskRequest
from flwr.supercore.constant import TaskType
from flwr.supercore.date import now
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_tree,
    no_object_id_recompute,
)
from flwr.supercore.object_store.in_memory_object_store import InMemoryObjectStore
from flwr.supernode.nodestate.in_memory_nodestate import InMemoryNodeState, MessageEntry

from client.flower import node_state
from client.flower.node_state import REPEATS, RetryingNodeState, answer_when_there, keep_message

RUN = 7
NODE = 11

LONG_S = 30.0
"""A wait for a task that no stall of the machine outlasts: what is answered before it was answered by an event."""

SHORT_S = 0.2
EVENT_S = 0.1
"""Until something happens while a task is waited for."""


class Bench:
    """A node that has pulled one message, and a task that has begun to work on it.

    whole: False while the last part of the message is still on its way.
    """

    def __init__(self, state: InMemoryNodeState, *, whole: bool = True) -> None:
        self.state = state
        state.set_node_id(NODE)
        self.asked = make_message(
            Metadata(RUN, "", SUPERLINK_NODE_ID, NODE, "", "1", now().timestamp(), 3600.0, "train"),
            _content(1.0),
        )
        self.asked.metadata.__dict__["_message_id"] = self.asked.object_id
        task_id = state.create_task(task_type=TaskType.CLIENT_APP, run_id=RUN, fab_hash="bundle")
        assert task_id is not None
        self.task_id = task_id
        with no_object_id_recompute():
            state.object_store.preregister(RUN, get_object_tree(self.asked))
            state.store_message(self.asked)
            self.parts = {key: part.deflate() for key, part in get_all_nested_objects(self.asked).items()}
        for key in list(self.parts)[: None if whole else -1]:
            self.come(key)

    def come(self, key: str) -> None:
        """A part of the message has come."""
        self.state.object_store.put(key, self.parts[key])

    def work(self) -> None:
        """What a task does until its app runs."""
        assert self.state.claim_task(self.task_id) is not None
        assert self.state.activate_task(self.task_id)
        (message,) = self.state.get_messages_legacy(run_ids=[RUN], is_reply=False, limit=1)
        assert message.metadata.message_id == self.asked.metadata.message_id
        tree = self.state.object_store.get_object_tree(message.metadata.message_id)
        assert self.state.object_store.get(tree.object_id)

    def answer(self, reply: Message, *, complete: bool = True) -> None:
        """What a task does with its app's reply; not `complete`: it is killed in the middle of it."""
        reply.metadata.__dict__["_message_id"] = reply.object_id
        with no_object_id_recompute():
            session = self.state.start_session(RUN)
            _, missing = self.state.store_message_and_object_tree(reply, get_object_tree(reply), session)
            parts = get_all_nested_objects(reply)
        for key in missing if complete else missing[:1]:
            assert self.state.store_object(RUN, session, key, parts[key].deflate())

    def end(self, sub_status: str = SubStatus.FAILED) -> None:
        assert self.state.finish_task(self.task_id, sub_status, "")

    @property
    def status(self) -> str:
        (task,) = self.state.get_tasks(task_ids=[self.task_id])
        return task.status.status

    def replies(self) -> list[Message]:
        return list(self.state.get_messages_legacy(is_reply=True))


def _content(value: float) -> RecordDict:
    return RecordDict({"model": ArrayRecord({"w": Array(np.full(3, value)), "b": Array(np.full(2, value))})})


@pytest.fixture
def bench() -> Bench:
    return Bench(RetryingNodeState(InMemoryObjectStore(), on_admission=lambda _: None))


def test_a_task_that_ended_without_an_answer_is_given_out_again(bench: Bench) -> None:
    bench.work()
    bench.end()
    assert bench.status == Status.PENDING
    bench.work()
    bench.answer(Message(_content(2.0), reply_to=bench.asked))
    bench.end(SubStatus.COMPLETED)
    assert bench.status == Status.FINISHED
    assert len(bench.replies()) == 1


def test_flowers_own_state_leaves_its_node_waiting() -> None:
    bench = Bench(InMemoryNodeState(InMemoryObjectStore()))
    bench.work()
    bench.end()
    assert bench.status == Status.FINISHED
    assert bench.replies() == []


@pytest.mark.parametrize("had_asked", [True, False])
def test_a_task_without_signs_of_life_is_given_out_again(bench: Bench, had_asked: bool) -> None:
    if had_asked:
        bench.work()
    else:  # killed before it had asked for its message
        assert bench.state.claim_task(bench.task_id) is not None
        assert bench.state.activate_task(bench.task_id)
    bench.state.task_token_store[bench.task_id].active_until = now() - timedelta(seconds=1)
    assert bench.status == Status.PENDING
    assert bench.replies() == []
    bench.work()


def test_a_reply_counts_once_all_of_it_has_arrived(bench: Bench) -> None:
    bench.work()
    bench.answer(Message(_content(2.0), reply_to=bench.asked), complete=False)
    assert bench.replies() == []
    bench.end()
    assert bench.status == Status.PENDING
    bench.work()
    bench.answer(Message(_content(2.0), reply_to=bench.asked))
    (reply,) = bench.replies()
    assert bench.state.object_store.get(reply.metadata.message_id)


def test_an_app_that_raised_has_answered(bench: Bench) -> None:
    bench.work()
    bench.answer(
        Message(Error(code=ErrorCode.CLIENT_APP_RAISED_EXCEPTION, reason="FM-S900"), reply_to=bench.asked)
    )
    bench.end()
    assert bench.status == Status.FINISHED
    (reply,) = bench.replies()
    assert reply.has_error()


def test_after_a_few_repeats_the_sender_gets_an_error(bench: Bench) -> None:
    for _ in range(REPEATS):
        bench.work()
        bench.end()
    bench.work()
    assert bench.replies() == []
    bench.end()
    assert bench.status == Status.FINISHED
    (reply,) = bench.replies()
    assert reply.error.code == ErrorCode.CLIENT_APP_CRASHED
    assert reply.metadata.reply_to_message_id == bench.asked.metadata.message_id


def test_nothing_is_kept_of_a_message_that_was_answered(bench: Bench) -> None:
    bench.work()
    bench.answer(Message(_content(2.0), reply_to=bench.asked))
    bench.end(SubStatus.COMPLETED)
    (reply,) = bench.replies()
    ids = [reply.metadata.message_id, bench.asked.metadata.message_id]
    bench.state.delete_messages(message_ids=ids)  # as the node does once it has sent the reply
    bench.state.object_store.delete(ids[0])
    assert len(bench.state.object_store) == 0
    assert bench.state.msg_store == {}


def test_a_task_of_another_run_is_not_touched(bench: Bench) -> None:
    other = bench.state.create_task(task_type=TaskType.CLIENT_APP, run_id=RUN + 1)
    assert other is not None
    bench.work()
    assert bench.state.claim_task(other) is not None
    assert bench.state.finish_task(other, SubStatus.FAILED, "")
    assert bench.status == Status.RUNNING


def test_the_handler_in_place_of_flowers_has_its_form() -> None:
    from inspect import signature

    from flwr.supernode.servicer.runtime import runtime_handlers

    assert len(signature(runtime_handlers.confirm_message_received).parameters) == 3
    assert len(signature(keep_message).parameters) == 3
    assert list(signature(runtime_handlers.acquire_task).parameters) == ["request", "state"]


def asked_for_a_task(state: RetryingNodeState, *, within_s: float) -> tuple[int, float]:
    """What SuperExec's question gives, 0 for no task, and how long the answer took."""
    from flwr.supernode.servicer.runtime import runtime_handlers

    began = time.monotonic()
    question = AcquireTaskRequest(supported_task_types=[TaskType.CLIENT_APP])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(node_state, "TASK_WAIT_S", within_s)
        answer = answer_when_there(runtime_handlers.acquire_task)(question, state)
    assert bool(answer.token) == answer.HasField("task")
    return answer.task.task_id, time.monotonic() - began


def test_who_asks_for_a_task_waits_for_one_and_gets_it_as_it_comes() -> None:
    state = RetryingNodeState(InMemoryObjectStore(), on_admission=lambda _: None)
    none, seconds = asked_for_a_task(state, within_s=SHORT_S)
    assert none == 0
    assert seconds >= SHORT_S
    came = []
    comes = threading.Timer(EVENT_S, lambda: came.append(Bench(state)))
    comes.start()
    task, seconds = asked_for_a_task(state, within_s=LONG_S)
    comes.join()
    assert task == came[0].task_id
    assert seconds < LONG_S
    again, _ = asked_for_a_task(state, within_s=SHORT_S)
    assert again == 0  # it is given out once


def test_a_task_whose_message_is_still_on_its_way_is_not_given_out() -> None:
    state = RetryingNodeState(InMemoryObjectStore(), on_admission=lambda _: None)
    bench = Bench(state, whole=False)
    assert asked_for_a_task(state, within_s=SHORT_S)[0] == 0
    threading.Timer(EVENT_S, lambda: bench.come(list(bench.parts)[-1])).start()
    assert asked_for_a_task(state, within_s=LONG_S)[0] == bench.task_id


def test_a_task_that_ended_without_an_answer_is_given_to_who_waits(bench: Bench) -> None:
    state = bench.state
    assert isinstance(state, RetryingNodeState)
    bench.work()
    threading.Timer(EVENT_S, bench.end).start()
    assert asked_for_a_task(state, within_s=LONG_S)[0] == bench.task_id


def test_a_reply_that_comes_as_its_task_is_taken_for_dead_stops_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two threads of the node take the same two locks, and both come to their end."""
    bench.work()
    answers = threading.Event()
    unanswered = bench.state._unanswered

    def while_the_reply_comes(run_id: int) -> list[MessageEntry]:
        answers.set()
        time.sleep(0.2)  # the other thread comes to its first lock
        return unanswered(run_id)

    def hand_over() -> None:
        answers.wait()
        bench.answer(Message(_content(2.0), reply_to=bench.asked))

    monkeypatch.setattr(bench.state, "_unanswered", while_the_reply_comes)
    threads = [threading.Thread(target=work, daemon=True) for work in (bench.end, hand_over)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60.0)
    assert not any(thread.is_alive() for thread in threads)
