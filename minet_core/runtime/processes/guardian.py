"""Ending process groups for good, and a guardian that does so when the process it serves is gone.

Run as a script (`python -I -S process_guardian.py GRACE_S`) it reads `+PGID` and `-PGID` lines from its standard
input. The end of the input means that its parent ended, however that came about: the groups still on the list
get SIGTERM, and SIGKILL after the grace time. It needs nothing but the standard library, so that it starts in
milliseconds and costs a few megabytes.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

_POLL_INTERVAL_S = 0.05


def end_groups(
    groups: Iterable[int],
    *,
    grace_s: float,
    hurry: Callable[[], bool] = lambda: False,
    reap: Callable[[], None] = lambda: None,
) -> None:
    """End every process of some process groups: SIGTERM, and SIGKILL for what is left.

    Parameters
    ----------
    groups
        Their numbers.
    grace_s
        Seconds between the two signals.
    hurry
        Whether to send SIGKILL at once; asked while waiting.
    reap
        Called while waiting: it collects the exit status of the caller's own children.
    """
    left = set(groups)
    _signal_all(left, signal.SIGTERM)
    ends = time.monotonic() + grace_s
    while left := _living(left, reap):
        if hurry() or time.monotonic() > ends:
            _signal_all(left, signal.SIGKILL)
            break
        time.sleep(_POLL_INTERVAL_S)
    ends = time.monotonic() + 5.0  # the kernel's own time to end what was killed
    while _living(left, reap) and time.monotonic() < ends:
        time.sleep(_POLL_INTERVAL_S)


def group_lives(group: int) -> bool:
    """Whether a process of the group is left; one that ended and waits to be collected does not count.

    Parameters
    ----------
    group
        Its number.

    Returns
    -------
    bool
        True also for a group of another user's.
    """
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    if not Path("/proc/self/stat").exists():
        return True
    return any(_is_living_member(stat, group) for stat in Path("/proc").glob("[0-9]*/stat"))


def _living(groups: set[int], reap: Callable[[], None]) -> set[int]:
    reap()
    return {group for group in groups if group_lives(group)}


def _is_living_member(stat: Path, group: int) -> bool:
    try:
        # pid (command) state ppid pgrp ...: the command may hold spaces and brackets
        state, _, its_group = stat.read_text(errors="replace").rpartition(")")[2].split()[:3]
    except (OSError, ValueError):
        return False
    return int(its_group) == group and state not in "ZX"


def _signal_all(groups: Iterable[int], number: signal.Signals) -> None:
    for group in groups:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, number)


def _watch(grace_s: float) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # it ends when its parent has ended, and not before
    groups: set[int] = set()
    for line in sys.stdin:
        group = int(line[1:])
        if line[0] == "+":
            groups.add(group)
        else:
            groups.discard(group)
    end_groups(groups, grace_s=grace_s)


if __name__ == "__main__":
    _watch(float(sys.argv[1]))
