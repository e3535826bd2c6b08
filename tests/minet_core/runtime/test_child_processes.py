"""Children end with their parent, however it ends, and take what they started with them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from minet_core.errors import DeadlinePassed, HostError, PortInUse, ProcessDied
from minet_core.runtime.processes import guardian
from minet_core.runtime.processes.child_processes import (
    ChildProcesses,
    child_environment,
    free_port,
    require_port_free,
)
from minet_core.runtime.processes.guardian import group_lives

GRANDPARENT = """
import pathlib, subprocess, sys, time
grandchild = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(120)"])
pathlib.Path(sys.argv[1]).write_text(str(grandchild.pid))
time.sleep(120)
"""
"""A child that starts a grandchild and writes its process id."""

PARENT = """
import pathlib, sys, time
from minet_core.runtime.processes.child_processes import ChildProcesses
with ChildProcesses(grace_s=2.0) as children:
    log = pathlib.Path(sys.argv[2] + ".log")
    children.start("child", [sys.executable, "-c", sys.argv[1], sys.argv[2]], log_path=log)
    print("the guardian knows the child", flush=True)
    time.sleep(120)
"""

SIGNALLED_WHILE_IT_STARTS = """
import os, pathlib, signal, subprocess, sys, time
from minet_core.runtime.processes.child_processes import ChildProcesses
fork_exec = subprocess._fork_exec
def signalled(*arguments):
    pid = fork_exec(*arguments)
    pathlib.Path(sys.argv[1]).write_text(str(pid))
    os.kill(os.getpid(), int(sys.argv[2]))
    return pid
with ChildProcesses(grace_s=2.0) as children:
    subprocess._fork_exec = signalled
    command = [sys.executable, "-c", "import time; time.sleep(120)"]
    children.start("child", command, log_path=pathlib.Path(sys.argv[1] + ".log"))
    time.sleep(120)
