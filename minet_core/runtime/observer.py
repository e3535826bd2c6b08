"""Who is told that a piece of work has reached a named moment: what shows it, and the tests that end it there."""

from __future__ import annotations

from typing import Protocol


class Observer(Protocol):
    """A callable, told as the work goes on. What it raises ends the work."""

    def __call__(self, moment: str, /) -> None:
        """The work has reached this moment; all that comes before it is on the disk."""


def observe_nothing(moment: str, /) -> None:
    """The observer of work that nobody looks at.

    Parameters
    ----------
    moment
        Passed over.
    """
