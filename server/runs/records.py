"""What the lines of a run's metrics.jsonl and events.jsonl may say; held to that when they are read back.

Only the kinds and ranges of what is computed or drawn with are held: a line may lack a key, as one of an earlier
version does, and may have others.
"""

from __future__ import annotations

import datetime
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, FiniteFloat, model_validator

from server.runs.checked_page import MAX_BYTES

MAX_ROUNDS = 10**9
"""More than a run has: a number of rounds beyond it was not written by one."""

_Count = Annotated[int, Field(ge=0, lt=2**63)]
_Figure = Annotated[float, Field(ge=-1e15, le=1e15)]
"""What a screen draws and adds up; the figures that a site may send are bounded far below."""


def instant(text: str) -> datetime.datetime:
    """A moment as the run's records write it, in UTC. Raises ValueError for one without its offset from UTC."""
    moment = datetime.datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"a time without an offset from UTC: {text}")
    try:
        return moment.astimezone(datetime.UTC)
    except OverflowError as failure:
        raise ValueError(f"a time beyond all years: {text}") from failure


def _is_instant(text: str) -> str:
    instant(text)
    return text


class _Line(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow", allow_inf_nan=False)


class _SiteInRound(_Line):
    refused: str | None = None
    noted: list[str] = Field(default_factory=list)
    seconds: _Figure = 0.0
    bytes_down: _Count = 0
    bytes_up: _Count = 0
    n_training_slices: _Count = 0
    train_loss: _Figure | None = None
    share: _Figure | None = None
    update_norm: FiniteFloat | None = None
    memory_norm: FiniteFloat | None = None
    agreement: _Figure | None = None
    shortened: dict[str, FiniteFloat] = Field(default_factory=dict)
    validation: dict[str, _Figure] = Field(default_factory=dict)


class RoundLine(_Line):
    """One line of metrics.jsonl: a completed round."""

    round: Annotated[int, Field(ge=0, le=MAX_ROUNDS)]
    seconds: _Figure = 0.0
    aggregated: bool = True
    sites: dict[str, _SiteInRound] = Field(default_factory=dict)


class EventLine(_Line):
    """One line of events.jsonl: something that happened."""

    time: Annotated[str, AfterValidator(_is_instant)]
    event: str
    site: str | None = None
    code: str | None = None
    kind: str | None = None
    sites: list[str] = Field(default_factory=list)
    fell: list[str] = Field(default_factory=list)
    rounds: _Count = 0
    n_training_slices: _Count = 0
    norm: FiniteFloat | None = None
    bound: FiniteFloat | None = None
    fall_db: _Figure | None = None
    share: _Figure | None = None
    claimed: _Figure | None = None

    @model_validator(mode="after")
    def _both_shares(self) -> EventLine:
        if self.event == "share-bounded" and None in (self.share, self.claimed):
            raise ValueError("a share that was bounded, without its figures")
        return self


def parse_line(line: bytes, kind: type[_Line]) -> dict[str, Any]:
    """A line as it was written, once it is found to say what such a line may. Raises ValueError."""
    if len(line) > MAX_BYTES:
        raise ValueError(f"over {MAX_BYTES} bytes")
    try:
        record = json.loads(line.decode(), parse_float=_finite, parse_constant=_finite)
    except RecursionError as failure:
        raise ValueError("nested too deep") from failure
    kind.model_validate(record)
    return dict(record)


def raw_lines(path: Path) -> Iterator[bytes]:
    """The lines of a file, oldest first. Raises ValueError for one that is longer than any of ours."""
    with path.open("rb") as stream:
        while line := stream.readline(MAX_BYTES + 1):
            if len(line) > MAX_BYTES:
                raise ValueError(f"over {MAX_BYTES} bytes")
            yield line


def _finite(text: str) -> float:
    """A number of a line. Raises ValueError for one that none of ours is: no sum and no digest is made of it."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is no figure")
    return number
