"""One exchange with the sites: a request to each, and the replies as they come in before the deadline.

A site is asked when its node is online, and again when its node was lost or its client ended in the middle of the
work: a site keeps the answer of a round, so being asked twice costs it nothing. Replies are fetched one by one, and
the request is made anew whenever one leaves, so that no more than one model is in memory on this road.
"""

from __future__ import annotations

import contextlib
import io
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field

import httpx
import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from minet_core.errors import INTERNAL_CODE, ReplyRefused, ServerLost, WeightsRefused
from minet_core.ledger.records import NO_HEAD
from minet_core.protocol import messages
from minet_core.runtime.memory import give_back_memory
from minet_core.runtime.observer import Observer
from minet_core.weights.manifest import Arrays, WeightManifest
from minet_core.weights.payload import MAX_OVERHEAD_BYTES, pack
from server.flower.nonblocking_grid import MessageGrid, announced
from server.flower.private_names import ErrorCode, FlowerError, NodeInfo, RunNotRunningException, SType

POLL_INTERVAL_S = 0.25
"""How often the SuperLink is asked for replies; Flower's own loop asks every 3 s."""

MIN_POLL_S = 0.05
POLLS_OF_A_ROUND = 40
"""While a round is young it is asked more often, so that a reply waits for a fortieth of the round at most: a short
round ends sooner, and a long one, whose every question takes milliseconds of this machine for each site, gains nothing
by more of them."""

HELD_LOOK_SPAN_S = (0.9, 1.8)
"""A look that took so long, from and to, was held by the SuperLink until there would be a reply
(`server.flower.held_answers`): the next one follows at once."""

PAUSES_A_LOOK = 4
"""A SuperLink that answers slowly has enough to do, and the replies themselves come through it."""

NODES_INTERVAL_S = 2.0
"""How often the SuperLink is asked which nodes are online while some are missing."""

MAX_REASKS = 3
"""How often a site whose client ended in the middle of a round is asked again in it."""

REPLY_MARGIN_S = 60.0
"""How much longer than the round's deadline a message lives."""


@dataclass(frozen=True)
class Received:
    """A reply before it was looked into.

    message: None where it could not even be put together. seconds: since the exchange began. bytes_down: what was sent
    to the site in it. again: its second answer.
    """

    site: str
    message: Message | None
    seconds: float
    bytes_down: int
    again: bool = False


def members(grid: MessageGrid, *, declared: Collection[str]) -> dict[str, int]:
    """Node id by registered site name, of the declared sites that are online.

    The name is the one the SuperLink registered for the node's key; nothing a client sends can change it.
    Raises ServerLost (FM-S506).
    """
    online = _online_nodes(grid, declared=declared)
    return {site: online[site].node_id for site in sorted(online)}


def wait_for_members(
    grid: MessageGrid,
    *,
    declared: Collection[str],
    deadline_s: float,
    on_change: Callable[[dict[str, int]], None],
) -> dict[str, int]:
    """Wait until every declared site is online, or the deadline; return those that are."""
    ends = time.monotonic() + deadline_s
    known: dict[str, int] = {}
    while True:
        present = members(grid, declared=declared)
        if present != known:
            on_change(present)
            known = present
        if len(present) == len(declared) or time.monotonic() > ends:
            return present
        time.sleep(POLL_INTERVAL_S)


def request(arrays: Arrays, *, round_number: int, run: str, digest: str, ledger: str = NO_HEAD) -> RecordDict:
    """The content of a request: the global weights and the four agreed values; ledger: the head of ours."""
    return RecordDict(
        {
            messages.MODEL: ArrayRecord({messages.PARCEL: _array_of(pack(arrays))}),
            messages.REQUEST: ConfigRecord(
                {"round": round_number, "run": run, "federation": digest, "ledger": ledger}
            ),
        }
    )


@dataclass(frozen=True)
class Patience:
    """How long replies are waited for. absence_s: for a site that is offline, where `enough()` says that the round can
    do without those that have not answered.
    """

    deadline_s: float
    absence_s: float
    enough: Callable[[], bool]


