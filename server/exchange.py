"""One exchange with the sites: a request to each, and the replies as they come in before the deadline."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid
from numpy.typing import NDArray

from minet_core import wire
from minet_core.parcel import MAX_OVERHEAD_BYTES, packed, unpacked
from minet_core.runtime.errors import ReplyRefused, WeightsRefused
from minet_core.weights import WeightManifest

POLL_INTERVAL_S = 0.5
"""How often the SuperLink is asked for replies; Flower's own loop asks every 3 s."""

Arrays = dict[str, NDArray[np.generic]]


@dataclass(frozen=True)
class Received:
    """A reply before it was looked into: which site sent it and how long it took."""

    site: str
    message: Message
    seconds: float


def members(grid: Grid, *, declared: tuple[str, ...]) -> dict[str, int]:
    """Node id by registered site name, of the declared sites that are online.

    The name is the one the SuperLink registered for the node's key; nothing a client sends can change it.
    """
    online = {node.name: node.node_id for node in grid.get_nodes() if node.status in ("", "online")}
    return {site: online[site] for site in sorted(declared) if site in online}


def wait_for_members(
    grid: Grid, *, declared: tuple[str, ...], deadline_s: float, on_change: Callable[[dict[str, int]], None]
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


def request(
    weights: Mapping[str, NDArray[np.generic]], *, round_number: int, run: str, digest: str
) -> RecordDict:
    """The content of a request: the global weights and the three agreed values."""
    return RecordDict(
        {
            wire.MODEL: ArrayRecord({wire.PARCEL: Array(packed(weights))}),
            wire.REQUEST: ConfigRecord({"round": round_number, "run": run, "federation": digest}),
        }
    )


def exchange(
    grid: Grid,
    content: RecordDict,
    *,
    message_type: str,
    nodes: Mapping[str, int],
    round_number: int,
    deadline_s: float,
) -> Iterator[Received]:
    """Send `content` to every node and give back the replies as they arrive, until the deadline.

    A reply counts for the site whose node was asked: it must answer that node's message and come from that node.
    """
    messages = [
        grid.create_message(content, message_type, node_id, group_id=str(round_number), ttl=deadline_s)
        for node_id in nodes.values()
    ]
    started = time.monotonic()
    pending = dict(zip(grid.push_messages(messages), nodes.items(), strict=True))
    del messages
    while pending:
        idle = True
        for reply in grid.pull_messages(list(pending)):
            idle = False
            asked = pending.pop(reply.metadata.reply_to_message_id, None)
            if asked is None:
                continue
            yield Received(asked[0], reply, time.monotonic() - started)
        if time.monotonic() - started > deadline_s:
            return
        if pending and idle:
            time.sleep(POLL_INTERVAL_S)


def opened_figures(
    message: Message, *, agreed: Mapping[str, wire.Figure], records: set[str]
) -> dict[str, float]:
    """The agreed figures of a reply that holds exactly `records`.

    Raises ReplyRefused (FM-F401); for a reply that carries a failure code, with that code in `got`.
    """
    if message.has_error():
        raise ReplyRefused("the site's client ended with an error", got="no reply")
    if wire.FAILURE in message.content:
        record = message.content[wire.FAILURE]
        code = wire.checked_code(record.get("code") if isinstance(record, ConfigRecord) else None)
        raise ReplyRefused("the site could not do its part", got=code)
    if set(message.content) != records:
        raise ReplyRefused("a reply has the wrong records", got=f"{len(message.content)} records")
    metrics = message.content[wire.METRICS]
    if not isinstance(metrics, MetricRecord):
        raise ReplyRefused("a reply's figures are of the wrong record type")
    return wire.checked_figures(dict(metrics), agreed=agreed)


def opened_weights(message: Message, *, manifest: WeightManifest) -> tuple[Arrays, int]:
    """A reply's weights and their size on the wire in bytes. Raises WeightsRefused (FM-M302), ReplyRefused."""
    record = message.content[wire.MODEL]
    if not isinstance(record, ArrayRecord):
        raise ReplyRefused("a reply's weights are of the wrong record type")
    if set(record) != {wire.PARCEL}:
        raise ReplyRefused("a reply's weights are not one parcel", got=f"{len(record)} arrays", expected="1")
    array = record[wire.PARCEL]
    if len(array.data) > manifest.n_bytes + MAX_OVERHEAD_BYTES:
        raise WeightsRefused("a parcel of weights is too large", got=f"{len(array.data)} bytes")
    try:
        parcel = array.numpy()
    except (ValueError, EOFError, OSError, TypeError) as failure:
        raise ReplyRefused("a reply's weights cannot be decoded") from failure
    return unpacked(parcel, manifest=manifest), len(array.data)
