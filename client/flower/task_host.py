"""The site's host of tasks: it runs each ClientApp task in a fresh process, and only for the admitted bundle.

Flower starts a program for every message, and a fresh interpreter spends seconds of processor time importing the
same libraries. This host imports them once and forks a process for each task. What SuperExec finds under the name
`flwr-clientapp` is a few lines that hand their arguments over through a socket in the site's own folder.

A task is the host's, not SuperExec's: it goes on where SuperExec ends. It is forked by a watcher, which tells the
node at once where the task's process ended without having said so itself; the node then gives the task out again
(see client.flower.node_state). Where the watcher is killed too, the node misses the task's signs of life. The tasks
of a host that was killed are ended before the next one is started (see ChildProcesses.start).

Two guards of the site stand here, in what the site installed, around whatever the server sends:

- the bundle must be the one in the kit, byte for byte, and is unpacked into an empty folder for each task, so
  that neither another bundle nor one that was edited on disk is run;
- an error leaves the site as a code; the text of an exception does not.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib
import logging
import os
import shutil
import signal
import socket
import stat
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from client.flower.timeouts import HEARTBEAT_S, patch_timeouts
from minet_core.admission.bundle_guard import guard_bundle
from minet_core.protocol.messages import code_within
from minet_core.runtime.files.atomic_write import replacing
from minet_core.runtime.json_text import parse_json
from minet_core.runtime.logs import set_up_from_environment, take_over
from minet_core.runtime.processes.flower_environment import BEGAN_VARIABLE
from minet_core.runtime.processes.task_token import STDIN_OPTION

SOCKET = "task-host.sock"
PROGRAM = "flwr-clientapp"
PRELOADED = ("client.rounds.round", "torch._dynamo")
"""What a task of ours needs: torch and the site's own rooms with it. The first optimizer that a process makes has torch
import its compiler's front end, which compiles nothing here: 800 modules, 1.1 s of a processor and 67 MB, in every task
that is forked from a process without it."""

_HAND_OVER = """\
#!{python} -IS
import json, os, socket, sys, time
os.chdir({folder!r})  # a socket's path may have 107 bytes
for left in reversed(range({tries})):
    host = socket.socket(socket.AF_UNIX)
    try:
        host.connect({socket!r})
        break
    except OSError:  # the host is being started again
        if not left:
            raise
        time.sleep(0.2)
arguments = sys.argv[1:]
if {by_input!r} in arguments:  # the token, which nobody may read in the arguments of a process
    arguments.remove({by_input!r})
    arguments += ["--token", sys.stdin.readline().strip()]
host.sendall(json.dumps(arguments).encode() + b"\\n")
host.recv(1)  # until the task's process has ended
"""

_TRIES = 5 * (HEARTBEAT_S - 2)
"""To reach the host, 5 a second; HEARTBEAT_S after it was given out, the node gives a task to another program."""

_MAX_REQUEST = 65_536

_LOG = logging.getLogger("client.flower.task_host")  # it is run as __main__


def write_program(folder: Path) -> Path:
    """Write the program that SuperExec is to find first; returns the folder for its PATH."""
    programs = folder.resolve() / "bin"
    programs.mkdir(parents=True, exist_ok=True)
    text = _HAND_OVER.format(
        python=sys.executable,
        folder=str(folder.resolve()),
        socket=SOCKET,
        tries=_TRIES,
        by_input=STDIN_OPTION,
    )
    with replacing(programs / PROGRAM) as temporary:
        temporary.write_text(text, encoding="utf-8")
        temporary.chmod(stat.S_IRWXU)
    return programs


def serve(folder: Path, *, bundle_digest: str, preloaded: Sequence[str]) -> NoReturn:
    """Fork a process for each task that is handed over, until a signal ends this one."""
    listener = _listen(folder)
    for left in folder.glob("task-*/"):  # by a task that was killed
        shutil.rmtree(left)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # ended tasks are collected by the kernel
    for module in ("flwr.supernode.cli", *preloaded):
        importlib.import_module(module)
    take_over("flwr")
    patch_timeouts()
    gc.collect()
    gc.freeze()  # a task need not look through what the host has loaded, nor copy its pages by doing so
    while True:
        connection, _ = listener.accept()
        argv = _request(connection)
        if argv is not None and os.fork() == 0:
            listener.close()
            _watch_task(argv, bundle_digest=bundle_digest)
        connection.close()


def _listen(folder: Path) -> socket.socket:
    """A socket in `folder` that no other user can reach."""
    folder.chmod(stat.S_IRWXU)
    listener = socket.socket(socket.AF_UNIX)
    former = Path.cwd()
    os.chdir(folder)  # a socket's path may have 107 bytes
    try:
        Path(SOCKET).unlink(missing_ok=True)
        listener.bind(SOCKET)
    finally:
        os.chdir(former)
    listener.listen(16)
    return listener


def _request(connection: socket.socket) -> list[str] | None:
    """The arguments handed over; None for what is not a list of texts."""
    connection.settimeout(5.0)
    received = b""
    with contextlib.suppress(OSError, ValueError):
        while not received.endswith(b"\n") and len(received) < _MAX_REQUEST:
            part = connection.recv(_MAX_REQUEST)
            if not part:
                return None
            received += part
        argv = parse_json(received)
        if isinstance(argv, list) and all(isinstance(argument, str) for argument in argv):
            return argv
    return None


def _watch_task(argv: list[str], *, bundle_digest: str) -> NoReturn:
    """Run one task in a process of its own, see to its end in this one, and end it too."""
    argv = _without_parent(argv)
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        with tempfile.TemporaryDirectory(prefix="task-", dir=os.environ["FLWR_HOME"]) as home:
            task = os.fork()
            if task == 0:
                _run_task(argv, home=home, bundle_digest=bundle_digest)
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)  # the task gets them as well, and ends
            _, status = os.waitpid(task, 0)
        if os.WIFSIGNALED(status):
            _LOG.warning("a task was ended by signal %d", os.WTERMSIG(status))
            _tell_node(argv)
    except BaseException:  # this process ends here, whatever happened
        _LOG.exception("the watcher of a task failed")
    finally:
        _end_process(0)


def _without_parent(argv: list[str]) -> list[str]:
    """The arguments without `--parent-pid PID`: Flower's task gives up its work when SuperExec is gone."""
    if "--parent-pid" not in argv:
        return argv
    place = argv.index("--parent-pid")
    return argv[:place] + argv[place + 2 :]