def request_replies(
    grid: MessageGrid,
    content: Callable[[], RecordDict],
    *,
    message_type: str,
    sites: Collection[str],
    round_number: int,
    patience: Patience,
    observer: Observer,
    sent: Counter[str],
) -> Iterator[Received]:
    """Ask `sites` and give back their replies as they arrive; count in `sent` the bytes that went to each.

    Ends when every site has answered, at the deadline, or when those that have not are offline, `absence_s` are over,
    and `enough()` says that the round can do without them. A reply counts for the site whose node was asked: it must
    answer that node's message and come from that node. Raises ServerLost (FM-S506).
    """
    work = _Exchange(grid, set(sites), sent)
    while True:
        if time.monotonic() >= work.look_again:
            due = work.due_nodes()
            if due:
                ttl_s = max(patience.deadline_s - work.seconds, 0.0) + REPLY_MARGIN_S
                made = content()
                n_bytes = _bytes_of(made)
                for site, node in due.items():
                    message_id = _sent(
                        grid, made, message_type, node.node_id, group=round_number, ttl_s=ttl_s
                    )
                    work.asked[message_id] = _Asked(site, node)
                    sent[site] += n_bytes
                    observer("sent")
                del made
                give_back_memory(n_bytes)
                observer("all sent")
            elif not work.asked and work.seconds > patience.absence_s and patience.enough():
                return
        work.idle = True
        looked = time.monotonic()
        for message_id in work.announced():
            yield from work.replies_to(message_id)
        if not work.waiting or work.seconds > patience.deadline_s:
            return
        if work.idle:
            time.sleep(_pause_after(work.seconds, look_s=time.monotonic() - looked))


def _pause_after(seconds: float, *, look_s: float) -> float:
    """Before the next look in a round that has lasted so long. look_s: what the last one took."""
    if HELD_LOOK_SPAN_S[0] <= look_s <= HELD_LOOK_SPAN_S[1]:
        return MIN_POLL_S
    return min(max(seconds / POLLS_OF_A_ROUND, PAUSES_A_LOOK * look_s, MIN_POLL_S), POLL_INTERVAL_S)


def opened_figures(
    message: Message | None, *, agreed: dict[str, messages.Figure], records: set[str]
) -> dict[str, float]:
    """The agreed figures of a reply that holds exactly `records`.

    Raises ReplyRefused (FM-F401); for a reply that carries a failure code, with that code in `got`.
    """
    if message is None:
        raise ReplyRefused("a reply cannot be put together")
    if message.has_error():
        raise ReplyRefused(
            "the site's client ended with an error", got=messages.code_within(message.error.reason)
        )
    if messages.FAILURE in message.content:
        record = message.content[messages.FAILURE]
        code = messages.checked_code(record.get("code") if isinstance(record, ConfigRecord) else None)
        raise ReplyRefused("the site could not do its part", got=code)
    if set(message.content) != records:
        raise ReplyRefused("a reply has the wrong records", got=f"{len(message.content)} records")
    metrics = message.content[messages.METRICS]
    if not isinstance(metrics, MetricRecord):
        raise ReplyRefused("a reply's figures are of the wrong record type")
    return messages.checked_figures(dict(metrics), agreed=agreed)


def opened_parcel(message: Message | None, *, manifest: WeightManifest) -> memoryview:
    """The bytes of a reply's parcel, neither copied nor looked into.

    Raises WeightsRefused (FM-M302) for one that is too large, ReplyRefused (FM-F401) for what is no parcel.
    """
    record = None if message is None else message.content[messages.MODEL]
    if not isinstance(record, ArrayRecord):
        raise ReplyRefused("a reply's weights are of the wrong record type")
    if set(record) != {messages.PARCEL}:
        raise ReplyRefused("a reply's weights are not one parcel", got=f"{len(record)} arrays", expected="1")
    data = record[messages.PARCEL].data
    if len(data) > manifest.n_bytes + MAX_OVERHEAD_BYTES:
        raise WeightsRefused("a parcel of weights is too large", got=f"{len(data)} bytes")
    head = _npy_head(len(data) - messages.NPY_HEAD_BYTES)
    if len(head) != messages.NPY_HEAD_BYTES or not data.startswith(head):
        raise ReplyRefused("a reply's weights are not a row of bytes")
    return memoryview(data)[len(head) :]


@contextlib.contextmanager
def lost_if_unanswered() -> Iterator[None]:
    """Turn what Flower raises where its SuperLink does not answer, or has given the run up, into ServerLost (FM-S506).

    A SuperLink that is merely away raises nothing: Flower's grid tries again until it is back.
    """
    try:
        yield
    except (httpx.HTTPError, FlowerError, RunNotRunningException, OSError) as failure:
        raise ServerLost("the SuperLink does not answer", got=type(failure).__name__) from failure


def _array_of(parcel: NDArray[np.uint8]) -> Array:
    """`Array(parcel)` with one copy of the parcel, where Flower's constructor makes two."""
    return Array("uint8", parcel.shape, SType.NUMPY, b"".join([_npy_head(parcel.size), parcel.data]))


def _npy_head(n_bytes: int) -> bytes:
    """What stands before `n_bytes` bytes in an array's own file: the only head that a parcel may have.

    Compared and never parsed: what reads such a head evaluates it as a Python literal.
    """
    head = io.BytesIO()
    npy_format.write_array_header_1_0(
        head, {"descr": "|u1", "fortran_order": False, "shape": (max(n_bytes, 0),)}
    )
    return head.getvalue()


def _bytes_of(content: RecordDict) -> int:
    """Bytes of the parcel. Not by `content.array_records`, which leaves a cycle that holds it until it is collected."""
    record = content[messages.MODEL]
    assert isinstance(record, ArrayRecord)
    return sum(len(array.data) for array in record.values())


