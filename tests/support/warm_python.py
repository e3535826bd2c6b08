"""A Python that has read torch, for programs of a second: each is forked from one process that has imported it.

A test that ends a process, or asks what a command prints, starts a Python of its own, and most of such a program is the
import of torch and of the readers of scans, two seconds of a processor. `warm_python` gives a program that takes the
place of `sys.executable`: what it runs is a process of its own, in its folder, with its environment and its open files,
whose libraries are there already. No module of ours is: each is imported by the program itself.

Of no use where the start is what is asked for (modules that are loaded, time, memory), nor for a program that lets a
library read its environment at import. The end of the program, by a signal too, is that of its stand-in, and a
stand-in that is killed takes its program with it.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import importlib
import json
import os
import runpy
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import NoReturn

from tests.support.repository import ROOT

# The first optimizer of a process has torch import its compiler's front end: a second.
_OF_TORCH = ("torch", "torch._dynamo", "safetensors")
_OF_SCANS = ("numpy", "scipy.ndimage", "scipy.optimize", "h5py", "nibabel", "pydicom", "SimpleITK")
_OF_COMMANDS = ("pydantic", "yaml", "typer", "rich.console", "httpx", "cryptography.x509")
_OF_FLOWER = ("flwr.app", "flwr.clientapp", "flwr.serverapp")
PRELOADED = (*_OF_TORCH, *_OF_SCANS, *_OF_COMMANDS, *_OF_FLOWER)

KILL = signal.SIGUSR1
"""To the stand-in: kill what it stands for."""

_STAND_IN = """\
#!{python} -IS
import json, os, signal, socket, sys
first = sys.argv[1:2]
if {as_python} and (not first or first[0][:1] == "-" and first[0] not in ("-c", "-m")):
    os.execv({python!r}, [{python!r}, *sys.argv[1:]])
link = socket.socket(socket.AF_UNIX)
link.connect({path!r})
socket.send_fds(link, [b"."], [0, 1, 2])
mask = os.umask(0)
asked = json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ), mask]).encode()
link.sendall(len(asked).to_bytes(4, "big") + asked)
process = int.from_bytes(link.recv(4), "big")
for number, sent in ((signal.SIGINT, signal.SIGINT), (signal.SIGTERM, signal.SIGTERM), ({kill:d}, signal.SIGKILL)):
    signal.signal(number, lambda _number, _frame, sent=sent: os.kill(process, sent))
link.sendall(b"b")  # it may begin: a signal finds it from here on
answer = link.recv(2)
if len(answer) < 2:
    sys.exit(255)
if answer[1]:
    signal.signal(answer[1], signal.SIG_DFL) if answer[1] != signal.SIGKILL else None
    os.kill(os.getpid(), answer[1])
os._exit(answer[0])
"""


def write_stand_in(path: Path, *, link: Path, as_python: bool = False) -> None:
    """Write the program that hands its arguments over to the warm process that listens at `link`.

    as_python: with options that no warm process can follow, it becomes a usual Python.
    """
    text = _STAND_IN.format(python=sys.executable, path=str(link), kill=KILL, as_python=as_python)
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)


@functools.cache
def warm_python() -> str:
    """In place of `sys.executable`, from this process's first call to its end."""
    folder = Path(tempfile.mkdtemp(prefix="warm-python-"))
    link, program = folder / "link", folder / "python"
    write_stand_in(program, link=link, as_python=True)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-m", "tests.support.warm_python", str(link)]
    warm = subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        umask=0o022,
        start_new_session=True,  # a Ctrl-C is for the tests: it ends with its standard input
    )
    assert warm.stdin is not None
    assert warm.stdout is not None
    assert warm.stdout.readline() == b"ready\n"

    def end() -> None:
        warm.communicate()
        shutil.rmtree(folder, ignore_errors=True)

    atexit.register(end)
    return str(program)


def serve(link: Path, run: Callable[[list[str]], None], *, ready: Callable[[], None] = lambda: None) -> None:
    """Run every command that is handed over, each in a process of its own, until standard input ends.

    run: what a command's arguments ask for; it ends as a program ends. ready: called once commands are taken.
    """
    signal.signal(signal.SIGCHLD, _collect)
    with socket.socket(socket.AF_UNIX) as listener:
        beside = link.with_suffix(".new")  # who sees the link finds somebody listening
        listener.bind(str(beside))
        listener.listen(16)
        beside.rename(link)
        ready()
        while True:
            found, _, _ = select.select([listener.fileno(), 0], [], [])
            if 0 in found:
                return
            asked, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                _watch(asked, run)
            asked.close()


