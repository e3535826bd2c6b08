"""What a deployment's processes take of the processors, looked at while they run.

A task of a site is a process of its own that nobody waits for, so no process can be asked afterwards what its children
took. What a process takes after its last look is missed: half of `LOOK_S` on average.
"""

from __future__ import annotations

import bisect
import os
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

LOOK_S = 0.05

_TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


class ProcessorWatch:
    """The processor seconds of some processes and of all that they started, by the moment of each look."""

    def __init__(self) -> None:
        self._of_process: dict[tuple[int, int], float] = {}
        self._moments: list[float] = []
        self._totals: list[float] = []

    def look(self, roots: set[int]) -> None:
        """Note what the processes have taken so far. roots: the numbers of those that started the others."""
        self._of_process.update(_descendants(roots))
        self._moments.append(time.time())
        self._totals.append(sum(self._of_process.values()))

    def between(self, begin: float, end: float) -> float:
        """Processor seconds between two moments, in seconds since 1970, at the looks that come after them."""
        return self._at(end) - self._at(begin)

    def _at(self, moment: float) -> float:
        place = bisect.bisect_left(self._moments, moment)
        return self._totals[min(place, len(self._totals) - 1)]


def _descendants(roots: set[int]) -> Iterator[tuple[tuple[int, int], float]]:
    """By number and start of each process that descends from `roots`, and of themselves, its processor seconds."""
    found: dict[int, tuple[int, float]] = {}
    children: dict[int, list[int]] = defaultdict(list)
    for folder in Path("/proc").iterdir():
        if not folder.name.isdecimal():
            continue
        try:
            # The name, in brackets, may hold anything; what follows it are numbers (proc(5), from the third on).
            values = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        number = int(folder.name)
        children[int(values[1])].append(number)
        found[number] = int(values[19]), (int(values[11]) + int(values[12])) / _TICKS_A_SECOND
    left = [number for number in roots if number in found]
    while left:
        number = left.pop()
        started, seconds = found[number]
        yield (number, started), seconds
        left += children[number]
