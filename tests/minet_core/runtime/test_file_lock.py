"""A lock is seen by whoever has the file, and ends with its process."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from minet_core.errors import FileLockFailed
from minet_core.runtime.files import lock_beside
from minet_core.runtime.files.file_lock import held, is_locked, let_go, locked_within
from minet_core.runtime.files.lock_beside import LockBeside
from tests.support.repository import ROOT
from tests.support.without_file_locks import NO_LOCKS


def test_a_lock_is_free_when_its_process_was_killed(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert not is_locked(path)
    holder = subprocess.Popen(
        [
            *(sys.executable, "-c"),
            "import os, sys, time; from minet_core.runtime.files.file_lock import locked_within\n"
            "print(locked_within(os.open(sys.argv[1], os.O_RDWR | os.O_CREAT), 0), flush=True); time.sleep(600)",
            str(path),
        ],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "True\n"
    path.chmod(0o400)
    assert is_locked(path)
    descriptor = os.open(path, os.O_RDONLY)
    assert not locked_within(descriptor, 0.05)
    holder.kill()
    holder.wait()
    holder.stdout.close()
    assert not is_locked(path)
    assert locked_within(descriptor, 0.05)
    os.close(descriptor)


def without(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    monkeypatch.setattr(fcntl, "lockf", refuse)


@pytest.mark.parametrize("number", NO_LOCKS)
@pytest.mark.parametrize("of_posix", [False, True])
def test_without_locks_a_file_stands_for_one(
    tmp_path: Path, monkeypatch, number: int, of_posix: bool
) -> None:
    without(number, monkeypatch)
    path = tmp_path / "lock"
    one, other = (os.open(path, os.O_RDWR | os.O_CREAT) for _ in range(2))
    assert not is_locked(path)
    assert locked_within(one, 0.0, of_posix=of_posix)
    assert is_locked(path)
    assert not locked_within(other, 0.05, of_posix=of_posix)
    let_go(one)
    assert not is_locked(path)
    assert locked_within(other, None, of_posix=of_posix)
    let_go(other)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.EACCES])
def test_only_what_would_block_is_held(tmp_path: Path, monkeypatch, number: int) -> None:
    without(number, monkeypatch)
    with held(tmp_path / "lock") as taken:
        assert not taken


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE])
def test_an_error_is_neither_a_lock_nor_none(tmp_path: Path, monkeypatch, number: int) -> None:
    without(number, monkeypatch)
    with pytest.raises(FileLockFailed, match=r"FM-S515.*nobody else"), held(tmp_path / "lock"):
        pass


def test_what_an_ended_process_left_is_taken_over(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from minet_core.runtime.files.lock_beside import LockBeside\n"
        "print(LockBeside(Path(sys.argv[1])).take(), flush=True); os._exit(0)"
    )
    path = tmp_path / "lock"
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "True\n"
    lock = LockBeside(path)
    assert lock.path.exists()
    assert not lock.is_held()
    assert lock.take()
    assert lock.is_held()
    lock.remove()
    assert list(tmp_path.iterdir()) == []


def test_what_another_machine_left_is_not(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "lock"
    assert LockBeside(path).take()
    (tmp_path / "boot").write_text("another")
    monkeypatch.setattr(lock_beside, "_BOOT", tmp_path / "boot")
    monkeypatch.setattr(lock_beside, "_began", lambda process: None)
    assert not LockBeside(path).take()
    assert "where it runs no more, remove" in lock_beside.holder_beside(path)