@dataclass(frozen=True)
class _Asked:
    """A request that left: to which site, and to its node as it then was."""

    site: str
    node: NodeInfo


@dataclass
class _Exchange:
    """An exchange in work. waiting: sites that have not answered. asked, answered: requests by their message's id.

    look_again: when the nodes are asked for next. idle: whether nothing has come since it was last set.
    """

    grid: MessageGrid
    waiting: set[str]
    sent: Counter[str]
    asked: dict[str, _Asked] = field(default_factory=dict)
    answered: dict[str, _Asked] = field(default_factory=dict)
    failures: Counter[str] = field(default_factory=Counter)
    started: float = field(default_factory=time.monotonic)
    look_again: float = 0.0
    idle: bool = True

    @property
    def seconds(self) -> float:
        """Since the exchange began."""
        return time.monotonic() - self.started

    def due_nodes(self) -> dict[str, NodeInfo]:
        """The nodes that are online and are to be asked, by site."""
        self.look_again = time.monotonic() + NODES_INTERVAL_S
        online = _online_nodes(self.grid, declared=self.waiting)
        _forget_lost(self.asked, online)
        asked = {request_.site for request_ in self.asked.values()}
        return {site: node for site, node in online.items() if site not in asked}

    def announced(self) -> list[str]:
        """The requests to look into; all of them where what a site announced cannot be read: it is told from the
        others one by one.
        """
        try:
            with lost_if_unanswered():
                return announced(self.grid, list(self.asked))
        except ServerLost:
            raise
        except Exception:  # whatever a site's bytes do to Flower's reader
            return list(self.asked)

    def replies_to(self, message_id: str) -> Iterator[Received]:
        """The replies that have come to one request, and count."""
        try:
            replies = _pulled(self.grid, message_id)
        except ServerLost:
            raise
        except (
            Exception
        ):  # whatever a site's bytes do to the code that puts a message together, it is its reply
            of = self.asked.pop(message_id)
            self.waiting.discard(of.site)
            yield Received(of.site, None, self.seconds, self.sent[of.site])
            return
        while replies:
            reply = replies.pop(0)
            self.idle = False
            received = self._received(reply)
            del reply  # the next one comes in while this frame waits: one reply in memory, not two
            if received is not None:
                yield received
            del received

    def _received(self, reply: Message) -> Received | None:
        """The reply, if it counts."""
        answers = reply.metadata.reply_to_message_id
        first = self.asked.pop(answers, None)
        request_ = first or self.answered.get(answers)
        if request_ is None or (reply.has_error() and first is None):
            return None
        if reply.has_error() and _worth_asking_again(reply, request_.site, self.failures):
            self.look_again = time.monotonic() + POLL_INTERVAL_S
            return None
        if not reply.has_error() and reply.metadata.src_node_id != request_.node.node_id:
            return None  # another node's answer to this node's request counts for neither
        self.answered[answers] = request_
        self.waiting.discard(request_.site)
        return Received(request_.site, reply, self.seconds, self.sent[request_.site], again=first is None)


def _online_nodes(grid: MessageGrid, *, declared: Collection[str]) -> dict[str, NodeInfo]:
    with lost_if_unanswered():
        nodes = list(grid.get_nodes())
    return {node.name: node for node in nodes if node.status in ("", "online") and node.name in declared}


def _forget_lost(asked: dict[str, _Asked], online: dict[str, NodeInfo]) -> None:
    """Forget the requests to a node that has been started anew since: what it held is lost with it."""
    for message_id, request_ in list(asked.items()):
        now = online.get(request_.site)
        if now is not None and now.last_activated_at != request_.node.last_activated_at:
            del asked[message_id]


def _sent(
    grid: MessageGrid, content: RecordDict, message_type: str, node_id: int, *, group: int, ttl_s: float
) -> str:
    message = Message(content, node_id, message_type, ttl=ttl_s, group_id=str(group))
    with lost_if_unanswered():
        ids = list(grid.push_messages([message]))
    if len(ids) != 1 or not ids[0]:
        raise ServerLost("the SuperLink took no message", got=f"{len(ids)} message ids")
    return ids[0]


def _pulled(grid: MessageGrid, message_id: str) -> list[Message]:
    with lost_if_unanswered():
        return list(grid.pull_messages([message_id]))


def _worth_asking_again(reply: Message, site: str, failures: Counter[str]) -> bool:
    """Whether an error says nothing of the site itself: its node was away, or its client was ended."""
    if reply.error.code in (ErrorCode.NODE_UNAVAILABLE, ErrorCode.MESSAGE_UNAVAILABLE):
        return True
    if messages.code_within(reply.error.reason) != INTERNAL_CODE:
        return False
    failures[site] += 1
    return failures[site] <= MAX_REASKS
