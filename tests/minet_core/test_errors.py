"""Failures say what to do, and survive the way between processes."""

from __future__ import annotations

import pickle
from pathlib import Path

from minet_core import errors
from minet_core.errors import INTERNAL_CODE, FedminetError, FileMissing, ScanInvalid, code_of


def all_classes(root: type[FedminetError] = FedminetError) -> list[type[FedminetError]]:
    return [root, *(found for child in root.__subclasses__() for found in all_classes(child))]


def test_a_message_has_what_got_expected_and_action() -> None:
    failure = ScanInvalid("a scan has NaN", got="3 voxels", expected="none", action="Export it again")
    assert str(failure) == "FM-D202: a scan has NaN; got 3 voxels; expected none. Export it again."


def test_a_failure_is_whole_after_a_process_boundary() -> None:
    failure = ScanInvalid("a scan has NaN", got="3 voxels", action="Export it again")
    again = pickle.loads(pickle.dumps(failure))
    assert type(again) is ScanInvalid
    assert (str(again), again.got, again.action) == (str(failure), failure.got, failure.action)


def test_what_is_missing_and_stands_there_as_something_else_is_called_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path, said in (
        (tmp_path, f"{tmp_path}, a folder"),
        (tmp_path / "file", f"{tmp_path / 'file'}, a file"),
        (tmp_path / "none", str(tmp_path / "none")),
    ):
        failure = FileMissing("a thing is missing", got=path)
        assert str(failure) == f"FM-C103: a thing is missing; got {said}."
        assert str(pickle.loads(pickle.dumps(failure))) == str(failure)


def test_every_code_is_unique_and_of_its_branch() -> None:
    classes = [kind for kind in all_classes() if kind.__module__ == errors.__name__]
    codes = [kind.code for kind in classes]
    assert len(set(codes)) == len(codes)
    assert all(kind.exit_status > 0 for kind in classes)


def test_an_unknown_exception_leaves_as_the_internal_code() -> None:
    assert code_of(RuntimeError("/data/patient")) == INTERNAL_CODE
    assert code_of(ScanInvalid("x")) == "FM-D202"
