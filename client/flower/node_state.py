"""What a site's node knows of its tasks: Flower's own state, made to survive the death of a task's process.

A node handles one message at a time: it gives it out as a task and waits for the reply. Flower 1.42 answers for a
task whose process was killed with an error, 60 s after its last sign of life, and waits for ever where the process
- ended without an answer and said so (after SIGTERM, or when its parent was gone),
- was killed before it had asked for its message, or
- was killed in the middle of handing over its reply.

Here every such task is given out again, from the start and a few times, and then answered with Flower's error. For
this the message is kept until it is answered, and a reply counts once all of it has arrived.

Whoever asks for a task gets it the moment that its message is there as a whole: the node's answer waits for it
(`answer_when_there`), so that nobody has to ask ten times a second.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from flwr.app import Message
from flwr.common.constant import Status
from flwr.proto.message_pb2 import ConfirmMessageReceivedRequest, ConfirmMessageReceivedResponse
from flwr.proto.runtime_pb2 import AcquireTaskRequest, AcquireTaskResponse
from flwr.proto.task_pb2 import Task, TaskStatus
from flwr.supercore.constant import TaskType
from flwr.supercore.inflatable.inflatable_object import iterate_object_tree
from flwr.supercore.object_store import NoObjectInStoreError, ObjectStore, ObjectStoreFactory
from flwr.supernode.nodestate import NodeStateFactory
from flwr.supernode.nodestate.in_memory_nodestate import (
    CLIENT_APP_CRASHED_ERROR,
    InMemoryNodeState,
    MessageEntry,
)
from flwr.supernode.nodestate.nodestate import NodeState

REPEATS = 3
"""How often a message is given out again before its sender gets an error."""

TASK_WAIT_S = 1.0
"""How long an answer to who asks for a task waits for one. A node that ends waits for its last answer."""

PARTS_LOOK_S = 0.02
"""Between two looks, into this process's own memory, whether all parts of a message are there."""


