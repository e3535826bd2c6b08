"""Child processes that end with the program that started them, together with everything they started.

Every child leads its own process group. Leaving the context, Ctrl-C, SIGTERM and SIGHUP end all groups; where
the program itself is killed, a guardian process notices the end of its pipe and ends them.
"""

from __future__ import annotations

import contextlib
import errno
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import IO

from minet_core.errors import DeadlinePassed, HostError, PortInUse, ProcessDied
from minet_core.runtime.files.private_files import PRIVATE_UMASK
from minet_core.runtime.processes import guardian

GRACE_S = 8.0
"""Between SIGTERM and SIGKILL; Flower's processes give themselves 5 s to end."""

LEFT_BEHIND_GRACE_S = 5.0
"""The same for what a child that has ended by itself left running: it is in the way of its successor."""

_TAIL_LINES = 15
_GIVEN_PORTS = Path("/proc/sys/net/ipv4/ip_local_port_range")
_MIN_FREE_PORT = 20_000
_ENDING_SIGNALS = (signal.SIGTERM, signal.SIGHUP)


@dataclass
class Child:
    """One started process. `needed`: its end is a failure of the whole."""

    name: str
    process: subprocess.Popen[bytes]
    log_path: Path
    needed: bool

    @property
    def lives(self) -> bool:
        return self.process.poll() is None

    def log_tail(self) -> str:
        """The last lines that the child logged."""
        if not self.log_path.exists():
            return ""
        lines = self.log_path.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join([line for line in lines if line.strip()][-_TAIL_LINES:])


