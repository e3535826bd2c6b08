"""The machines of the guide as folders, and somebody who sits at their terminals: gives commands, answers questions,
compares digits by telephone.
"""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.proxy_front import Front, nginx_front
from tests.support.warm_python import KILL

WITHIN_S = 300.0
"""For what takes seconds: a busy machine has its time."""

PASSPHRASE = "four words of a trial"
PASSWORD = "another four words of it"
NEW_PASSPHRASE = "five other words of a trial"

_DIGITS = re.compile(r"^\s*(\d{5}(?: \d{5}){7})\s*$", re.MULTILINE)
_SAME = "Does the site read out the same digits by telephone?"
_SAME_AUTHORITY = "Does the coordinator read out the same digits by telephone?"


@dataclass(frozen=True)
class Ended:
    """What a command printed, and its exit status."""

    status: int
    printed: str


@dataclass
class Machines:
    """A folder for each machine, and what runs there.

    substitutions: what is put in the place of a printed word. warm: whether `fedminet` hands over to a warm process.
    proxy: nginx's port and what stands behind it; None where there is none.
    """

    folder: Path
    environment: Mapping[str, str]
    substitutions: Mapping[str, str]
    warm: bool
    proxy: tuple[int, str] | None = None
    front: Front | None = None
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    spoken: dict[str, str] = field(default_factory=dict)
    """By machine, the forty digits that were printed there last: what is read out by telephone."""
    passphrase: str = PASSPHRASE
    _opened: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    _seen: tuple[bytes, ...] = ()

    def at(self, machine: str) -> Path:
        """The folder in which somebody at `machine` gives commands."""
        path = self.folder / machine
        path.mkdir(exist_ok=True)
        return path

    def substituted(self, script: str) -> str:
        for printed, put in self.substitutions.items():
            script = script.replace(printed, put)
        return script

    def give(self, machine: str, script: str) -> Ended:
        """Give commands at a terminal until one fails; questions are answered as a person would."""
        master, slave = pty.openpty()
        process = subprocess.Popen(
            ["bash", "-euo", "pipefail", "-c", self.substituted(script)],
            cwd=self.at(machine),
            env=dict(self.environment),
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )
        os.close(slave)
        try:
            printed = self._talked(master, process, machine)
        finally:
            os.close(master)
            if process.poll() is None:
                process.kill()
            process.wait()
        if digits := _DIGITS.findall(printed):
            self.spoken[machine] = digits[-1]
        return Ended(process.returncode, printed)

    def start(self, machine: str, command: str) -> None:
        """Start what keeps running, in a terminal of its own."""
        log = self.log(command)
        with log.open("ab") as stream:
            self.running[command] = subprocess.Popen(
                ["bash", "-c", f"exec {self.substituted(command)}"],
                cwd=self.at(machine),
                env=dict(self.environment),
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def log(self, command: str) -> Path:
        """Where what a command says goes that keeps running."""
        return self.folder / f"{re.sub(r'[^a-z]+', '-', command)}.log"

    def interrupt(self, command: str) -> int:
        """Ctrl-C for what keeps running and begins like this; its exit status."""
        return self._end(command, signal.SIGINT)

    def kill(self, command: str) -> None:
        """The power goes."""
        self._end(command, KILL if self.warm else signal.SIGKILL)

    def wait(self, command: str) -> int:
        """Wait for the end of what was started; its exit status."""
        return self._taken(command).wait(timeout=WITHIN_S)

    def tell_proxy(self, pki: Path) -> None:
        """Start the proxy once its files are there; later let it read them again, as its container does by itself."""
        if self.proxy is None or not (pki / "nodes.map").is_file():
            return
        if self.front is None:
            port, upstream = self.proxy
            front = nginx_front(pki, self.folder / "nginx", upstream=upstream, port=port)
            self.front = self._opened.enter_context(front)
        elif (content := _contents(pki)) != self._seen:
            self._seen = content
            self.front.process.send_signal(signal.SIGHUP)

    def end_all(self) -> None:
        """Whatever still runs."""
        for command in list(self.running):
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.interrupt(command)
        self._opened.close()

    def _end(self, command: str, number: int) -> int:
        process = self._taken(command)
        if process.poll() is None:
            process.send_signal(number)
        return process.wait(timeout=WITHIN_S)

    def _taken(self, command: str) -> subprocess.Popen[bytes]:
        (found,) = [key for key in self.running if key.startswith(command)]
        return self.running.pop(found)

    def _talked(self, terminal: int, process: subprocess.Popen[bytes], machine: str) -> str:
        printed, answered = "", 0
        ends = time.monotonic() + WITHIN_S
        while time.monotonic() < ends:
            ready, _, _ = select.select([terminal], [], [], 0.1)
            if ready:
                try:
                    block = os.read(terminal, 65536)
                except OSError:  # everybody at the other end has closed it
                    process.wait(timeout=WITHIN_S)  # the terminal's end would end what still runs
                    return printed.replace("\r\n", "\n")
                printed += block.decode(errors="replace")
                if (answer := self._answer(printed[answered:], machine)) is not None:
                    answered = len(printed)
                    os.write(terminal, answer.encode() + b"\n")
            elif process.poll() is not None:
                return printed.replace("\r\n", "\n")
        raise AssertionError(f"a command did not end:\n{printed}")

    def _answer(self, asked: str, machine: str) -> str | None:
        """What a person types; None where nothing is asked."""
        if asked.endswith("[y/N]: "):
            other = {_SAME: "hospital", _SAME_AUTHORITY: "coordinator"}
            (heard,) = [self.spoken[end] for question, end in other.items() if question in asked]
            (shown,) = _DIGITS.findall(asked.replace("\r\n", "\n"))
            return "y" if shown == heard else "n"
        if asked.endswith("Passphrase of the federation's authority: ") and "The new passphrase:" in asked:
            self.passphrase = NEW_PASSPHRASE
        if asked.endswith(("Passphrase of the federation's authority: ", "The same again: ")):
            return self.passphrase
        if asked.endswith(("Password: ", "Repeat for confirmation: ")):
            return PASSWORD
        return None


def _contents(pki: Path) -> tuple[bytes, ...]:
    """Of the files that the proxy reads."""
    return tuple((pki / name).read_bytes() for name in ("server.pem", "crl.pem", "nodes.map"))
