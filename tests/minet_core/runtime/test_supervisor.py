"""Restarting, with children that end at once and a clock that the test moves."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from minet_core.errors import ProcessDied
from minet_core.runtime.processes.child_processes import Child, ChildProcesses
from minet_core.runtime.processes.supervisor import (
    FAST_ENDS,
    FIRST_PAUSE_S,
    MAX_PAUSE_S,
    SETTLED_S,
    WORKED_S,
    Supervisor,
)

ENDS_AT_ONCE = "print('what went wrong'); raise SystemExit(3)"
STAYS = "import time; time.sleep(60)"


class Bench:
    """A supervisor with a clock of its own, over real children."""

    def __init__(self, folder: Path, children: ChildProcesses) -> None:
        self.now_s = 0.0
        self.starts = 0
        self.script = STAYS
        self.supervisor = Supervisor(clock=lambda: self.now_s)
        self._folder, self._children = folder, children

    def start(self) -> Child:
        self.starts += 1
        return self._children.start(
            "child", [sys.executable, "-c", self.script], log_path=self._folder / "child.log"
        )

    @property
    def child(self) -> Child:
        (child,) = self._children
        return child

    def kill(self) -> None:
        os.kill(self.child.process.pid, signal.SIGKILL)
        self.child.process.wait()

    def seconds_until_started_again(self) -> float:
        """After the child's end was noted."""
        starts, began = self.starts, self.now_s
        while self.starts == starts:
            self.now_s += FIRST_PAUSE_S / 2
            assert self.supervisor.tend() == []
            assert self.now_s - began < 2 * MAX_PAUSE_S
        return self.now_s - began


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with ChildProcesses(grace_s=1.0) as children:
        yield Bench(tmp_path, children)


def test_a_child_that_lives_is_left_alone(bench: Bench) -> None:
    bench.supervisor.keep(bench.start)
    assert bench.supervisor.tend() == []
    assert bench.starts == 1


def test_the_end_of_a_kept_child_is_no_failure_of_the_whole(bench: Bench) -> None:
    bench.supervisor.keep(bench.start)
    bench.kill()
    bench._children.check()


def test_a_killed_child_is_started_again_and_its_end_is_told_once(bench: Bench) -> None:
    bench.supervisor.keep(bench.start)
    bench.kill()
    (reason,) = bench.supervisor.tend()
    assert "child ended with status -9" in reason
    assert bench.seconds_until_started_again() == FIRST_PAUSE_S
    assert bench.child.lives


def test_the_pause_doubles_up_to_the_longest(bench: Bench) -> None:
    bench.supervisor.keep(bench.start, gives_up=False)
    pauses = []
    for _ in range(7):
        bench.kill()
        bench.supervisor.tend()
        pauses.append(bench.seconds_until_started_again())
    assert pauses == [min(FIRST_PAUSE_S * 2**n, MAX_PAUSE_S) for n in range(7)]


def test_after_a_long_life_the_pause_is_short_again_and_the_reason_is_told_again(bench: Bench) -> None:
    bench.supervisor.keep(bench.start)
    for told in (1, 0):  # the same reason twice in a row is told once
        bench.kill()
        assert len(bench.supervisor.tend()) == told
        bench.seconds_until_started_again()
    bench.now_s += SETTLED_S + 1
    bench.kill()
    assert len(bench.supervisor.tend()) == 1
    assert bench.seconds_until_started_again() == FIRST_PAUSE_S


def test_a_child_that_never_works_is_given_up_with_its_log(bench: Bench) -> None:
    bench.script = ENDS_AT_ONCE
    bench.supervisor.keep(bench.start)
    for _ in range(FAST_ENDS - 1):
        bench.child.process.wait()
        bench.supervisor.tend()
        bench.seconds_until_started_again()
    bench.child.process.wait()
    with pytest.raises(ProcessDied, match=f"(?s)FM-S503.*{FAST_ENDS} times in a row.*what went wrong"):
        bench.supervisor.tend()


@pytest.mark.parametrize("seen", [True, False])
def test_a_child_that_works_in_between_is_not_given_up(bench: Bench, seen: bool) -> None:
    """It was seen to work, or it ran for longer than one that cannot start."""
    bench.supervisor.keep(bench.start)
    for _ in range(2 * FAST_ENDS):
        if seen:
            bench.supervisor.works("child")
        else:
            bench.now_s += WORKED_S + 1
        bench.kill()
        bench.supervisor.tend()
        bench.seconds_until_started_again()


def _leaves_an_orphan(folder: Path, *, for_s: float) -> str:
    """A script whose child outlives it; `folder / "orphan"` tells the child's number."""
    return (
        "import os, pathlib, subprocess, sys, time\n"
        f"orphan = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep({for_s})'])\n"
        f"pathlib.Path({str(folder / 'partial')!r}).write_text(str(orphan.pid))\n"
        f"os.replace({str(folder / 'partial')!r}, {str(folder / 'orphan')!r})\n"
        "time.sleep(60)\n"
    )


def _ended(process: str) -> bool:
    try:
        return ") Z " in (Path("/proc") / process / "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_what_a_killed_child_left_running_is_ended_before_its_successor_starts(
    bench: Bench, tmp_path: Path
) -> None:
    bench.script = _leaves_an_orphan(tmp_path, for_s=60)
    bench.supervisor.keep(bench.start, orphans_end_in_s=3 * FIRST_PAUSE_S)
    bench._children.wait_until((tmp_path / "orphan").exists, deadline_s=120, what="the child has a child")
    bench.kill()
    orphan = (tmp_path / "orphan").read_text()
    assert not _ended(orphan)
    bench.supervisor.tend()
    bench.script = STAYS
    assert bench.seconds_until_started_again() == 3 * FIRST_PAUSE_S
    assert _ended(orphan)


def test_what_ends_by_itself_in_time_is_waited_for(bench: Bench, tmp_path: Path) -> None:
    bench.script = _leaves_an_orphan(tmp_path, for_s=0.5)
    bench.supervisor.keep(bench.start, orphans_end_in_s=60.0)
    bench._children.wait_until((tmp_path / "orphan").exists, deadline_s=120, what="the child has a child")
    bench.kill()
    bench.supervisor.tend()
    bench.now_s += FIRST_PAUSE_S
    bench._children.wait_until(
        lambda: _ended((tmp_path / "orphan").read_text()), deadline_s=120, what="the orphan has ended"
    )
    bench.script = STAYS
    bench.supervisor.tend()
    assert bench.starts == 2
