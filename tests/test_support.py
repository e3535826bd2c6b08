"""What the tests' own helpers promise: processor seconds are counted, a failure shows the logs, a program that finds
torch loaded is a process of its own, and what is made once is."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support import made_once
from tests.support.deployment_logs import N_LINES, ends_of_logs, logs_shown
from tests.support.processor_time import processor_seconds
from tests.support.repository import ROOT
from tests.support.warm_python import KILL, warm_python

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
    assert -0.001 < ended - running < 0.4  # a sum of many numbers, whose last digit may be less


def test_a_program_of_the_warm_python_has_its_own_arguments_folder_environment_and_end(
    tmp_path: Path,
) -> None:
    code = (
        "import os, sys\nprint(os.getcwd(), sys.argv, os.environ['CHOSEN'], __name__, sys.stdin.read())\n"
        "print(*{'torch', 'minet_core', 'sites'} & set(sys.modules))\nsys.exit(3)"
    )
    environment = {**os.environ, "CHOSEN": "by the test"}
    done = subprocess.run(
        [warm_python(), "-c", code, "one"],
        cwd=tmp_path, env=environment, input="said", capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (3, "")
    assert done.stdout == f"{tmp_path} ['-c', 'one'] by the test __main__ said\ntorch\n"
    script = tmp_path / "script.py"
    script.write_text("import os, sys; assert __file__ == sys.argv[0]; os.kill(os.getpid(), 9)")
    assert subprocess.run([warm_python(), str(script)], check=False).returncode == -9
    failed = subprocess.run([warm_python(), "-c", "1 / 0"], capture_output=True, text=True, check=False)
    assert failed.returncode == 1
    assert failed.stderr.splitlines()[-1] == "ZeroDivisionError: division by zero"
    usual = subprocess.run([warm_python(), "-V"], capture_output=True, text=True, check=False)
    assert usual.stdout.startswith("Python 3.")


@pytest.mark.parametrize(("number", "at_once"), [(KILL, True), (signal.SIGKILL, False)])
def test_a_program_of_the_warm_python_ends_with_what_stands_for_it(
    number: signal.Signals, at_once: bool
) -> None:
    code = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
    with subprocess.Popen([warm_python(), "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        program = Path("/proc", process.stdout.readline().strip())
        assert program.exists()
        process.send_signal(number)
        assert process.wait() == -signal.SIGKILL
        ends = time.monotonic() + 30
        while not at_once and program.exists() and time.monotonic() < ends:
            time.sleep(0.01)
        assert not program.exists()


def test_what_is_made_once_is_made_once_and_what_fails_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(made_once.VARIABLE, str(tmp_path / "made"))
    calls = []

    def make(folder: Path) -> None:
        calls.append(folder)
        (folder / "part").write_text("whole")
        if len(calls) == 1:
            raise OSError("it fails at first")

    with pytest.raises(OSError, match="at first"):
        made_once.made_once("name", make)
    first, second = (made_once.made_once("name", make) for _ in range(2))
    assert first == second == tmp_path / "made" / "name"
    assert (first / "part").read_text() == "whole"
    assert len(calls) == 2


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
