"""A Flower Grid without processes or sockets: it calls each site's ClientApp in this process.

Every message is taken apart into the objects that would travel and put together again on the other side, so that
an app sees the bytes it would see on the wire, and nothing is shared between the two ends. A site has a context
of its own, as in its SuperNode; a ClientApp that raises is answered for by an error, with Flower's own text.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import cast

from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

from server.flower.private_names import (
    SUPERLINK_NODE_ID,
    ErrorCode,
    NodeInfo,
    Run,
    TaskIdentity,
    get_all_nested_objects,
    inflate_object_from_contents,
)

RUN_ID = 1
_TASK_ID = 1

Values = Mapping[str, str | int | float | bool]


class InProcessGrid(Grid):
    """A Grid over `sites`, the ClientApp of each by its registered name.

    A message is handled when its reply is first asked for; sites answer in the order they were asked. A site of
    `silent` is online and never answers. `on_reply` is called after each reply. `bytes_sent` and
    `bytes_received` count what would have travelled, as the server sees it.
    """

    def __init__(
        self,
        sites: Mapping[str, ClientApp],
        *,
        run_config: Values | None = None,
        silent: frozenset[str] = frozenset(),
        on_reply: Callable[[], None] = lambda: None,
    ) -> None:
        self._apps = {node_id_of(name): client_app for name, client_app in sites.items()}
        self._names = {node_id_of(name): name for name in sites}
        self._silent = {node_id_of(name) for name in silent}
        self._contexts = {
            node_id: Context(
                run_id=RUN_ID,
                node_id=node_id,
                node_config={},
                state=RecordDict(),
                run_config=dict(run_config or {}),
            )
            for node_id in self._apps
        }
        self._on_reply = on_reply
        self._run = Run.create_empty(RUN_ID)
        self._asked: dict[str, Message] = {}
        self.bytes_sent = 0
        self.bytes_received = 0

    def set_run(self, run: Run) -> None:
        """Set the run that this grid serves."""
        self._run = run

    @property
    def run(self) -> Run:
        """A copy of the run's facts."""
        return Run(**vars(self._run))

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """A message to a node."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """Every site's node id."""
        return list(self._apps)

    def get_nodes(self) -> Iterable[NodeInfo]:
        """Every site as the SuperLink describes it: id, registered name, status."""
        return [
            NodeInfo(node_id=node_id, name=name, status="online") for node_id, name in self._names.items()
        ]

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Take messages over; a message to an unknown node is refused by an empty id, as by the SuperLink."""
        message_ids = []
        for message in messages:
            known = message.metadata.dst_node_id in self._apps
            if known:
                taken, n_bytes = _travelled(message)
                self.bytes_sent += n_bytes
                self._asked[taken.metadata.message_id] = taken
            message_ids.append(taken.metadata.message_id if known else "")
        return message_ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """The reply to the first of these messages that has one: replies come one by one, as from real sites."""
        for message_id in message_ids:
            message = self._asked.get(message_id)
            if message is None or message.metadata.dst_node_id in self._silent:
                continue
            del self._asked[message_id]
            reply, n_bytes = _travelled(self._answer(message))
            self.bytes_received += n_bytes
            self._on_reply()
            return [reply]
        return []

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Push, and pull every reply that there will be. A silent site's time is not waited for."""
        del timeout
        left = set(self.push_messages(messages))
        replies: list[Message] = []
        while pulled := list(self.pull_messages(sorted(left))):
            replies += pulled
            left -= {reply.metadata.reply_to_message_id for reply in pulled}
        return replies

    def _answer(self, message: Message) -> Message:
        """What the site sends back; a failure has the text that Flower's ClientApp process would send."""
        node_id = message.metadata.dst_node_id
        context = self._contexts[node_id]
        try:
            return self._apps[node_id](message=message, context=context)
        except Exception as failure:  # whatever the app raises becomes an error reply, as in Flower
            reason = f"{type(failure)}:<'{failure}'>"
            return Message(Error(code=ErrorCode.CLIENT_APP_RAISED_EXCEPTION, reason=reason), reply_to=message)


def node_id_of(name: str) -> int:
    """A node id for a name: as arbitrary as the SuperLink's, and the same in every run."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") >> 1


def run_in_process(
    server_app: ServerApp,
    sites: Mapping[str, ClientApp],
    *,
    run_config: Values,
    silent: frozenset[str] = frozenset(),
    on_reply: Callable[[], None] = lambda: None,
) -> InProcessGrid:
    """Run `server_app` to its end over `sites`; what it raises is raised. Returns the grid, with its byte counts."""
    grid = InProcessGrid(sites, run_config=run_config, silent=silent, on_reply=on_reply)
    context = Context(
        run_id=RUN_ID,
        node_id=SUPERLINK_NODE_ID,
        node_config={},
        state=RecordDict(),
        run_config=dict(run_config),
    )
    with server_identity():
        server_app(grid, context)
    return grid


@contextlib.contextmanager
def server_identity() -> Iterator[None]:
    """Flower stamps a message with the identity of the process it is made in: here, the server's."""
    former = (TaskIdentity._run_id, TaskIdentity._node_id, TaskIdentity._task_id)
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = RUN_ID, SUPERLINK_NODE_ID, _TASK_ID
    try:
        yield
    finally:
        TaskIdentity._run_id, TaskIdentity._node_id, TaskIdentity._task_id = former


def _travelled(message: Message) -> tuple[Message, int]:
    """The message as it arrives, and the bytes of its objects."""
    contents = {object_id: item.deflate() for object_id, item in get_all_nested_objects(message).items()}
    n_bytes = sum(map(len, contents.values()))
    message_id = message.object_id
    arrived = cast(Message, inflate_object_from_contents(message_id, contents))
    arrived.metadata.__dict__["_message_id"] = message_id
    return arrived, n_bytes
