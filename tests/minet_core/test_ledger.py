"""A ledger finds every change, deletion, reordering and cut, and mends what a killed writer left half."""

from __future__ import annotations

import json
import multiprocessing
import random
import shutil
from pathlib import Path

import pytest

from minet_core.errors import LedgerDamaged, PathUnusable
from minet_core.ledger.page import heads_held, record_as_text, require_whole
from minet_core.ledger.records import HEAD_FILE, LEDGER_FILE, NO_HEAD, Ledger

N_DAMAGES = 500


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("written")
    ledger = Ledger(folder)
    for number in range(12):
        ledger.append(
            "answered", run=f"run-{number % 3}", round=number, figures={"train_loss": 0.123 * number}
        )
    return folder


def _copied(written: Path, to: Path) -> Ledger:
    shutil.copytree(written, to)
    return Ledger(to)


def test_what_is_written_holds_together_and_is_read_in_its_order(written: Path) -> None:
    ledger = Ledger(written)
    found = ledger.verify()
    assert (found.head.n, found.problems, found.notes) == (12, (), ())
    records = list(ledger.records())
    assert [record["round"] for record in records] == list(range(12))
    assert records[0]["prev"] == NO_HEAD
    assert ledger.head() == found.head
    assert record_as_text(records[1]).endswith("run=run-1 round=1 figures={train_loss 0.123}")
    assert (written / LEDGER_FILE).stat().st_mode & 0o077 == 0


def test_an_empty_ledger_is_whole(tmp_path: Path) -> None:
    assert Ledger(tmp_path).verify().problems == ()


def _changed_byte(content: bytes, generator: random.Random) -> bytes:
    place = generator.randrange(len(content))
    other = (content[place] + generator.randrange(1, 256)) % 256
    return content[:place] + bytes([other]) + content[place + 1 :]


def _deleted(content: bytes, generator: random.Random) -> bytes:
    lines = content.splitlines(keepends=True)
    start = generator.randrange(len(lines))
    del lines[start : start + generator.randrange(1, 4)]
    return b"".join(lines)


def _reordered(content: bytes, generator: random.Random) -> bytes:
    lines = content.splitlines(keepends=True)
    first, second = generator.sample(range(len(lines)), 2)
    lines[first], lines[second] = lines[second], lines[first]
    return b"".join(lines)


def _cut(content: bytes, generator: random.Random) -> bytes:
    return content[: generator.randrange(len(content))]


def _repeated(content: bytes, generator: random.Random) -> bytes:
    lines = content.splitlines(keepends=True)
    lines.insert(generator.randrange(len(lines)), generator.choice(lines))
    return b"".join(lines)


DAMAGES = (_changed_byte, _deleted, _reordered, _cut, _repeated)


def test_500_of_500_damages_are_found(written: Path, tmp_path: Path) -> None:
    ledger, generator = _copied(written, tmp_path / "copy"), random.Random(17)
    content, found = ledger.path.read_bytes(), 0
    for number in range(N_DAMAGES):
        damaged = DAMAGES[number % len(DAMAGES)](content, generator)
        assert damaged != content
        ledger.path.write_bytes(damaged)
        problems = ledger.verify().problems
        assert problems, (DAMAGES[number % len(DAMAGES)].__name__, number)
        found += 1
    assert found == N_DAMAGES


def test_every_byte_of_the_noted_head_counts(written: Path, tmp_path: Path) -> None:
    ledger, generator = _copied(written, tmp_path / "copy"), random.Random(3)
    head = tmp_path / "copy" / HEAD_FILE
    content = head.read_bytes()
    for _ in range(60):
        head.write_bytes(_changed_byte(content, generator))
        assert ledger.verify().problems
    head.unlink()
    assert ledger.verify().problems
    ledger.path.unlink()
    head.write_bytes(content)
    assert ledger.verify().problems


