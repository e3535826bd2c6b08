"""A message in one record: what Flower moves in three parts where the records of `messages` would be six.

Flower moves a message as objects of its own: the message, its records, each array, each chunk of one. Every part has
calls of its own at each of its hops, about 10 ms of the SuperLink's processor each. So a message whose weights are
small travels as one record of plain values, named `RECORD/KEY`, the weights among them as bytes.

A request says in which form its reply may come: a site answers a flat request flatly, and another one as it always did.
A site that knows no flat form refuses it with FM-F401 before it does anything; it is asked again in the other one, and
so from then on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from minet_core.errors import ReplyRefused
from minet_core.protocol.messages import MODEL, PARCEL

FLAT = "flat"
"""The only record of such a message."""

WEIGHTS = f"{MODEL}/{PARCEL}"
"""Its weights: the parcel's own bytes."""

MAX_BYTES = 5 * 2**20
"""Of weights that travel so: what Flower moves as one chunk. Larger ones are moved chunk by chunk, as they were."""

Value = TypeVar("Value")


def flat_values(records: Mapping[str, Mapping[str, Value]]) -> dict[str, Value]:
    """The values of some records by `RECORD/KEY`.

    Parameters
    ----------
    records
        By name, their values by key.

    Returns
    -------
    dict
        In the order of the records.

    Examples
    --------
    >>> from minet_core.protocol.flat_form import flat_values
    >>> flat_values({"request": {"round": 1, "run": "a"}})
    {'request/round': 1, 'request/run': 'a'}
    """
    return {f"{record}/{key}": value for record, values in records.items() for key, value in values.items()}


def records_of(values: Mapping[str, Value]) -> dict[str, dict[str, Value]]:
    """The records of a flat message.

    Parameters
    ----------
    values
        By `RECORD/KEY`, as the other end sent them.

    Returns
    -------
    dict of dict
        By record and key.

    Raises
    ------
    ReplyRefused
        FM-F401, for a name of another form. It is never repeated.

    Examples
    --------
    >>> from minet_core.protocol.flat_form import records_of
    >>> records_of({"request/round": 1, "request/run": "a"})
    {'request': {'round': 1, 'run': 'a'}}
    """
    records: dict[str, dict[str, Value]] = {}
    for name, value in values.items():
        record, slash, key = name.partition("/")
        if not (record and slash and key):
            raise ReplyRefused("a flat message has a value without a record")
        records.setdefault(record, {})[key] = value
    return records
