"""What a round costs, taken apart: by moments that are given, and of a real deployment."""

from __future__ import annotations

import json
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from client.status.current_task import Answered, Request
from fedminet.bench.processor_watch import ProcessorWatch
from fedminet.bench.round_parts import PARTS, TASK_PARTS, OneRound, RoundParts, Worked, parts_of_rounds
from fedminet.bench.rounds import bench_rounds
from fedminet.main import run
from minet_core.errors import FileMissing


def event(second: float, name: str, number: int, site: str | None = None) -> dict[str, Any]:
    return {"time": f"1970-01-01T00:00:{second:06.3f}+00:00", "event": name, "round": number, "site": site}


def test_the_parts_of_the_slowest_site_add_up_to_the_round() -> None:
    events = [
        event(1, "round-started", 1),
        event(9, "reply-accepted", 1, "a"),
        event(10, "round-completed", 1),
        event(10.5, "round-started", 2),
        event(13, "reply-accepted", 2, "b"),
        event(12, "reply-accepted", 2, "a"),
        event(13.5, "round-completed", 2),
        event(14, "round-started", 3),
        event(16, "reply-accepted", 3, "a"),
        event(17, "round-completed", 3),
    ]
    worked = Worked(
        {
            (2, "a"): answer(2, "a", 10.6, 11.0),
            (2, "b"): answer(2, "b", 11.0, 12.25),
            (3, "a"): answer(3, "a", 14.5, 15.5),
        },
        {"2a": 11.5, "2b": 12.75, "3a": 15.75},
    )
    assert worked.is_whole(events)
    assert not Worked({**worked.answered, (2, "a"): answer(2, "a", 0, 0)}, {"3a": 15.75}).is_whole(events)
    assert not Worked({(3, "a"): worked.answered[3, "a"]}, worked.sent).is_whole(events)
    second, third = parts_of_rounds(events, worked)
    assert (second.begin, second.end, third.begin, third.end) == (10.5, 14.0, 14.0, 17.0)
    assert second.seconds == pytest.approx(
        {"whole": 3.5, "request": 0.5, "work": 1.25, "reply": 0.5, "taken": 0.25, "coordinator": 1.0}
    )
    assert third.seconds == pytest.approx(
        {"whole": 3.0, "request": 0.5, "work": 1.0, "reply": 0.25, "taken": 0.25, "coordinator": 1.0}
    )
    assert [task["validate"] for task in second.tasks] == [(11.0, 1.0), (10.6, 1.0)]  # as the replies came in


def test_a_round_is_held_against_what_its_training_takes() -> None:
    tasks = ({"validate": (9.0, 1.0), "train": (9.0, 2.0), "keep": (9.0, 0.5)}, {"validate": (9.0, 2.0)})
    one = OneRound(10.0, 20.0, dict.fromkeys(PARTS, 1.0), tasks)
    side = RoundParts("this code")
    watch = ProcessorWatch()
    watch._moments, watch._totals = [10.0, 20.0], [1.0, 7.0]
    side.add([one], watch)
    assert (side.processor, side.beside) == ([6.0], [6.0 / 5.0])


def answer(number: int, site: str, began: float, ended: float) -> Answered:
    request = Request("train", "run", number, f"{number}{site}")
    return Answered(request, began, ended, None, {"validate": (began, 1.0)})


def test_the_processors_of_a_process_and_of_its_children_are_counted_after_they_ended() -> None:
    watch = ProcessorWatch()
    waits = "import time; ended = time.process_time() + 0.3\nwhile time.process_time() < ended: pass\n"
    parent = (
        "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]])\n"
        "sys.stdout.write('ended'); sys.stdout.close(); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", parent, waits], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        began = time.time()
        watch.look({process.pid})
        while not select.select([process.stdout], [], [], 0.01)[0]:
            watch.look({process.pid})
        process.communicate()
        watch.look({process.pid})
    assert 0.2 < watch.between(began, time.time()) < 2.0
    assert watch.between(began, began) == 0.0


def test_a_baseline_that_is_no_checkout_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileMissing, match="no checkout of fedminet"):
        bench_rounds(tmp_path, n_rounds=2, n_runs=1, n_patients=3, baseline=tmp_path)


@pytest.mark.e2e
@pytest.mark.long
def test_a_real_round_is_taken_apart(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    asked = (
        "round",
        "--rounds=3",
        "--runs=1",
        "--patients=3",
        "--local-steps=2",
        f"--out={tmp_path / 'rounds'}",
    )
    monkeypatch.setattr(sys, "argv", ["fedminet", "bench", *asked])
    with pytest.raises(SystemExit) as ending:
        run()
    assert not ending.value.code
    printed = capsys.readouterr().out
    assert all(words in printed for words in (*PARTS.values(), *TASK_PARTS.values()))
    (side,) = json.loads((tmp_path / "rounds.json").read_text())["sides"]
    seconds = side["seconds"]
    assert side["n_bytes"] > 0
    for number in range(2):
        parts = [seconds[part][number] for part in PARTS if part != "whole"]
        assert sum(parts) == pytest.approx(seconds["whole"][number], abs=0.01)
        assert min(parts) > 0
    assert min(side["processor"]) > 0
    assert min(side["beside"]) > 1  # all processes take more than what two parts of three of them do
    for part in TASK_PARTS:
        assert len(side["tasks"][part]) == 6  # two rounds of three sites
