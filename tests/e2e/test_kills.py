"""A sample of the kill matrix: processes are killed in the middle of a run, and the model has the same bytes.

`make faults ARGS="run --part kills"` has all of them; docs/results/faults.md has what came of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from server.runs.follow import run_to_end
from server.runs.run_directory import RunDirectory
from tests.faults import process_table
from tests.faults.holding import hold_file, reached_file
from tests.faults.kills import Bench, deployment, killed_run
from tests.faults.tiny_sites import make_tiny_sites, tiny_federation

pytestmark = [pytest.mark.e2e, pytest.mark.long]

DEADLINE_S = 120.0

SITES = ("sms", "umr")
"""The one whose processes are killed, and one beside it; the full matrix has three."""

SAMPLE = [
    ("SuperLink", "while sending"),
    ("ClientApp", "while sites train"),
    ("ServerApp", "aggregated, before the checkpoint"),
]
"""A kill on each side of the wire, and on the wire, a round each; every target and phase is in the full matrix."""


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("kills")
    federation = tiny_federation(
        sites=SITES,
        rounds=len(SAMPLE),
        participation={"quorum": len(SITES), "deadline_s": DEADLINE_S, "retries": 2},
        training={"local_steps": 100, "patch_px": 16, "batch_size": 2, "validation_slices": 1},
    )
    with deployment(folder, make_tiny_sites(folder, names=SITES), federation, victim="umr") as running:
        run_to_end(running.server, "calm", progress=lambda *_: None)
        yield running


def test_a_run_goes_on_after_the_coordinator_and_a_site_were_switched_off(bench: Bench) -> None:
    """Both commands are killed, with all that they started, and started again, as after a reboot."""
    for left in bench.hold.iterdir():
        left.unlink()
    hold_file(bench.hold, 1, "received").touch()
    run = RunDirectory(bench.server.runs / "rebooted")
    with ThreadPoolExecutor(1) as pool:
        followed = pool.submit(run_to_end, bench.server, "rebooted", progress=lambda *_: None)
        bench.children.wait_until(
            lambda: reached_file(bench.hold, 1, "received").exists(),
            deadline_s=DEADLINE_S,
            what="a reply is there",
        )
        for name in ("server", "umr"):
            bench.kill_command(name)
        hold_file(bench.hold, 1, "received").unlink()
        bench.children.wait_until(
            lambda: not run.lock_owner()[1], deadline_s=DEADLINE_S, what="nobody works on the run"
        )
        for name in ("server", "umr"):
            bench.start(name)
        assert followed.result().status == "completed"
    calm = RunDirectory(bench.server.runs / "calm")
    assert run.global_model.read_bytes() == calm.global_model.read_bytes()


def test_a_request_that_was_lost_on_its_way_is_asked_for_again(bench: Bench) -> None:
    """The server has given it out and counts it as delivered; the connection breaks before the site has it."""
    for left in bench.hold.iterdir():
        left.unlink()
    hold_file(bench.hold, 1, "asked").touch()
    hold_file(bench.hold, 1, "all sent").touch()
    run = RunDirectory(bench.server.runs / "lost")
    supernode = process_table.supernode_of(bench.sites[bench.victim])
    with ThreadPoolExecutor(1) as pool:
        followed = pool.submit(run_to_end, bench.server, "lost", progress=lambda *_: None)
        for moment in ("asked", "all sent"):
            bench.children.wait_until(
                lambda moment=moment: reached_file(bench.hold, 1, moment).exists(),
                deadline_s=DEADLINE_S,
                what="the application is held",
            )
            if moment == "asked":
                bench.link.cut_questions()
                bench.children.wait_until(
                    lambda: bench.link.holds_every_question,
                    deadline_s=DEADLINE_S,
                    what="the next question for messages waits in the relay",
                )
            else:
                bench.link.heal_without_answers()
            hold_file(bench.hold, 1, moment).unlink()
        assert followed.result().status == "completed"
    assert run.rounds_recorded()[0]["seconds"] < DEADLINE_S / 2
    calm = RunDirectory(bench.server.runs / "calm")
    assert run.global_model.read_bytes() == calm.global_model.read_bytes()
    assert process_table.supernode_of(bench.sites[bench.victim]) == supernode  # the same process
    log = (bench.sites[bench.victim].logs / "supernode.log").read_text()
    assert log.count("may have been lost on its way") == 1


def test_a_run_goes_on_by_itself_to_the_same_bytes(bench: Bench) -> None:
    calm = RunDirectory(bench.server.runs / "calm")
    run = killed_run(bench, "killed", SAMPLE, calm=calm)
    assert run.status == "completed"
    assert run.same_model
    for kill in run.kills:
        assert kill.same, kill
        assert kill.recovered_s < 60, kill
        print(f"{kill.target}, {kill.phase}: {kill.recovered_s:.1f} s")
    assert "task of umr" in [kill.killed for kill in run.kills]  # not the host of a task that was over
    events = [event["event"] for event in RunDirectory(bench.server.runs / "killed").events_recorded()]
    assert events.count("run-ended") == 1
    assert events.count("run-continued") == 1  # by the server application that came after the killed one