def _tell_node(argv: list[str]) -> None:
    """Tell the node, with the task's own token, that the task has failed."""
    from flwr.common.constant import SubStatus
    from flwr.proto.runtime_pb2 import PushTaskOutputRequest
    from flwr.supercore.interceptors import RuntimeTokenHttpInterceptor, RuntimeVersionHttpInterceptor
    from flwr.supercore.runtime import RuntimeHttpClient

    parser = argparse.ArgumentParser()
    parser.add_argument("--runtime-api-address", required=True)
    parser.add_argument("--token", required=True)
    options, _ = parser.parse_known_args(argv)
    client = RuntimeHttpClient.from_server_address(
        server_address=options.runtime_api_address,
        insecure=True,
        root_certificates=None,
        interceptors=[
            RuntimeVersionHttpInterceptor(component_name=PROGRAM),
            RuntimeTokenHttpInterceptor(options.token),
        ],
    )
    client.PushTaskOutput(PushTaskOutputRequest(sub_status=SubStatus.FAILED, details="killed"))
    client.close()


def _run_task(argv: list[str], *, home: str, bundle_digest: str) -> NoReturn:
    """Run one task in this forked process, as Flower's own program would, and end the process."""
    status = 1
    try:
        os.environ["FLWR_HOME"] = home
        os.environ[BEGAN_VARIABLE] = repr(time.time())
        _put_guards(bundle_digest)
        sys.argv = [PROGRAM, *argv]
        from flwr.supernode.cli import flwr_clientapp

        try:
            flwr_clientapp()
            status = 0
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # this process ends here, whatever happened
        _LOG.exception("a task failed")
    finally:
        _end_process(status)


def _end_process(status: int) -> NoReturn:
    """End this forked process without what the host would do at its own end."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _put_guards(bundle_digest: str) -> None:
    """Set the site's two guards into Flower's runner of a task (flwr 1.42, `run_clientapp`)."""
    runner: Any = importlib.import_module("flwr.supernode.runtime.run_clientapp")
    install, error = runner.install_from_fab, runner.Error

    def guarded_install(content: bytes, *args: Any, **options: Any) -> Path:
        guard_bundle(content, digest=bundle_digest)
        return Path(install(content, *args, **options))

    def error_as_code(code: int, reason: str | None = None) -> Any:
        return error(code=code, reason=code_within(reason))

    runner.install_from_fab = guarded_install
    runner.Error = error_as_code


if __name__ == "__main__":
    set_up_from_environment()
    serve(Path(sys.argv[1]), bundle_digest=sys.argv[2], preloaded=sys.argv[3:])
