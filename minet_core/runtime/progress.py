"""Progress of long work: a bar with the time left on a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

Advance = Callable[[int, int], None]
"""Called with (done, total) as work goes on."""

PLAIN_INTERVAL_S = 10.0
"""Where there is no terminal, a line at most this often."""


@contextlib.contextmanager
def progress(description: str, *, quiet: bool = False) -> Iterator[Advance]:
    """Show the progress of what runs inside, on standard error so that standard output stays a script's.

    Parameters
    ----------
    description
        Stands before the bar or in each line.
    quiet
        Show nothing.

    Yields
    ------
    Advance
        To be called with (done, total) as work goes on.
    """
    if quiet:
        yield lambda *_: None
    elif sys.stderr.isatty():
        with _bar(description) as advance:
            yield advance
    else:
        yield _plain_lines(description)


def over_passes(advance: Advance, n_passes: int) -> Advance:
    """Progress through the same parts several times: begun anew with each pass, the time left would be that of one.

    Parameters
    ----------
    advance
        Told of all passes together.
    n_passes
        How often the parts are gone through.

    Returns
    -------
    callable
        To be called with (parts done, parts in all) of the pass that goes on; its last call ends the pass.
    """
    passed = 0

    def told(done: int, n_parts: int) -> None:
        nonlocal passed
        advance(passed + done, n_passes * n_parts)
        if done == n_parts:
            passed += n_parts

    return told


@contextlib.contextmanager
def _bar(description: str) -> Iterator[Advance]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(description, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _plain_lines(description: str) -> Advance:
    began = time.monotonic()
    last, said = began - PLAIN_INTERVAL_S, -1
    first: int | None = None  # what was done before, as of a run that is continued, took none of this time

    def advance(done: int, total: int) -> None:
        nonlocal last, said, first
        now = time.monotonic()
        first = done if first is None else first
        if done == said or (done < total and now - last < PLAIN_INTERVAL_S):
            return
        last, said = now, done
        left = (
            f", about {(now - began) / (done - first) * (total - done):.0f} s left"
            if first < done < total
            else ""
        )
        sys.stderr.write(f"{description}: {done} of {total}, {now - began:.0f} s{left}\n")
        sys.stderr.flush()

    return advance