def test_a_cut_with_the_head_made_to_fit_is_found_by_the_head_of_the_other_end(
    written: Path, tmp_path: Path
) -> None:
    ledger = _copied(written, tmp_path / "copy")
    told = ledger.head().sha256
    lines = ledger.path.read_bytes().splitlines(keepends=True)
    ledger.path.write_bytes(b"".join(lines[:-2]))
    shorter = json.loads(lines[-3])
    (tmp_path / "copy" / HEAD_FILE).write_text(f"{shorter['n']} {shorter['sha256']}\n")
    assert ledger.verify().problems == ()  # this machine alone cannot know
    problems = ledger.verify(held={told}).problems
    assert len(problems) == 1
    with pytest.raises(LedgerDamaged, match="the other end holds"):
        require_whole(ledger.verify(held={told}), path=ledger.path)


def test_a_rewritten_ledger_is_found_by_the_head_of_the_other_end(written: Path, tmp_path: Path) -> None:
    told = Ledger(written).head().sha256
    forged = Ledger(tmp_path / "forged")
    for record in Ledger(written).records():
        forged.append(record["event"], run="another", round=record["round"])
    assert forged.verify().problems == ()
    assert forged.verify(held={told}).problems


def test_a_half_line_is_removed_by_the_next_writer_who_says_so(written: Path, tmp_path: Path) -> None:
    for n_bytes in (1, 40, 200):
        ledger = _copied(written, tmp_path / f"copy-{n_bytes}")
        whole = ledger.path.read_bytes()
        half = whole.splitlines()[-1][:n_bytes]
        ledger.path.write_bytes(whole + half)
        assert ledger.verify().problems  # until somebody has mended it
        ledger.append("started")
        found = ledger.verify()
        assert (found.problems, len(found.notes)) == ((), 1)
        mended, started = list(ledger.records())[-2:]
        assert (mended["event"], mended["dropped_bytes"], started["event"]) == ("mended", n_bytes, "started")
        assert ledger.path.read_bytes().startswith(whole)


def test_a_writer_killed_before_it_noted_the_head_leaves_a_whole_ledger(
    written: Path, tmp_path: Path
) -> None:
    ledger = _copied(written, tmp_path / "copy")
    head = (tmp_path / "copy" / HEAD_FILE).read_bytes()
    ledger.append("answered")
    (tmp_path / "copy" / HEAD_FILE).write_bytes(head)
    assert ledger.verify().problems == ()
    ledger.append("answered")
    assert (ledger.verify().problems, ledger.head().n) == ((), 14)


@pytest.mark.parametrize("damage", ["last line", "cut", "newline", "emptied", "removed"])
def test_nothing_is_appended_behind_a_damaged_end(written: Path, tmp_path: Path, damage: str) -> None:
    """As a site that would go on behind a gap would hide it."""
    ledger = _copied(written, tmp_path / "copy")
    content = ledger.path.read_bytes()
    if damage == "last line":
        ledger.path.write_bytes(content[:-10] + b"x" + content[-9:])
    elif damage == "cut":
        ledger.path.write_bytes(content[: content.rfind(b"\n", 0, -1) + 1])
    elif damage == "newline":
        ledger.path.write_bytes(content[:-1])
    elif damage == "emptied":
        ledger.path.write_bytes(b"")
    else:
        ledger.path.unlink()
    with pytest.raises(LedgerDamaged, match="FM-S523"):
        ledger.append("answered")


def test_a_disk_that_refuses_is_named(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file where the folder should be")
    with pytest.raises(PathUnusable, match="FM-S512"):
        Ledger(tmp_path / "state").append("answered")


def _append_many(folder: Path, name: str) -> None:
    for number in range(25):
        Ledger(folder).append("answered", writer=name, round=number)


def test_several_processes_write_one_ledger(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_append_many, args=(tmp_path, name)) for name in "abc"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    found = Ledger(tmp_path).verify()
    assert (found.head.n, found.problems) == (75, ())
    for name in "abc":
        rounds = [record["round"] for record in Ledger(tmp_path).records() if record["writer"] == name]
        assert rounds == list(range(25))


def test_the_heads_that_another_ledger_holds_are_found_in_it(tmp_path: Path) -> None:
    other = Ledger(tmp_path)
    other.append("reply", site="sms", site_head="a" * 64)
    other.append("reply", site="umr", site_head="b" * 64)
    other.append("reply-refused", site="sms", site_head=None)
    assert heads_held(other.path, key="site_head", where={"site": "sms"}) == {"a" * 64}
