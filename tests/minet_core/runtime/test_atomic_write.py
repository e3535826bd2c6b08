"""Files are whole or not there."""

from __future__ import annotations

import errno
import json
import os
import stat
from pathlib import Path

import pytest

from minet_core.errors import (
    DiskFull,
    FileNotWritten,
    FilePermission,
    FileSystemFailed,
    FileSystemReadOnly,
    PathMissing,
    PathUnusable,
    TooManyOpenFiles,
)
from minet_core.runtime.files.atomic_write import (
    append_line,
    replacing,
    sha256_of_file,
    status_of,
    write_json,
    write_note,
    write_private,
    write_text,
)


def test_a_file_is_on_the_disk_before_it_takes_its_place_and_its_name_is_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    fsync, replace_file = os.fsync, Path.replace

    def noting_fsync(descriptor: int) -> None:
        done.append(f"fsync {Path(f'/proc/self/fd/{descriptor}').readlink().name}")
        fsync(descriptor)

    def noting_replace(path: Path, target: Path) -> Path:
        done.append("replace")
        return replace_file(path, target)

    monkeypatch.setattr(os, "fsync", noting_fsync)
    monkeypatch.setattr(Path, "replace", noting_replace)
    write_json(tmp_path / "state.json", {"round": 1})
    append_line(tmp_path / "events.jsonl", {"event": "begun"})
    before, replaced, folder, line, *_ = done
    assert before.startswith("fsync .state.json.")
    assert (replaced, folder, line) == ("replace", f"fsync {tmp_path.name}", "fsync events.jsonl")


def test_an_interrupted_write_leaves_the_former_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    write_json(path, {"round": 1})

    def interrupted() -> None:
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        interrupted()
    assert json.loads(path.read_text()) == {"round": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_half_a_file_of_a_killed_process_of_the_same_number_is_in_nobody_s_way(tmp_path: Path) -> None:
    path = tmp_path / "superexec.secret"
    path.with_name(f".{path.name}.{os.getpid()}.partial").write_bytes(b"half")
    write_private(path, b"whole")
    assert path.read_bytes() == b"whole"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_said_so(tmp_path: Path) -> None:
    def full() -> None:
        with replacing(tmp_path / "model") as temporary:
            temporary.write_text("half")
            raise OSError(28, "No space left on device")

    with pytest.raises(DiskFull, match="No space left on device"):
        full()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, DiskFull),
        (errno.EDQUOT, DiskFull),
        (errno.EACCES, FilePermission),
        (errno.EPERM, FilePermission),
        (errno.EROFS, FileSystemReadOnly),
        (errno.ENAMETOOLONG, PathUnusable),
        (errno.EISDIR, PathUnusable),
        (errno.ENOENT, PathMissing),
        (errno.EMFILE, TooManyOpenFiles),
        (errno.ESTALE, FileSystemFailed),
        (errno.EIO, FileSystemFailed),
        (errno.EFBIG, FileNotWritten),
    ],
)
def test_every_refusal_is_said_as_what_it_is(tmp_path: Path, number: int, kind: type[FileNotWritten]) -> None:
    def refused() -> None:
        with replacing(tmp_path / "model"):
            raise OSError(number, os.strerror(number))

    with pytest.raises(FileNotWritten, match=os.strerror(number)) as failure:
        refused()
    assert type(failure.value) is kind


def test_a_folder_that_cannot_be_made_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PathUnusable, match=r"FM-S512.*remove what is in its way"):
        write_text(tmp_path / "file" / "below", "text")


def test_nan_is_not_json(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "x.json", {"loss": float("nan")})


def test_lines_are_appended_in_order(tmp_path: Path) -> None:
    for number in range(3):
        append_line(tmp_path / "events.jsonl", {"n": number})
    lines = (tmp_path / "events.jsonl").read_text().splitlines()
    assert [json.loads(line)["n"] for line in lines] == [0, 1, 2]


def test_the_digest_is_sha256(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")  # FIPS 180-2, appendix B.1
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256_of_file(tmp_path / "abc") == expected


def test_what_goes_between_two_looks_has_no_status(tmp_path: Path) -> None:
    """As a checkpoint that is forgotten while another process lists the folder."""
    for name in ("round-0001", "round-0002"):
        (tmp_path / name).write_bytes(b"weights")
    listed = list(tmp_path.glob("round-*"))
    listed[0].unlink()
    assert [status and status.st_size for status in map(status_of, listed)] == [None, len(b"weights")]


def test_a_note_is_whole_and_waits_for_no_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_descriptor: int) -> None:
        raise AssertionError("a note waits for the disk")

    path = tmp_path / "note.json"
    monkeypatch.setattr(os, "fsync", refused)
    write_note(path, {"round": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_note(path, {"round": float("nan")})
    assert json.loads(path.read_text()) == {"round": 1}
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(AssertionError, match="waits"):
        write_json(path, {"round": 2})
