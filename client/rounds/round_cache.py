"""What a site keeps of its last rounds, on its own disk: the answer it gave, and what it goes on from.

    state/RUN/round-0007.safetensors     answer/...    the arrays of its reply, as they were sent
                                         site/...      what stays: Adam's moments, controls, a personal head
                         its metadata    the request it answered, the agreed figures, the norms of its updates

One file a round, which takes its place whole or not at all. So a site whose client is ended after it trained gives
the same answer when it is asked again, and one that is ended before trains again from where it stood: it never
trains twice for one answer, and never gives two.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from minet_core.errors import StoreDamaged
from minet_core.protocol.exchange_plan import exchange_plan_of
from minet_core.runtime.files.file_lock import let_go, locked_within
from minet_core.runtime.json_text import NOT_AS_WRITTEN, parse_json
from minet_core.settings.federation import FederationSettings
from minet_core.weights.lazy_arrays import StoredArrays
from minet_core.weights.manifest import Arrays
from minet_core.weights.payload import save_parcel

FLOAT32_BYTES = 4

ADAM_MOMENTS = 2

KEPT_ROUNDS = 2
"""The last round, and the one before it: from that one the last is trained again where it has to be."""

KEPT_RUNS = 3
"""Runs whose rounds stay: one that was interrupted may go on after another."""

_METADATA = "fedminet"
_ANSWER, _SITE = "answer/", "site/"


@dataclass(frozen=True)
class CachedRound:
    """One kept round. request: SHA-256 of the parcel that was answered. norms: of the site's own updates so far."""

    round_number: int
    request: str
    figures: Mapping[str, int | float]
    norms: tuple[float, ...] = ()
    answer: Arrays = field(default_factory=dict)
    site: Arrays = field(default_factory=dict)


class RoundCache:
    """The rounds that a site keeps of one run."""

    def __init__(self, state: Path, run: str) -> None:
        self._folder = state / run

    def get(self, round_number: int) -> CachedRound | None:
        """The round of this number; None where it is not kept. Raises StoreDamaged (FM-D207)."""
        path = self._path(round_number)
        if not path.is_file():
            return None
        try:
            with safe_open(path, framework="np") as stored:
                page = parse_json((stored.metadata() or {})[_METADATA])
            request, figures = str(page["request"]), dict(page["figures"])
            norms = tuple(float(norm) for norm in page["norms"])
        except (SafetensorError, *NOT_AS_WRITTEN) as failure:
            raise StoreDamaged(
                "what the site kept of a round is damaged", got=path, action="Remove it to start the run anew"
            ) from failure
        return CachedRound(
            round_number=round_number,
            request=request,
            figures=figures,
            norms=norms,
            answer=StoredArrays(path, prefix=_ANSWER),
            site=StoredArrays(path, prefix=_SITE),
        )

    def last(self, *, before: int | None = None) -> CachedRound | None:
        """The latest round that is kept, or the latest before a number; None where there is none."""
        numbers = [number for number in self._numbers() if before is None or number < before]
        return self.get(max(numbers)) if numbers else None

    def put(self, kept: CachedRound) -> None:
        """Keep a round, durably; older rounds than `KEPT_ROUNDS` and older runs than `KEPT_RUNS` are removed."""
        arrays: dict[str, NDArray[Any]] = {f"{_ANSWER}{name}": kept.answer[name] for name in kept.answer}
        arrays |= {f"{_SITE}{name}": kept.site[name] for name in kept.site}
        page = {"request": kept.request, "figures": dict(kept.figures), "norms": list(kept.norms)}
        save_parcel(self._path(kept.round_number), arrays, metadata={_METADATA: json.dumps(page)})
        for half in self._folder.glob(".*.partial"):  # of a task that was killed
            half.unlink()
        for number in self._numbers()[:-KEPT_ROUNDS]:
            self._path(number).unlink()
        runs = [folder for folder in self._folder.parent.iterdir() if folder.is_dir()]
        for old in sorted(runs, key=lambda folder: folder.stat().st_mtime)[:-KEPT_RUNS]:
            shutil.rmtree(old)

    def _numbers(self) -> list[int]:
        return sorted(
            int(path.stem.removeprefix("round-")) for path in self._folder.glob("round-*.safetensors")
        )

    def _path(self, round_number: int) -> Path:
        return self._folder / f"round-{round_number:04d}.safetensors"


@contextlib.contextmanager
def one_at_a_time(state: Path) -> Iterator[None]:
    """Wait until no other task of the site trains; the kernel lets go when a task's process ends."""
    state.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(state / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        locked_within(descriptor, None)
        yield
    finally:
        let_go(descriptor)


def kept_round_bytes(federation: FederationSettings) -> int:
    """What the site keeps of one round (client.rounds): answer, Adam's moments, the weights that came in, controls."""
    agreement = exchange_plan_of(federation)
    shared, whole = agreement.shared.n_bytes, agreement.n_parameters * FLOAT32_BYTES
    residual = 0 if federation.traffic.uplink == "full" else shared
    controls = agreement.reply_manifest.n_bytes - agreement.codec.wire_manifest(agreement.shared).n_bytes
    head = whole - shared
    return agreement.reply_manifest.n_bytes + ADAM_MOMENTS * whole + shared + residual + controls + head
