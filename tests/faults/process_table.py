"""Finding the processes of one deployment among those of the machine, from /proc."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from client.site_home import SiteHome
from minet_core.runtime.processes.flower_environment import RUNS_VARIABLE
from server.server_home import ServerHome


@dataclass(frozen=True)
class Process:
    """A living process: its number, its parent's, its command line, its environment."""

    pid: int
    parent: int
    command: str
    environment: str


def processes() -> list[Process]:
    """Every process that this user may look into; one that ended and waits to be collected is not among them."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            stat = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            environment = (entry / "environ").read_bytes().replace(b"\0", b"\n").decode(errors="replace")
        except OSError:
            continue
        if stat[0] not in "ZX":
            found.append(Process(int(entry.name), int(stat[1]), command, environment))
    return found


def superlink_of(home: ServerHome) -> int | None:
    """The coordinator's SuperLink."""
    return _only(lambda p: "flower-superlink" in p.command and str(home.superlink / "state.db") in p.command)


def superexec_of(home: ServerHome) -> int | None:
    """The coordinator's SuperExec."""
    secret = str(home.superlink / "superexec.secret")
    return _only(lambda p: "flower-superexec" in p.command and secret in p.command)


def server_app_of(home: ServerHome) -> int | None:
    """The application that works for the coordinator now."""
    runs = f"{RUNS_VARIABLE}={home.runs}\n"
    return _only(lambda p: "flwr-serverapp" in p.command and runs in p.environment)


def supernode_of(home: SiteHome) -> int | None:
    """The site's SuperNode."""
    return _only(lambda p: " supernode " in p.command and str(home.path / "flower") in p.command)


def site_superexec_of(home: SiteHome) -> int | None:
    """The site's SuperExec."""
    return _only(lambda p: " superexec " in p.command and str(home.path / "flower") in p.command)


def task_host_of(home: SiteHome) -> int | None:
    """The site's host of tasks: the first of the processes that share its command line."""
    hosts = _tasks_and_host(home)
    pids = {process.pid for process in hosts}
    return next((process.pid for process in hosts if process.parent not in pids), None)


def task_of(home: SiteHome) -> int | None:
    """The process that works on the site's task: the last in the line host, watcher, task."""
    hosts = _tasks_and_host(home)
    by_pid = {process.pid: process for process in hosts}
    for process in hosts:
        watcher = by_pid.get(process.parent)
        if watcher is not None and watcher.parent in by_pid:
            return process.pid
    return None


def _tasks_and_host(home: SiteHome) -> list[Process]:
    folder = str(home.path / "flower")
    return [p for p in processes() if "client.flower.task_host" in p.command and folder in p.command]


def _only(matches: Callable[[Process], bool]) -> int | None:
    found = [process.pid for process in processes() if matches(process)]
    return found[0] if found else None
