"""What the tests' own helpers promise: processor seconds are counted, and a failure shows the logs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.deployment_logs import N_LINES, ends_of_logs, logs_shown
from tests.support.processor_time import processor_seconds
from tests.support.repository import ROOT

WORK = (
    "import sys, time\nwhile time.process_time() < 0.5: pass\nprint('worked', flush=True)\nsys.stdin.read()"
)

FAILING = """
def test_that_waits_in_vain(tmp_path):
    (tmp_path / "supernode.log").write_text("first line\\n" + "filling\\n" * 29 + "refused: no such key\\n")
    assert False
"""


def test_the_seconds_of_a_child_count_while_it_runs_and_once_after_it_ended() -> None:
    before = processor_seconds()
    with subprocess.Popen(
        [sys.executable, "-c", WORK], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "worked\n"
        running = processor_seconds()
        child.communicate()
    ended = processor_seconds()
    assert 0.45 < running - before < 5.0
    assert 0.0 <= ended - running < 0.4


def test_the_ends_of_the_logs_that_were_written_since(tmp_path: Path) -> None:
    for name, age_s in (("old", 100.0), ("new", 0.0)):
        path = tmp_path / name / "node.log"
        path.parent.mkdir()
        path.write_text("".join(f"{name} {number}\n" for number in range(N_LINES + 5)))
        os.utime(path, (time.time() - age_s, time.time() - age_s))
    shown = ends_of_logs(tmp_path, since=time.time() - 50).splitlines()
    assert shown == ["--- new/node.log, 35 lines", *(f"new {number}" for number in range(5, N_LINES + 5))]
    with pytest.raises(ValueError, match="in vain") as caught, logs_shown(tmp_path):
        raise ValueError("in vain")
    assert "old 34" in caught.value.__notes__[0]


def test_a_test_that_fails_shows_the_logs(tmp_path: Path) -> None:
    """In a process of its own, with the tests' own configuration."""
    (tmp_path / "test_waiting.py").write_text(FAILING)
    shutil.copyfile(ROOT / "tests" / "conftest.py", tmp_path / "conftest.py")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--rootdir", tmp_path, tmp_path],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert "supernode.log, 31 lines" in done.stdout
    assert "refused: no such key" in done.stdout
    assert "first line" not in done.stdout.partition("Ends of the processes' logs")[2]
