"""Child processes that are started again when they end, with a pause that grows while they keep ending.

Knows processes alone: what a child is for, and when it works, its owner says.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from minet_core.errors import ProcessDied
from minet_core.runtime.processes.child_processes import Child
from minet_core.runtime.processes.guardian import group_lives

FIRST_PAUSE_S = 0.5
MAX_PAUSE_S = 15.0
SETTLED_S = 60.0
"""A child that ran this long counts as well started: the next pause is short again."""

WORKED_S = 10.0
"""A child that ran this long has worked, whether or not anybody saw it: one that cannot start ends sooner."""

FAST_ENDS = 5
"""So many ends in a row of a child that never worked in between are not a passing trouble."""


@dataclass
class _Kept:
    """One child, and how it has fared."""

    child: Child
    start: Callable[[], Child]
    why: Callable[[Child], str]
    gives_up: bool
    orphans_end_in_s: float
    started_at: float
    ended_at: float = 0.0
    pause_s: float = FIRST_PAUSE_S
    start_again_at: float | None = None
    fast_ends: int = 0
    last_said: str | None = None


class Supervisor:
    """Starts children again that have ended; `tend` is to be called a few times a second.

    Parameters
    ----------
    clock
        Seconds, which never go back.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._kept: dict[str, _Kept] = {}

    def keep(
        self,
        start: Callable[[], Child],
        *,
        why: Callable[[Child], str] | None = None,
        gives_up: bool = True,
        orphans_end_in_s: float = 0.0,
    ) -> Child:
        """Start a child and keep it running.

        Parameters
        ----------
        start
            Starts the child, and starts it again.
        why
            Says why it ended; None says how it ended and where its log is.
        gives_up
            Whether `tend` raises once it has ended `FAST_ENDS` times in a row without having worked; otherwise it is
            started again for ever.
        orphans_end_in_s
            How long what it left running is given to end by itself, before it is ended, s.

        Returns
        -------
        Child
            Which runs.
        """
        child = start()
        child.needed = False  # its end is no failure of the whole
        self._kept[child.name] = _Kept(
            child, start, why or why_it_ended, gives_up, orphans_end_in_s, self._clock()
        )
        return child

    def works(self, name: str) -> None:
        """Say that the child has been seen to do its work since it was started.

        Parameters
        ----------
        name
            Of the child; one that is not kept is passed over.
        """
        if name in self._kept:
            self._kept[name].fast_ends = 0

    def starts_again_in_s(self, name: str) -> float | None:
        """How long the pause of a child that has ended still lasts.

        Parameters
        ----------
        name
            Of the child.

        Returns
        -------
        float or None
            Seconds; None for one that runs or is not kept.
        """
        kept = self._kept.get(name)
        if kept is None or kept.start_again_at is None:
            return None
        return max(0.0, kept.start_again_at - self._clock())

    def tend(self) -> list[str]:
        """Start again what has ended and whose pause is over.

        Returns
        -------
        list of str
            Why children had ended, each reason once.

        Raises
        ------
        ProcessDied
            FM-S503, with the end of its log, for a child that keeps ending and never works.
        """
        reasons = [self._tend_one(kept) for kept in self._kept.values() if not kept.child.lives]
        return [reason for reason in reasons if reason is not None]

    def _tend_one(self, kept: _Kept) -> str | None:
        now = self._clock()
        if kept.start_again_at is None:
            return self._note_end(kept, now)
        if now >= kept.start_again_at and not self._waits_for_orphans(kept, now):
            kept.start_again_at = None
            kept.child = kept.start()
            kept.child.needed = False
            kept.started_at = self._clock()  # a start may first have to end what the former child left behind
        return None

    def _waits_for_orphans(self, kept: _Kept, now: float) -> bool:
        return now - kept.ended_at < kept.orphans_end_in_s and group_lives(kept.child.process.pid)

    def _note_end(self, kept: _Kept, now: float) -> str | None:
        if now - kept.started_at > SETTLED_S:
            kept.pause_s, kept.last_said = FIRST_PAUSE_S, None
        if now - kept.started_at > WORKED_S:
            kept.fast_ends = 0
        kept.fast_ends += 1
        kept.ended_at = now
        if kept.gives_up and kept.fast_ends >= FAST_ENDS:
            raise ProcessDied(
                f"{kept.child.name} ended {kept.fast_ends} times in a row. The end of its log:\n"
                f"{kept.child.log_tail()}\n",
                got=f"exit status {kept.child.process.returncode}",
                action=f"Read {kept.child.log_path}",
            )
        kept.start_again_at = now + kept.pause_s
        kept.pause_s = min(2 * kept.pause_s, MAX_PAUSE_S)
        reason = kept.why(kept.child)
        if reason == kept.last_said:
            return None
        kept.last_said = reason
        return reason


def why_it_ended(child: Child) -> str:
    """That a child ended, how, and where to read more.

    Parameters
    ----------
    child
        That has ended.

    Returns
    -------
    str
        A clause.
    """
    return (
        f"{child.name} ended with status {child.process.returncode}; starting it again (see {child.log_path})"
    )