"""
"""A program whose signal comes when its child is there and it does not know it yet."""

STUBBORN = """
import pathlib, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
pathlib.Path(sys.argv[1]).write_text("ready")
time.sleep(120)
"""


def _wait(predicate: Callable[[], bool], *, seconds: float = 120.0) -> bool:
    ends = time.monotonic() + seconds
    while not predicate():
        if time.monotonic() > ends:
            return False
        time.sleep(0.02)
    return True


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def _number_in(path: Path) -> int:
    assert _wait(lambda: path.exists() and path.read_text() != "")
    return int(path.read_text())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_a_signal_to_the_parent_ends_children_and_grandchildren(
    tmp_path: Path, number: signal.Signals
) -> None:
    pid_file = tmp_path / "grandchild"
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, GRANDPARENT, str(pid_file)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        grandchild = _number_in(pid_file)
        assert parent.stdout is not None
        with parent.stdout as said:
            assert said.readline()  # before that, a parent that is killed leaves its child behind
        assert _runs(grandchild)
        parent.send_signal(number)
        _require_ended_with(parent, grandchild, number)
    finally:
        parent.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_while_a_child_is_started_leaves_no_orphan(tmp_path: Path, number: signal.Signals) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", SIGNALLED_WHILE_IT_STARTS, str(tmp_path / "child"), str(int(number))],
        stderr=subprocess.DEVNULL,
    )
    try:
        _require_ended_with(parent, _number_in(tmp_path / "child"), number)
    finally:
        parent.kill()


def _require_ended_with(parent: subprocess.Popen[bytes], descendant: int, number: signal.Signals) -> None:
    """`parent` got the signal: it ends with that status, and leaves nobody behind."""
    parent.wait(timeout=120)
    assert _wait(lambda: not _runs(descendant)), f"{number.name} left process {descendant} running"
    if number in (signal.SIGTERM, signal.SIGHUP):
        assert parent.returncode == 128 + number


def test_leaving_the_context_ends_children_and_grandchildren(tmp_path: Path) -> None:
    with ChildProcesses(grace_s=2.0) as children:
        child = children.start(
            "child",
            [sys.executable, "-c", GRANDPARENT, str(tmp_path / "grandchild")],
            log_path=tmp_path / "child.log",
        )
        grandchild = _number_in(tmp_path / "grandchild")
    assert not _runs(grandchild)
    assert not group_lives(child.process.pid)


def test_a_grandchild_is_ended_though_its_parent_died_before(tmp_path: Path) -> None:
    with ChildProcesses(grace_s=2.0) as children:
        child = children.start(
            "child",
            [sys.executable, "-c", GRANDPARENT, str(tmp_path / "grandchild")],
            log_path=tmp_path / "child.log",
        )
        grandchild = _number_in(tmp_path / "grandchild")
        os.kill(child.process.pid, signal.SIGKILL)
        child.process.wait()
        assert _runs(grandchild)
    assert not _runs(grandchild)


def test_a_child_that_ignores_sigterm_is_killed_after_the_grace_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready, pauses = tmp_path / "ready", [0.0]

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        time.sleep(seconds)

    clock = SimpleNamespace(monotonic=lambda: sum(pauses), sleep=sleep)
    with ChildProcesses(grace_s=0.3) as children:
        child = children.start(
            "child", [sys.executable, "-c", STUBBORN, str(ready)], log_path=tmp_path / "child.log"
        )
        assert _wait(ready.exists)
        monkeypatch.setattr(guardian, "time", clock)
    assert child.process.returncode == -signal.SIGKILL
    assert 0.3 <= sum(pauses) < 3


def test_waiting_ends_at_once_when_a_child_dies_and_names_it_with_its_log(tmp_path: Path) -> None:
    with ChildProcesses() as children:
        children.start(
            "superlink",
            [sys.executable, "-c", "print('no such key'); raise SystemExit(3)"],
            log_path=tmp_path / "log",
        )
        with pytest.raises(ProcessDied) as caught:
            children.wait_until(lambda: False, deadline_s=120, what="it answers")
    assert "superlink ended" in str(caught.value)
    assert "no such key" in str(caught.value)
    assert "exit status 3" in str(caught.value)


def test_a_child_that_is_not_needed_may_end(tmp_path: Path) -> None:
    with ChildProcesses() as children:
        child = children.start("node", [sys.executable, "-c", ""], log_path=tmp_path / "log", needed=False)
        children.wait_until(lambda: not child.lives, deadline_s=120, what="it ends")


def test_a_passed_deadline_says_what_was_waited_for(tmp_path: Path) -> None:
    with ChildProcesses() as children, pytest.raises(DeadlinePassed, match="the server answers"):
        children.wait_until(lambda: False, deadline_s=0.05, what="the server answers")


def test_what_comes_while_the_machine_stalls_past_the_deadline_is_seen(tmp_path: Path) -> None:
    looks: list[float] = []

    def second_look() -> bool:
        looks.append(time.monotonic())
        time.sleep(0.1)
        return len(looks) == 2

    with ChildProcesses() as children:
        children.wait_until(second_look, deadline_s=0.05, what="the server answers")
    assert len(looks) == 2


def test_two_running_children_of_one_name_are_refused(tmp_path: Path) -> None:
    with ChildProcesses() as children:
        argv = [sys.executable, "-c", "import time; time.sleep(60)"]
        children.start("child", argv, log_path=tmp_path / "log")
        with pytest.raises(HostError, match="runs already"):
            children.start("child", argv, log_path=tmp_path / "log")


def test_a_child_outside_the_context_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="outside the context"):
        ChildProcesses().start("child", [sys.executable, "-c", ""], log_path=tmp_path / "log")


def test_a_free_port_is_free() -> None:
    require_port_free("127.0.0.1", free_port())


def test_a_free_port_is_none_that_the_system_gives_to_an_outgoing_connection() -> None:
    """Such a port may be taken by any process between this call and the server's start."""
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert all(20_000 <= free_port() < lowest for _ in range(20))


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_a_port_that_somebody_listens_on_is_refused(host: str) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        with pytest.raises(PortInUse, match=rf"FM-S501: port {port}"):
            require_port_free(host, port)


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(HostError, match="cannot listen"):
        require_port_free("192.0.2.1", free_port())  # TEST-NET-1, RFC 5737


def test_the_programs_of_this_python_are_found_first() -> None:
    environment = child_environment(FEDMINET_SITE="here")
    assert environment["PATH"].split(os.pathsep)[0] == str(Path(sys.executable).parent)
    assert environment["FEDMINET_SITE"] == "here"
