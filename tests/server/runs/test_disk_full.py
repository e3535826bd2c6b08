"""A full disk stops a run with its message, and the run goes on when there is room: on a real small file system."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from fedminet.simulation.in_process_grid import InProcessGrid, server_identity
from minet_core.errors import DiskFull
from minet_core.runtime.files.atomic_write import sha256_of_file
from server.rounds import replies
from server.rounds.run import run_federation
from server.runs.resubmit import require_room
from server.runs.run_directory import RunDirectory
from tests.faults.trial_sites import conduct_trial, trial_federation, trial_site

ROUNDS = 6
FEDERATION = trial_federation(
    rounds=ROUNDS, model={"n_groups": 1, "n_blocks": 1, "n_features": 16, "reduction": 4}
)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("a small file system cannot be mounted here: it takes the right to mount")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def sites() -> InProcessGrid:
    names = ("sms", "umr", "fastmri")
    return InProcessGrid({name: trial_site(shift=0.1, n_training_slices=10) for name in names})


def test_a_full_disk_interrupts_a_run_and_it_goes_on_to_the_same_bytes(
    tmp_path: Path, small_disk: Path
) -> None:
    calm = conduct_trial(tmp_path, sites(), FEDERATION)
    run = RunDirectory.create(small_disk / "run", FEDERATION, engine="in-process")
    with pytest.raises(DiskFull, match=r"FM-S504.*could not be"), server_identity():
        run_federation(
            sites(), run, observer=lambda moment: _fill(small_disk) if run.state.round == 2 else None
        )
    assert run.state.status in ("interrupted", "running")  # where not even the reason found room
    assert not run.ended
    with pytest.raises(DiskFull, match="waits for room on the disk"):
        require_room(run)
    before = run.state.round
    assert before == 2
    (small_disk / "ballast").unlink()
    with server_identity():
        run_federation(sites(), run)
    assert run.state.status == "completed"
    assert sha256_of_file(run.global_model) == sha256_of_file(calm.global_model)


@pytest.mark.parametrize("reply", [1, 5])
def test_a_reply_for_which_there_is_no_room_is_no_fault_of_its_site(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reply: int
) -> None:
    """Refused, it would be missing from the round, which would be asked for again in vain and fail."""
    calm = conduct_trial(tmp_path, sites(), FEDERATION)
    run = RunDirectory.create(tmp_path / "full", FEDERATION, engine="in-process")
    written: list[Path] = []
    replacing = replies.replacing

    def full_once(path: Path) -> contextlib.AbstractContextManager[Path]:
        written.append(path)
        if len(written) == reply:
            raise DiskFull(f"{path} cannot be written", got=path)
        return replacing(path)

    monkeypatch.setattr(replies, "replacing", full_once)
    with pytest.raises(DiskFull), server_identity():
        run_federation(sites(), run)
    assert (run.state.status, run.state.attempt) == ("interrupted", 0)
    assert run.state.reason == f"FM-S504: {written[-1].name} cannot be written"
    kept = "".join(path.read_text() for path in run.path.glob("*.json*"))
    assert str(tmp_path) not in kept, "the coordinator's folders are named to whoever reads the run"
    with server_identity():
        run_federation(sites(), run)
    assert run.state.status == "completed"
    assert not any(event["event"] == "reply-refused" for event in run.events_recorded())
    assert sha256_of_file(run.global_model) == sha256_of_file(calm.global_model)


def _fill(disk: Path) -> None:
    with contextlib.suppress(OSError), (disk / "ballast").open("ab") as stream:
        while True:
            stream.write(b"\0" * 4096)
            stream.flush()
