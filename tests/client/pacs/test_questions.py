"""What a PACS may be asked for: no wildcard, no number in a message."""

from __future__ import annotations

from pathlib import Path

import pytest

from client.pacs.questions import Question, read_questions
from minet_core.errors import FileMissing, InvalidSetting


def test_numbers_are_taken_once_and_called_by_their_line(tmp_path: Path) -> None:
    path = tmp_path / "numbers.txt"
    path.write_bytes("\ufeffA 1\r\n\r\n A2 \r\nA 1\r\n".encode())
    assert read_questions(["1.2.3"], path) == [
        Question("study 1", "StudyInstanceUID", "1.2.3"),
        Question("line 1", "AccessionNumber", "A 1"),
        Question("line 3", "AccessionNumber", "A2"),
    ]
    assert "A2" not in repr(read_questions([], path))


@pytest.mark.parametrize("number", ["QZ*", "QZ?", "QZ\\1", "QZ\x001", "Q" * 65])
def test_what_asks_for_more_than_one_is_refused(tmp_path: Path, number: str) -> None:
    path = tmp_path / "numbers.txt"
    path.write_text(f"A1\n{number}\n")
    with pytest.raises(InvalidSetting, match="line 2") as caught:
        read_questions([], path)
    assert "Q" not in str(caught.value)


@pytest.mark.parametrize("study", ["", "*", "1.2.*", "abc", "1.2.3\\1.2.4"])
def test_a_study_is_asked_for_by_its_uid_alone(study: str) -> None:
    with pytest.raises(InvalidSetting, match="study 1"):
        read_questions([study], None)


def test_nothing_to_ask_for_is_said(tmp_path: Path) -> None:
    with pytest.raises(InvalidSetting, match="no study is asked for"):
        read_questions([], None)
    (tmp_path / "empty").write_text("\n\n")
    with pytest.raises(InvalidSetting, match="no study is asked for"):
        read_questions([], tmp_path / "empty")
    with pytest.raises(FileMissing):
        read_questions([], tmp_path / "none")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidSetting, match="no text"):
        read_questions([], tmp_path / "bytes")