class RetryingNodeState(InMemoryNodeState):
    """Flower's state of a node in memory, which gives a task out again that ended without an answer."""

    def __init__(self, object_store: ObjectStore, *, on_admission: Callable[[int], None]) -> None:
        """on_admission: is given the number of the node, once the server has let it in."""
        super().__init__(object_store)
        self._on_admission = on_admission
        self._repeats: Counter[str] = Counter()
        self._task_came = threading.Event()

    def set_node_id(self, node_id: int | None) -> None:
        """Set the number of the node."""
        super().set_node_id(node_id)
        if node_id is not None:
            self._on_admission(node_id)

    def create_task(self, task_type: str, run_id: int, *args: Any, **options: Any) -> int | None:
        """Make a task, and tell who waits for one."""
        task_id = super().create_task(task_type, run_id, *args, **options)
        self._task_came.set()
        return task_id

    def wait_for_task(self, within_s: float) -> bool:
        """Wait until there is a task whose message is there as a whole; whether there is one."""
        ends = time.monotonic() + within_s
        while True:
            self._task_came.clear()
            pending = self.get_tasks(statuses=[Status.PENDING])
            if any(self._has_whole_message(task) for task in pending):
                return True
            left = ends - time.monotonic()
            if left <= 0:
                return False
            self._task_came.wait(min(left, PARTS_LOOK_S) if pending else left)

    def _has_whole_message(self, task: Task) -> bool:
        with self.lock_msg_store:
            asked = [
                entry.message
                for entry in self.msg_store.values()
                if entry.message.metadata.run_id == task.run_id
                and not _answers(entry)
                and not entry.is_retrieved
            ]
        return bool(asked) and all(map(self._is_complete, asked))

    def finish_task(self, task_id: int, sub_status: str, details: str) -> bool:
        """Finish a task; if its message has no answer, give it out again."""
        finished = super().finish_task(task_id, sub_status, details)
        if finished:
            with self.lock_task_store:
                self._requeue(self.task_store[task_id])
        return finished

    def _on_task_tokens_expired(self, tasks: list[Task]) -> None:
        """Called under the lock of the tasks, for those that gave no sign of life for too long."""
        super()._on_task_tokens_expired([task for task in tasks if task.type != TaskType.CLIENT_APP])
        for task in tasks:
            self._requeue(self.task_store[task.task_id])

    def get_messages_legacy(
        self, *, run_ids: Sequence[int] | None = None, is_reply: bool | None = None, limit: int | None = None
    ) -> Sequence[Message]:
        """As Flower's; replies only once all of them are complete."""
        if is_reply and not self._replies_are_complete():
            with self.lock_task_store:
                self._cleanup_expired_task_tokens_locked()
            return []
        return super().get_messages_legacy(run_ids=run_ids, is_reply=is_reply, limit=limit)

    def delete_messages(self, *, message_ids: Sequence[str] | None = None) -> None:
        """Delete messages, and with them the objects of those that were asked, which are kept until here."""
        with self.lock_msg_store:
            chosen = list(self.msg_store) if message_ids is None else message_ids
            asked = [key for key in chosen if key in self.msg_store and not _answers(self.msg_store[key])]
        super().delete_messages(message_ids=message_ids)
        for message_id in asked:
            self._repeats.pop(message_id, None)
            self.object_store.delete(message_id)

    def _requeue(self, task: Task) -> None:
        """Make `task` pending again if its message is not answered; the caller holds the lock of the tasks.

        The two locks in the order in which Flower takes them where a task hands over its reply at the same moment.
        """
        if task.type != TaskType.CLIENT_APP:
            return
        with self._lock_object_push_sessions, self.lock_msg_store:
            left = self._unanswered(task.run_id)
            if not left:
                return
            self.delete_sessions_in_run(task.run_id)
            for entry in left:
                self._repeats[entry.message.metadata.message_id] += 1
            if any(self._repeats[entry.message.metadata.message_id] > REPEATS for entry in left):
                for entry in left:
                    entry.is_retrieved = True
                self._store_error_replies({task.run_id}, CLIENT_APP_CRASHED_ERROR)
                return
            for entry in left:
                entry.is_retrieved = False
        task.starting_at = task.running_at = task.finished_at = ""
        task.status.CopyFrom(TaskStatus(status=Status.PENDING, sub_status="", details=""))
        self._task_came.set()

    def _unanswered(self, run_id: int) -> list[MessageEntry]:
        """The messages of the run without a complete reply; an incomplete one is dropped."""
        replies = {_answers(entry): entry for entry in self.msg_store.values() if _answers(entry)}
        left = []
        for key, entry in list(self.msg_store.items()):
            if entry.message.metadata.run_id != run_id or _answers(entry):
                continue
            reply = replies.get(key)
            if reply is not None:
                if self._is_complete(reply.message):
                    continue
                self.msg_store.pop(reply.message.metadata.message_id)
                self.object_store.delete(reply.message.metadata.message_id)
            left.append(entry)
        return left

    def _replies_are_complete(self) -> bool:
        with self.lock_msg_store:
            waiting = [
                entry.message
                for entry in self.msg_store.values()
                if _answers(entry) and not entry.is_retrieved
            ]
        return bool(waiting) and all(map(self._is_complete, waiting))

    def _is_complete(self, message: Message) -> bool:
        try:
            tree = self.object_store.get_object_tree(message.metadata.message_id)
        except NoObjectInStoreError:
            return False
        return all(self.object_store.get(part.object_id) for part in iterate_object_tree(tree))


class SteadfastNodeStateFactory(NodeStateFactory):
    """Makes the one state of a node, in place of Flower's."""

    def __init__(
        self, objectstore_factory: ObjectStoreFactory, *, on_admission: Callable[[int], None]
    ) -> None:
        super().__init__(objectstore_factory)
        self._on_admission = on_admission

    def state(self) -> NodeState:
        """The state, made at the first call."""
        with self.lock:
            if self.state_instance is None:
                self.state_instance = RetryingNodeState(
                    self.objectstore_factory.store(), on_admission=self._on_admission
                )
            return self.state_instance


def answer_when_there(
    acquire: Callable[[AcquireTaskRequest, RetryingNodeState], AcquireTaskResponse],
) -> Callable[[AcquireTaskRequest, RetryingNodeState], AcquireTaskResponse]:
    """Flower's handler of who asks for a task, which says at once that there is none, with a wait before it.

    A task whose message is still on its way is not given out: its process would look for the parts once a second.
    """

    def answer(request: AcquireTaskRequest, state: RetryingNodeState) -> AcquireTaskResponse:
        return acquire(request, state) if state.wait_for_task(TASK_WAIT_S) else AcquireTaskResponse()

    return answer


def keep_message(
    _request: ConfirmMessageReceivedRequest, _state: NodeState, _task: Task
) -> ConfirmMessageReceivedResponse:
    """In place of Flower's handler, which forgets a message as soon as a task has read it."""
    return ConfirmMessageReceivedResponse()


def _answers(entry: MessageEntry) -> str:
    """The message that this one replies to; empty for one that was asked."""
    return entry.message.metadata.reply_to_message_id