def _collect(_number: int, _frame: object) -> None:
    """So that the processor time of what has ended is this process's."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _watch(asked: socket.socket, run: Callable[[list[str]], None]) -> NoReturn:
    """Fork the command's process, say its number, let it begin, wait for its end, and say how it was."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _, files, _, _ = socket.recv_fds(asked, 1, 3)
    length = int.from_bytes(asked.recv(4, socket.MSG_WAITALL), "big")
    arguments, folder, environment, mask = json.loads(asked.recv(length, socket.MSG_WAITALL))
    may_begin, lets_begin = os.pipe()
    if (process := os.fork()) == 0:
        asked.close()
        os.close(lets_begin)
        os.read(may_begin, 1)
        os.close(may_begin)
        os.umask(mask)
        _become(files, folder, environment)
        _end_as_a_program(lambda: run(arguments))
    for file in (*files, may_begin):
        os.close(file)
    ended = os.pidfd_open(process)
    with contextlib.suppress(OSError):
        asked.sendall(process.to_bytes(4, "big"))
        if asked.recv(1):
            os.close(lets_begin)
        if ended not in select.select([asked.fileno(), ended], [], [])[0]:  # its stand-in is gone
            os.kill(process, signal.SIGKILL)
    _, status = os.waitpid(process, 0)
    code = os.waitstatus_to_exitcode(status)
    with contextlib.suppress(OSError):
        asked.sendall(bytes([max(code, 0), max(-code, 0)]))
    os._exit(0)


def _become(files: list[int], folder: str, environment: dict[str, str]) -> None:
    """Take over the stand-in's open files, folder and environment."""
    os.setsid()
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    unbuffered = bool(environment.get("PYTHONUNBUFFERED"))
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    for number, name in ((1, "stdout"), (2, "stderr")):
        stream = open(number, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        stream.reconfigure(
            line_buffering=number == 2 or stream.isatty(), write_through=unbuffered, errors="backslashreplace"
        )
        setattr(sys, name, stream)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if "torch" in sys.modules and "OMP_NUM_THREADS" in environment:
        sys.modules["torch"].set_num_threads(int(environment["OMP_NUM_THREADS"]))


def _end_as_a_program(run: Callable[[], None]) -> NoReturn:
    code = 0
    try:
        try:
            run()
        finally:
            threading._shutdown()  # type: ignore[attr-defined]
            atexit._run_exitfuncs()
    except SystemExit as ending:
        if not (ending.code is None or isinstance(ending.code, int)):
            print(ending.code, file=sys.stderr)
        code = ending.code if isinstance(ending.code, int) else int(ending.code is not None)
    except KeyboardInterrupt:
        traceback.print_exc()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        _flush()
        os.kill(os.getpid(), signal.SIGINT)
    except BaseException:
        traceback.print_exc()
        code = 1
    _flush()
    os._exit(code & 255)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()


def _python(arguments: list[str]) -> None:
    """`-c CODE`, `-m MODULE` or a file, with its arguments, as Python runs it."""
    kind, *rest = arguments
    first = str(Path.cwd()) if kind == "-m" else "" if kind == "-c" else str(Path(kind).resolve().parent)
    named = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.path[:] = [*([] if os.environ.get("PYTHONSAFEPATH") else [first]), *named, *sys.path[1:]]
    if kind == "-m":
        sys.argv = rest
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
        return
    main = sys.modules["__main__"] = ModuleType("__main__")
    if kind == "-c":
        sys.argv = ["-c", *rest[1:]]
        exec(compile(rest[0], "<string>", "exec"), main.__dict__)
        return
    sys.argv = arguments
    main.__file__ = kind
    exec(compile(Path(kind).read_bytes(), kind, "exec"), main.__dict__)


if __name__ == "__main__":
    for name in PRELOADED:
        importlib.import_module(name)
    serve(Path(sys.argv[1]), _python, ready=lambda: print("ready", flush=True))
