"""A site whose status is asked for: processes that hold what a client or a task holds, and checks that all pass."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from client.status.current_task import Request
from client.status.finding import CONFIGURATION, Finding
from client.status.site_status import read_status
from client.status.status_file import Registration
from tests.support.repository import ROOT

ASKED = Request("train", "study", 7, "message-1")
IN_ORDER = [Finding(check, "ok", "in order") for check in CONFIGURATION]
LET_IN = Registration(True, 1000.0, node_id=2**63 + 11)


def status_of(home: Path, **options):  # type: ignore[no-untyped-def]
    return read_status(home, check=lambda: IN_ORDER, **options)


def held(code: str) -> subprocess.Popen[str]:
    """A process that runs `code` and then holds what it holds."""
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "holds\n"
    return process


def kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert process.stdout is not None
    process.stdout.close()
