"""`fedminet` for many commands on little processor time: a process that has imported it all forks one for each.

A fresh `fedminet` spends three seconds of a processor on imports. The program of that name hands its arguments over to
the warm process (`tests.support.warm_python`). What runs is the console script's own function.
"""

from __future__ import annotations

import contextlib
import importlib
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tests.support.repository import ROOT
from tests.support.warm_python import serve, write_stand_in

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


@contextlib.contextmanager
def warm_fedminet(folder: Path) -> Iterator[Path]:
    """A warm process, and the folder of the program `fedminet` that hands over to it. It ends with the context."""
    link, programs = folder / "warm.sock", folder / "bin"
    programs.mkdir()
    write_stand_in(programs / "fedminet", link=link)
    command = [sys.executable, "-m", "tests.operations.warm_program", str(link)]
    warm = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE)
    try:
        ends = time.monotonic() + STARTS_WITHIN_S
        while not link.exists():
            assert warm.poll() is None
            assert time.monotonic() < ends
            time.sleep(0.05)
        yield programs
    finally:
        warm.communicate()  # it ends with its standard input


def _run(arguments: list[str]) -> None:
    """The command, as the console script runs it."""
    sys.argv = ["fedminet", *arguments]
    from fedminet.main import run

    run()


if __name__ == "__main__":
    for name in PRELOADED:
        importlib.import_module(name)
    serve(Path(sys.argv[1]), _run)
