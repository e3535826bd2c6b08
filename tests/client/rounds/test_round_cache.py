"""A site trains once for one answer, and gives the same answer whenever it is asked."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from client.rounds.round_cache import KEPT_ROUNDS, KEPT_RUNS, CachedRound, RoundCache, one_at_a_time
from minet_core.errors import StoreDamaged
from tests.support.repository import ROOT
from tests.support.warm_python import warm_python


def kept(number: int, *, request: str = "abc") -> CachedRound:
    return CachedRound(
        round_number=number,
        request=request,
        figures={"train_loss": 0.5, "n_training_slices": 7},
        norms=(1.0, 2.0),
        answer={"w": np.full((2, 3), number, np.float32)},
        site={"adam/w:step": np.array(number, np.float32), "head/h": np.arange(3, dtype=np.float32)},
    )


def test_a_kept_round_is_read_back_as_it_was(tmp_path: Path) -> None:
    rounds = RoundCache(tmp_path, "study")
    assert rounds.last() is None
    rounds.put(kept(4))
    found = rounds.get(4)
    assert found is not None
    assert (found.request, found.figures, found.norms) == ("abc", kept(4).figures, (1.0, 2.0))
    assert set(found.answer) == {"w"}
    np.testing.assert_array_equal(found.answer["w"], np.full((2, 3), 4, np.float32))
    assert found.site["adam/w:step"].shape == ()
    np.testing.assert_array_equal(found.site["head/h"], np.arange(3, dtype=np.float32))


def test_the_last_rounds_stay_and_older_ones_leave(tmp_path: Path) -> None:
    rounds = RoundCache(tmp_path, "study")
    for number in range(1, 6):
        rounds.put(kept(number))
    assert len(list((tmp_path / "study").iterdir())) == KEPT_ROUNDS
    last, before = rounds.last(), rounds.last(before=5)
    assert last is not None
    assert before is not None
    assert (last.round_number, before.round_number) == (5, 4)
    assert rounds.get(3) is None


def test_an_interrupted_run_keeps_its_rounds_while_others_run(tmp_path: Path) -> None:
    for number in range(KEPT_RUNS + 2):
        RoundCache(tmp_path, f"run-{number}").put(kept(1))
        os.utime(tmp_path / f"run-{number}", (number, number))
    assert RoundCache(tmp_path, f"run-{KEPT_RUNS}").get(1) is not None
    assert len(list(tmp_path.iterdir())) == KEPT_RUNS


def test_another_run_finds_nothing(tmp_path: Path) -> None:
    RoundCache(tmp_path, "first").put(kept(1))
    assert RoundCache(tmp_path, "second").last() is None


def test_a_damaged_round_is_said_and_not_replaced_by_a_fresh_start(tmp_path: Path) -> None:
    rounds = RoundCache(tmp_path, "study")
    rounds.put(kept(1))
    path = tmp_path / "study" / "round-0001.safetensors"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(StoreDamaged, match="FM-D207"):
        rounds.get(1)


def test_a_second_task_waits_for_the_first_and_a_killed_one_lets_go(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from client.rounds.round_cache import one_at_a_time\n"
        f"with one_at_a_time(Path({str(tmp_path)!r})): print('holds', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([warm_python(), "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "holds\n"
    waits = subprocess.Popen([warm_python(), "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        time.sleep(1.0)
        assert waits.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert waits.stdout is not None
        assert waits.stdout.readline() == "holds\n"
    finally:
        waits.kill()
        waits.wait()
        process.stdout.close()
        waits.stdout.close()  # type: ignore[union-attr]
    with one_at_a_time(tmp_path):
        pass
