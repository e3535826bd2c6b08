"""`fedminet` for many commands on little processor time: a process that has imported it all forks one for each.

A fresh `fedminet` spends three seconds of a processor on imports. `client_program` writes a program of that name,
which hands its arguments, folder, environment and open files over to the warm process, and passes signals on. What
runs is the console script's own function.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from tests.support.repository import ROOT

PRELOADED = (
    "fedminet.main",
    "server.runs.follow",
    "server.processes.server_processes",
    "server.backup.restore",
    "server.admission.enrolment",
    "server.dashboard.app",
    "client.preflight.preflight",
    "client.processes.site_processes",
    "client.status.site_status",
    "client.admission.request",
    "sites.ingest",
)

STARTS_WITHIN_S = 180.0

KILL = signal.SIGUSR1
"""To the program that `client_program` writes: kill what it stands for."""

_CLIENT = """\
#!{python} -IS
import json, os, signal, socket, sys
link = socket.socket(socket.AF_UNIX)
link.connect({path!r})
socket.send_fds(link, [b"."], [0, 1, 2])
asked = json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
link.sendall(len(asked).to_bytes(4, "big") + asked)
process = int.from_bytes(link.recv(4), "big")
for number, sent in ((signal.SIGINT, signal.SIGINT), (signal.SIGTERM, signal.SIGTERM), ({kill:d}, signal.SIGKILL)):
    signal.signal(number, lambda _number, _frame, sent=sent: os.kill(process, sent))
answer = link.recv(1)
sys.exit(answer[0] if answer else 255)
"""


def client_program(path: Path, *, link: Path) -> None:
    """Write the program that hands its command over to the warm process that listens at `link`."""
    path.write_text(_CLIENT.format(python=sys.executable, path=str(link), kill=KILL), encoding="utf-8")
    path.chmod(0o755)


@contextlib.contextmanager
def warm_fedminet(folder: Path) -> Iterator[Path]:
    """A warm process, and the folder of the program `fedminet` that hands over to it. It ends with the context."""
    link, programs = folder / "warm.sock", folder / "bin"
    programs.mkdir()
    client_program(programs / "fedminet", link=link)
    warm = subprocess.Popen([sys.executable, "-m", "tests.operations.warm_program", str(link)], cwd=ROOT)
    try:
        ends = time.monotonic() + STARTS_WITHIN_S
        while not link.exists():
            assert warm.poll() is None
            assert time.monotonic() < ends
            time.sleep(0.05)
        yield programs
    finally:
        warm.terminate()
        warm.wait()


def serve(link: Path) -> NoReturn:
    """Run every command that is handed over, each in a process of its own."""
    for name in PRELOADED:
        importlib.import_module(name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(link))
        listener.listen(16)
        while True:
            asked, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                _watch(asked)
            asked.close()


def _watch(asked: socket.socket) -> NoReturn:
    """Fork the command's process, say its number, wait for its end, and say how it was."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _, files, _, _ = socket.recv_fds(asked, 1, 3)
    length = int.from_bytes(asked.recv(4, socket.MSG_WAITALL), "big")
    arguments, folder, environment = json.loads(asked.recv(length, socket.MSG_WAITALL))
    if (process := os.fork()) == 0:
        asked.close()
        _run(arguments, folder, environment, files)
    for file in files:
        os.close(file)
    with contextlib.suppress(BrokenPipeError):
        asked.sendall(process.to_bytes(4, "big"))
    _, status = os.waitpid(process, 0)
    code = os.waitstatus_to_exitcode(status)
    with contextlib.suppress(BrokenPipeError):
        asked.sendall(bytes([code if code >= 0 else 128 - code]))
    os._exit(0)


def _run(arguments: list[str], folder: str, environment: dict[str, str], files: list[int]) -> NoReturn:
    """The command, as the console script runs it."""
    code = 1
    try:
        for number, file in enumerate(files):
            os.dup2(file, number)
            os.close(file)
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
        sys.stdout = open(1, "w", encoding="utf-8", buffering=1, closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", encoding="utf-8", buffering=1, closefd=False)  # noqa: SIM115
        sys.argv = ["fedminet", *arguments]
        from fedminet.main import run

        run()
        code = 0
    except SystemExit as ending:
        code = ending.code if isinstance(ending.code, int) else int(ending.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
