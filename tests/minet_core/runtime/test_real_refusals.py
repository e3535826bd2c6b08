"""What a file system really refuses, produced here, is said as what it is and with what to do about it.

A small full file system, one that is mounted for reading, a folder of another user, a folder that has gone, and a read
that fails: each by its own code. What `errno` would be is not assumed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from minet_core.errors import (
    DiskFull,
    FileNotWritten,
    FilePermission,
    FileSystemFailed,
    FileSystemReadOnly,
    PathMissing,
)
from minet_core.ledger.records import Ledger
from minet_core.runtime.files.atomic_write import append_line, replacing, write_json, write_text
from minet_core.runtime.files.file_failures import naming_failures

NOBODY = 65534


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 kB of its own, whose owner is this user."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("a small file system cannot be mounted here: it takes the right to mount")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


WRITERS: dict[str, Callable[[Path], object]] = {
    "replacing": lambda folder: write_text(folder / "state.json", "x" * 100_000),
    "append": lambda folder: append_line(folder / "events.jsonl", {"event": "x" * 100_000}),
    "ledger": lambda folder: [
        Ledger(folder / "ledger").append("answered", run="x" * 900) for _ in range(200)
    ],
}


@pytest.mark.parametrize("writer", WRITERS)
def test_a_full_file_system_asks_for_room(disk: Path, writer: str) -> None:
    with pytest.raises(DiskFull, match=r"FM-S504: .*No space left on device\. Make room"):
        WRITERS[writer](disk)
    assert not list(disk.glob(".*.partial"))


@pytest.mark.parametrize("writer", WRITERS)
def test_a_mount_for_reading_asks_for_no_room(disk: Path, writer: str) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    with pytest.raises(FileSystemReadOnly, match=r"FM-S511: .*Mount it for writing"):
        WRITERS[writer](disk)


@pytest.mark.parametrize("writer", WRITERS)
def test_a_folder_of_another_user_is_named_with_both_users(writer: str) -> None:
    if os.geteuid():
        pytest.skip("only root can write as another user")
    folder = Path(tempfile.mkdtemp(dir="/dev/shm"))
    try:
        folder.chmod(0o755)
        code, message = _as_nobody(lambda: WRITERS[writer](folder))
    finally:
        shutil.rmtree(folder)
    assert code == FilePermission.code
    assert f"{folder} is user root's, mode 0755; this is user nobody" in message
    assert "Give the command as the owner" in message


def test_what_has_gone_is_not_in_the_way(tmp_path: Path) -> None:
    def gone() -> None:
        with replacing(tmp_path / "folder" / "model") as temporary:
            temporary.write_text("whole")
            shutil.rmtree(tmp_path / "folder")

    with pytest.raises(PathMissing, match=r"FM-S518: .*Look who removed it"):
        gone()


def test_a_read_that_fails_is_the_disk_s() -> None:
    """The kernel's own file answers a read at its beginning with EIO: nothing is mapped there."""
    path = Path("/proc/self/mem")
    with (
        pytest.raises(FileSystemFailed, match=r"FM-S514: .*Input/output error\. Look at the disk"),
        naming_failures(f"{path} could not be read", path=path),
        path.open("rb", buffering=0) as stream,
    ):
        stream.read(16)


def test_a_whole_write_says_nothing(disk: Path) -> None:
    write_json(disk / "state.json", {"round": 1})
    assert [path.name for path in disk.iterdir()] == ["state.json"]


def _as_nobody(act: Callable[[], object]) -> tuple[str, str]:
    """The code and the message of the failure in a process of a user without rights."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        said = "none\n"
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            act()
        except FileNotWritten as failure:
            said = f"{failure.code}\n{failure}"
        finally:
            os.write(writer, said.encode())
            os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    with os.fdopen(reader, encoding="utf-8") as stream:
        code, _, message = stream.read().partition("\n")
    return code, message
