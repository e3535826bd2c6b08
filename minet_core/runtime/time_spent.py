"""How long the parts of a work took: elapsed, and of a processor."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

Seconds = tuple[float, float]
"""Elapsed, and of a processor in all threads of the process."""


@dataclass
class TimeSpent:
    """What a work's parts took so far, in the order in which they first came.

    seconds: by the part's name; a part that comes again adds to itself.
    """

    seconds: dict[str, Seconds] = field(default_factory=dict)

    @contextlib.contextmanager
    def on(self, part: str) -> Iterator[None]:
        """Count the context as a part, whether it ends well or not.

        Parameters
        ----------
        part
            Its name. Parts do not lie in each other, or what they have in common counts twice.
        """
        elapsed, processor = time.perf_counter(), time.process_time()
        try:
            yield
        finally:
            self.add(part, time.perf_counter() - elapsed, time.process_time() - processor)

    def add(self, part: str, elapsed: float, processor: float) -> None:
        """Count what was measured elsewhere.

        Parameters
        ----------
        part
            Its name.
        elapsed, processor
            Seconds.
        """
        before = self.seconds.get(part, (0.0, 0.0))
        self.seconds[part] = (before[0] + elapsed, before[1] + processor)
