"""Requests in one record to the sites that know it, and their replies as the records that a round reads.

The form is `minet_core.protocol.flat_form`. Which site knows it is found by asking: one that answers a flat request by
FM-F401 is asked again, and from then on, in the records that every site knows.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.app.message import make_message

from minet_core.errors import ReplyRefused
from minet_core.protocol.flat_form import FLAT, MAX_BYTES, WEIGHTS, flat_values, records_of
from minet_core.protocol.messages import FAILURE, METRICS, MODEL, NPY_HEAD_BYTES, PARCEL, REQUEST


@dataclass
class FlatMessages:
    """What was asked in which form. unable: nodes that know no flat form. asked: node by id of a flat request."""

    unable: set[int] = field(default_factory=set)
    asked: dict[str, int] = field(default_factory=dict)

    def requests(self, messages: Iterable[Message]) -> list[Message]:
        """The messages as they leave."""
        return [
            message if message.metadata.dst_node_id in self.unable else _flattened(message)
            for message in messages
        ]

    def note_sent(self, messages: Iterable[Message], message_ids: Iterable[str]) -> None:
        """Remember which messages left in one record, by the ids that the SuperLink gave them."""
        # Flower gives no ids where the SuperLink was out of reach: then no reply to them will come.
        for message, message_id in zip(messages, message_ids, strict=False):
            if FLAT in message.content:
                self.asked[message_id] = message.metadata.dst_node_id

    def reply(self, message: Message) -> Message | None:
        """A reply as a round reads it; None where its site is to be asked once more, in the other form.

        Raises ReplyRefused (FM-F401) and what else a flat reply does to the code that takes it apart.
        """
        node = self.asked.get(message.metadata.reply_to_message_id)
        if node is not None and node not in self.unable and _is_refusal(message):
            self.unable.add(node)
            return None
        if not message.has_error() and set(message.content) == {FLAT}:
            if node is None:
                raise ReplyRefused("a reply came in one record, which its request was not")
            message.content = _taken_apart(message.content)
        return message


def _flattened(message: Message) -> Message:
    """A request in one record; one of other records, or with large weights, as it is."""
    content = message.content
    if set(content) != {MODEL, REQUEST}:
        return message
    weights, request = content[MODEL], content[REQUEST]
    assert isinstance(weights, ArrayRecord)
    assert isinstance(request, ConfigRecord)
    if len(weights[PARCEL].data) > MAX_BYTES:
        return message
    parcel = weights[PARCEL].data[NPY_HEAD_BYTES:]
    records: dict[str, dict[str, Any]] = {REQUEST: dict(request), MODEL: {PARCEL: parcel}}
    values: dict[str, Any] = flat_values(records)
    return make_message(message.metadata, RecordDict({FLAT: ConfigRecord(values)}))


def _is_refusal(message: Message) -> bool:
    """Whether a site that knows no flat form answers so. A site that knows it and refuses for its own reason may, too:
    it is asked once more than it would be.
    """
    failure = None if message.has_error() else message.content.get(FAILURE)
    return isinstance(failure, ConfigRecord) and failure.get("code") == ReplyRefused.code


def _taken_apart(content: RecordDict) -> RecordDict:
    """The records of a flat reply. Figures that are no numbers and weights that are no bytes are refused by Flower's
    own records.
    """
    flat = content[FLAT]
    if not isinstance(flat, ConfigRecord):
        raise ReplyRefused("a flat reply is of the wrong record type")
    values = dict(flat)
    parcel = values.pop(WEIGHTS, None)
    if not isinstance(parcel, bytes):
        raise ReplyRefused("a flat reply has no weights")
    records = records_of(values)
    taken = RecordDict({name: ConfigRecord(kept) for name, kept in records.items() if name != METRICS})
    taken[METRICS] = MetricRecord(records.get(METRICS, {}))  # type: ignore[arg-type]
    taken[MODEL] = ArrayRecord({PARCEL: Array(np.frombuffer(parcel, np.uint8))})
    return taken
