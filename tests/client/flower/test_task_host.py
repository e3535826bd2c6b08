"""The site's guards around a task; that they hold in a real federation is shown in tests/e2e."""

from __future__ import annotations

import contextlib
import hashlib
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from client.flower import task_host
from client.flower.task_host import PRELOADED, SOCKET, _without_parent, guard_bundle, write_program
from minet_core.errors import AdmissionRefused, ScanUnreadable
from minet_core.protocol.messages import code_within
from minet_core.runtime.processes.child_processes import ChildProcesses, child_environment

BUNDLE = b"the bundle of the kit"
DIGEST = hashlib.sha256(BUNDLE).hexdigest()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A running host, in a folder whose path is too long for a socket; a task that was killed left something."""
    tmp_path = tmp_path_factory.mktemp("host")
    folder = tmp_path / ("long-name-" * 12)
    (folder / "task-killed").mkdir(parents=True)
    with ChildProcesses() as children:
        children.start(
            "host",
            [sys.executable, "-m", "client.flower.task_host", str(folder), DIGEST],
            env=child_environment(FLWR_HOME=str(folder), FLWR_TELEMETRY_ENABLED="0"),
            log_path=tmp_path / "host.log",
        )
        children.wait_until(lambda: _listens(folder), deadline_s=120, what="the host listens")
        yield folder
        children.check()


def _listens(folder: Path) -> bool:
    """The file is there a moment before somebody listens at it."""
    with socket.socket(socket.AF_UNIX) as connection, contextlib.chdir(folder), contextlib.suppress(OSError):
        connection.connect(SOCKET)  # the path is too long for a socket
        return True
    return False


def test_the_bundle_of_the_kit_passes() -> None:
    guard_bundle(BUNDLE, digest=DIGEST)


@pytest.mark.parametrize("content", [b"", BUNDLE + b" "])
def test_another_bundle_is_refused(content: bytes) -> None:
    with pytest.raises(AdmissionRefused, match="FM-F404"):
        guard_bundle(content, digest=DIGEST)


def test_only_a_code_leaves_the_site() -> None:
    failure = ScanUnreadable("a file is truncated", got="/scans/ward-7/patient.h5")
    assert code_within(f"{type(failure)}:<'{failure}'>") == "FM-D201"
    assert code_within("<class 'KeyError'>:<'patient 42'>") == "FM-S900"
    assert code_within("") == "FM-S900"


def test_the_socket_can_be_reached_by_its_owner_alone(folder: Path) -> None:
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_task_is_run_in_a_fresh_process_that_ends(folder: Path) -> None:
    """Without a token Flower's program prints its usage: enough to see that it was started and has ended."""
    program = write_program(folder) / "flwr-clientapp"
    for _ in range(2):
        subprocess.run([str(program), "--no-such-option"], check=True, timeout=60)
    log = (folder.parent / "host.log").read_text()
    assert log.count("usage: flwr-clientapp") == 2
    assert list(folder.glob("task-*")) == [folder / SOCKET]  # nothing of the tasks is left


def test_a_task_does_not_watch_the_process_that_asked_for_it() -> None:
    """Flower's task would give up its work when its SuperExec is gone."""
    assert _without_parent(["--token", "t", "--parent-pid", "7", "--insecure"]) == [
        "--token",
        "t",
        "--insecure",
    ]
    assert _without_parent(["--token", "t"]) == ["--token", "t"]


def test_a_task_that_comes_while_the_host_is_away_waits_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        task_host, "_TRIES", 5 * 120
    )  # 8 s as shipped, which a busy machine may take to start one
    program = write_program(tmp_path) / "flwr-clientapp"
    with subprocess.Popen([str(program), "--no-such-option"]) as waiting, ChildProcesses() as children:
        children.start(
            "host",
            [sys.executable, "-m", "client.flower.task_host", str(tmp_path), DIGEST],
            env=child_environment(FLWR_HOME=str(tmp_path), FLWR_TELEMETRY_ENABLED="0"),
            log_path=tmp_path / "host.log",
        )
        assert waiting.wait(timeout=150) == 0
    assert "usage: flwr-clientapp" in (tmp_path / "host.log").read_text()


@pytest.mark.parametrize("request_", [b"\n", b"not json\n", b"{}\n", b"[1]\n", b""])
def test_what_is_no_request_is_dropped_and_the_host_goes_on(folder: Path, request_: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as connection:
        with contextlib.chdir(folder):  # its path is too long for a socket
            connection.connect(SOCKET)
        connection.sendall(request_)
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(1) == b""


_A_ROUND_OF_NOTHING = """
import importlib, itertools, os, sys
import numpy as np
first, *others = {preloaded!r}
importlib.import_module(first)
if os.fork():  # its child works beside the first alone, and says so before it
    assert os.wait()[1] == 0
    for module in others:
        importlib.import_module(module)
host_has = set(sys.modules)
from minet_core.evaluation.volume_scores import score_slices
from minet_core.models.registry import build_model
from minet_core.settings.federation import TrainingSettings
from minet_core.training.batches import random_batch
from minet_core.training.local_update import LocalState, local_update
from minet_core.training.loop import StepPlan
model = build_model({{"architecture": "minet", "n_features": 8}}, scale=2)
image = np.ones((32, 32), np.float32)
score_slices(model, [(image, image)], [0], scale=2)
batches = itertools.repeat(random_batch(16, scale=2, batch_size=1))
local_update(model, batches, StepPlan(settings=TrainingSettings(), n_steps=1, total_steps=2), LocalState())
print(*sorted(set(sys.modules) - host_has))
"""


def test_a_task_imports_nothing_that_its_host_has_not() -> None:
    """Else every task of every round imports it again: torch's first optimizer of a process brings 800 modules."""
    program = _A_ROUND_OF_NOTHING.format(preloaded=PRELOADED)
    ended = subprocess.run(
        [sys.executable, "-c", program], check=True, timeout=500, capture_output=True, text=True
    )
    beside_the_first, beside_all = (line.split() for line in ended.stdout.split("\n")[:2])
    assert len(beside_all) <= 2  # one of torch's profiler, as small as they come
    assert len(beside_the_first) > 100  # what is looked for is there
