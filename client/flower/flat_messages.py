"""A flat request as the records that a round reads, and its reply in the same form (minet_core.protocol.flat_form)."""

from __future__ import annotations

from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict

from minet_core.protocol.flat_form import FLAT, MAX_BYTES, WEIGHTS, flat_values, records_of
from minet_core.protocol.messages import METRICS, MODEL, PARCEL

_NPY_HEAD_BYTES = 128
"""What stands before a parcel's own bytes in an array that travels."""


def is_flat(message: Message) -> bool:
    """Whether a request is one flat record."""
    return set(message.content) == {FLAT} and isinstance(message.content[FLAT], ConfigRecord)


def take_apart(message: Message) -> None:
    """Put the records of a flat request into the place of its one record.

    Raises ReplyRefused (FM-F401) for names of another form; weights that are no bytes stay a value, to be refused as
    what is no parcel.
    """
    flat = message.content[FLAT]
    assert isinstance(flat, ConfigRecord)
    values = dict(flat)
    parcel = values.pop(WEIGHTS, None)
    content = RecordDict({name: ConfigRecord(kept) for name, kept in records_of(values).items()})
    if isinstance(parcel, bytes):
        content[MODEL] = ArrayRecord({PARCEL: Array(np.frombuffer(parcel, np.uint8))})
    message.content = content


def flattened(content: RecordDict) -> RecordDict:
    """A reply in one record; one without weights, which has no more parts than that, or with large ones as it is."""
    weights = content.get(MODEL)
    if not isinstance(weights, ArrayRecord) or len(weights[PARCEL].data) > MAX_BYTES:
        return content
    parcel = weights[PARCEL].data[_NPY_HEAD_BYTES:]
    records: dict[str, dict[str, Any]] = {
        METRICS: dict(content.metric_records[METRICS]),
        MODEL: {PARCEL: parcel},
    }
    values: dict[str, Any] = flat_values(records)
    return RecordDict({FLAT: ConfigRecord(values)})