class ChildProcesses:
    """The children of one program; a context manager to be entered in the main thread.

    Inside the context SIGTERM and SIGHUP raise SystemExit, as Ctrl-C raises KeyboardInterrupt, so that the
    children are ended on the way out. A second signal while they are being ended kills them at once.

    Parameters
    ----------
    grace_s
        Between SIGTERM and SIGKILL, s.
    """

    def __init__(self, *, grace_s: float = GRACE_S) -> None:
        self._grace_s = grace_s
        self._children: dict[str, Child] = {}
        self._guardian: subprocess.Popen[bytes] | None = None
        self._former_handlers: dict[int, object] = {}

    def __enter__(self) -> ChildProcesses:
        script = Path(guardian.__file__)
        self._guardian = subprocess.Popen(
            [sys.executable, "-I", "-S", str(script), str(self._grace_s)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        if threading.current_thread() is threading.main_thread():
            for number in _ENDING_SIGNALS:
                if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
                    self._former_handlers[number] = signal.signal(number, _exit_on_signal)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.end_all()
        finally:
            for number, handler in self._former_handlers.items():
                signal.signal(number, handler)  # type: ignore[arg-type]
            self._former_handlers.clear()
            if self._guardian is not None:
                with contextlib.suppress(BrokenPipeError):
                    _input_of(self._guardian).close()
                self._guardian.wait()
                self._guardian = None

    def start(
        self,
        name: str,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        log_path: Path,
        needed: bool = True,
    ) -> Child:
        """Start a child process. What it writes, its log included, is for this user alone.

        A child of the same name must have ended before; what it had started and left running is ended first, so that
        its successor finds no ports, files or tasks in the hands of an orphan.

        Parameters
        ----------
        name
            For messages, and to end it by.
        argv
            Program and arguments.
        env
            Its whole environment; None for this process's.
        log_path
            The child's output is appended to it.
        needed
            Its end is a failure of the whole: see `check`.

        Returns
        -------
        Child
            Which runs.

        Raises
        ------
        HostError
            FM-S500, outside the context, and where a child of this name runs.
        """
        if self._guardian is None:
            raise HostError(f"{name} was started outside the context that ends it")
        if name in self._children:
            if self._children[name].lives:
                raise HostError(f"a child process {name} runs already")
            former = self._children.pop(name)
            self._end([former], hurry=lambda: False, grace_s=min(LEFT_BEHIND_GRACE_S, self._grace_s))
        log_path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        signals: list[int] = []
        with (
            open(log_path, "ab", opener=_private) as log,
            _signals_into(signals),
        ):  # nobody would end a child that is not known yet
            process = subprocess.Popen(
                list(argv),
                env=None if env is None else dict(env),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                umask=PRIVATE_UMASK,
            )
            child = self._children[name] = Child(name, process, log_path, needed)
            self._tell_guardian("+", process.pid)
        for number in signals[:1]:
            signal.raise_signal(number)
        return child

    def __iter__(self) -> Iterator[Child]:
        return iter(list(self._children.values()))

    def check(self) -> None:
        """Refuse to go on where a needed child has ended.

        Raises
        ------
        ProcessDied
            FM-S503, with the end of its log.
        """
        for child in self:
            if child.needed and not child.lives:
                tail = child.log_tail()
                raise ProcessDied(
                    f"{child.name} ended" + (f". The end of its log:\n{tail}\n" if tail else ""),
                    got=f"exit status {child.process.returncode}",
                    action=f"Read {child.log_path}",
                )

    def wait_until(
        self, predicate: Callable[[], bool], *, deadline_s: float, what: str, interval_s: float = 0.1
    ) -> None:
        """Wait until something holds. The last look begins after the deadline, however long the machine stalled.

        Parameters
        ----------
        predicate
            Asked again and again.
        deadline_s
            Seconds.
        what
            What is waited for, for the message.
        interval_s
            Seconds between two questions.

        Raises
        ------
        ProcessDied
            FM-S503, as soon as a needed child ends.
        DeadlinePassed
            FM-S505, after `deadline_s`.
        """
        ends = time.monotonic() + deadline_s
        while True:
            is_late = time.monotonic() > ends
            self.check()
            if predicate():
                return
            if is_late:
                raise DeadlinePassed(
                    f"waited in vain until {what}", got=f"{deadline_s:g} s", action="Read the logs"
                )
            time.sleep(interval_s)

    def end(self, *names: str) -> None:
        """End these children and all that they started.

        Parameters
        ----------
        *names
            One that is not known is passed over.
        """
        ended = [self._children.pop(name) for name in names if name in self._children]
        self._end(ended, hurry=lambda: False)

    def end_all(self) -> None:
        """End every child and all that they started; a signal meanwhile kills them at once."""
        signals: list[int] = []
        with _signals_into(signals):
            self._end(list(self), hurry=lambda: bool(signals))
        self._children.clear()

    def _end(
        self, children: Sequence[Child], *, hurry: Callable[[], bool], grace_s: float | None = None
    ) -> None:
        def collect() -> None:
            for child in children:
                child.process.poll()

        groups = [child.process.pid for child in children]
        guardian.end_groups(
            groups, grace_s=self._grace_s if grace_s is None else grace_s, hurry=hurry, reap=collect
        )
        for child in children:
            child.process.wait()
            self._tell_guardian("-", child.process.pid)

    def _tell_guardian(self, sign: str, group: int) -> None:
        if self._guardian is None:
            return
        with contextlib.suppress(BrokenPipeError):
            stream = _input_of(self._guardian)
            stream.write(f"{sign}{group}\n".encode())
            stream.flush()


def child_environment(**variables: str) -> dict[str, str]:
    """This process's environment, with the programs of this Python found first.

    Parameters
    ----------
    **variables
        Added to it, or in the place of its own.

    Returns
    -------
    dict of str
        For a child process.
    """
    programs = str(Path(sys.executable).parent)
    path = os.pathsep.join([programs, os.environ.get("PATH", os.defpath)])
    return {**os.environ, "PATH": path, "PYTHONUNBUFFERED": "1", **variables}


def program(name: str) -> str:
    """The path of a program that is installed beside this Python.

    Parameters
    ----------
    name
        Without a folder.

    Returns
    -------
    str
        Its whole path.

    Raises
    ------
    HostError
        FM-S500, where it is not there.
    """
    path = Path(sys.executable).parent / name
    if not path.exists():
        raise HostError(f"the program {name} is missing", got=path.parent, action="Install fedminet again")
    return str(path)


def free_port(host: str = "127.0.0.1") -> int:
    """A TCP port that nobody listens on now, and that the system gives to no outgoing connection meanwhile.

    Parameters
    ----------
    host
        Address that it is to be free at.

    Returns
    -------
    int
        20000 or above as a rule; it may be taken by another process meanwhile.
    """
    lowest_given = int(_GIVEN_PORTS.read_text(encoding="ascii").split()[0]) if _GIVEN_PORTS.exists() else 0
    ports = range(_MIN_FREE_PORT, lowest_given)
    for port in random.SystemRandom().sample(ports, k=min(100, len(ports))):
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind((host, port))
            return port
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def require_port_free(host: str, port: int) -> None:
    """Refuse a port at which somebody listens.

    Parameters
    ----------
    host
        An address of this machine.
    port
        TCP.

    Raises
    ------
    PortInUse
        FM-S501, where somebody listens.
    HostError
        FM-S500, where `host` is not of this machine.
    """
    with socket.socket() as probe:
        probe.setsockopt(
            socket.SOL_SOCKET, socket.SO_REUSEADDR, 1
        )  # a connection that is closing does not count
        try:
            probe.bind((host, port))
        except OSError as failure:
            if failure.errno == errno.EADDRINUSE:
                raise PortInUse(
                    f"port {port} of {host} is in use",
                    got="another process listens there",
                    action="End that process or choose another port",
                ) from failure
            raise HostError(f"cannot listen on {host}:{port}", got=failure.strerror) from failure


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _exit_on_signal(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


@contextlib.contextmanager
def _signals_into(received: list[int]) -> Iterator[None]:
    """Collect signals instead of acting on them, but for one that is ignored; outside the main thread, do nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    former = {
        number: signal.signal(number, lambda number, _frame: received.append(number))
        for number in (signal.SIGINT, *_ENDING_SIGNALS)
        if signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _input_of(process: subprocess.Popen[bytes]) -> IO[bytes]:
    assert process.stdin is not None
    return process.stdin
