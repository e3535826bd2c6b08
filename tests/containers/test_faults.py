"""Containers that are killed, restarted and cut off in the middle of a run: it goes on as the contract says.

The contract of the federation file: two sites of three suffice for a round. A site whose trainer is gone, and
everybody whose proxy or coordinator is gone, is waited for: every site has part in every round, and the model has the
bytes of a run that nothing happened to. What a node had been asked is lost with the node, which is asked again where it
is back in time; one that stays away or is cut off is left out of the round, named, and taken back into the next.
"""

from __future__ import annotations

import os
import signal
import time

import pytest

from client.status.current_task import in_work
from server.runs.participation import in_short
from tests.containers.federation import CUT, OUTBOUND_ONLY, SERVICES, Federation
from tests.containers.reference_run import DEADLINE_S, SCHEDULE, SITES, ReferenceRun
from tests.containers.test_federation import RUN_DEADLINE_S, sha256

pytestmark = [pytest.mark.containers, pytest.mark.timeout(2400)]

ROUND_DEADLINE_S = 240.0
VICTIM = "umr"
KILLED = ("trainer-umr", "proxy", "coordinator")
DOWN_S = 10.0
STOPS = 3


def finished(federation: Federation, name: str) -> tuple[str, str | None]:
    """The run's last status, once it has one, and what it fell short of."""
    federation.wait(
        lambda: federation.ended(name), deadline_s=RUN_DEADLINE_S, what=f"the run {name} has ended"
    )
    state = federation.state(name)
    assert state is not None
    return str(state["status"]), state["reason"]


def in_the_middle_of(federation: Federation, name: str, number: int) -> int:
    """Wait until the victim is training in that round or a later one: its node was asked, and has no answer yet."""
    home = federation.made / "sites" / VICTIM
    found = []

    def trains() -> bool:
        work = in_work(home)
        if work is not None and work[0].run == name and work[0].round_number >= number:
            found.append(work[0].round_number)
        return bool(found)

    federation.wait(
        trains, deadline_s=ROUND_DEADLINE_S, what=f"{VICTIM} trains in round {number}", interval_s=0.03
    )
    return found[0]


def is_back(federation: Federation, service: str, *, but_not: int) -> bool:
    state = federation.inspect(service)["State"]
    return bool(state["Running"]) and int(state["Pid"]) not in (0, but_not)


def kill_in_the_middle_of(federation: Federation, name: str, number: int, service: str) -> int:
    """SIGKILL for the first process of a container, from the machine: the engine alone brings it back. The round."""
    pid = federation.host_pid(service)
    killed_in = in_the_middle_of(federation, name, number)
    os.kill(pid, signal.SIGKILL)
    back_s = federation.wait(
        lambda: is_back(federation, service, but_not=pid), deadline_s=60, what=f"{service} is back"
    )
    if service.startswith("node-"):
        federation.load_rules(service, OUTBOUND_ONLY)  # its network is another one now
    print(f"{service} killed in round {killed_in}, back after {back_s:.1f} s")
    return killed_in


def rounds_without_the_victim(federation: Federation, name: str, *, until: int) -> list[int]:
    """The rounds up to `until` that were completed without it; the two others had part in every one."""
    records = {record["round"]: record["sites"] for record in federation.run(name).rounds_recorded()}
    assert set(records) == set(range(1, until + 1))
    for sites in records.values():
        assert not any(sites[site]["refused"] for site in SITES if site != VICTIM)
    return [number for number, sites in records.items() if sites[VICTIM]["refused"]]


def until_a_round_without_the_victim(federation: Federation, name: str, *, since: int) -> int:
    """Wait until one is completed. It is the next where the victim's reply had left when it was stopped or cut off."""
    missed: list[int] = []

    def is_missed() -> bool:
        done = federation.run(name).rounds_recorded()
        missed.extend(r["round"] for r in done if r["round"] >= since and r["sites"][VICTIM]["refused"])
        return bool(missed) or federation.ended(name)

    federation.wait(
        is_missed, deadline_s=2 * ROUND_DEADLINE_S, what=f"a round of {name} is completed without {VICTIM}"
    )
    assert missed, f"{name} ended, and every round had {VICTIM}"
    return missed[0]


def test_a_run_goes_on_to_the_same_bytes_while_containers_are_killed(
    federation: Federation, reference: ReferenceRun
) -> None:
    process = federation.start_run("kills")
    for number, service in enumerate(KILLED, start=2):
        kill_in_the_middle_of(federation, "kills", number, service)
    end = finished(federation, "kills")
    process.kill()  # the command that followed the run ended with the coordinator's container
    process.communicate()
    run = federation.run("kills")
    assert end == ("completed", None)
    for number in range(1, SCHEDULE.rounds + 1):
        assert sha256(run.checkpoint(number)) == sha256(reference.run.checkpoint(number))
    assert sha256(run.global_model) == sha256(reference.run.global_model)


def seconds_to_stop(federation: Federation, service: str) -> float:
    """Stop a container, which must end by itself, start it again and wait until everything is healthy."""
    container = federation.container(service)
    began = time.monotonic()
    federation.engine.docker("stop", "--time", "30", container)
    seconds = time.monotonic() - began
    state = federation.inspect(service)["State"]
    federation.start(service)
    print(f"{service} was down after {seconds:.1f} s, exit status {state['ExitCode']}")
    assert state["ExitCode"] in (0, 143)  # 137 would be SIGKILL
    federation.wait(lambda: federation.works(*SERVICES), deadline_s=180, what="everything is healthy")
    return seconds


@pytest.mark.parametrize("service", ["trainer-sms", "node-sms", "proxy", "coordinator"])
def test_a_container_is_down_within_ten_seconds_of_the_signal(federation: Federation, service: str) -> None:
    """It ends by itself: the engine would kill it only after 30 s.

    Other work on the machine only adds to what a stop takes, so the first of a few that is in time is enough.
    """
    assert any(seconds_to_stop(federation, service) < DOWN_S for _ in range(STOPS))


def test_a_run_goes_on_to_the_same_bytes_while_containers_are_restarted(
    federation: Federation, reference: ReferenceRun
) -> None:
    """The trainer, then the proxy and the coordinator, as for an upgrade."""
    process = federation.start_run("restarts")
    for number, services in ((2, (f"trainer-{VICTIM}",)), (4, ("proxy", "coordinator"))):
        in_the_middle_of(federation, "restarts", number)
        for service in services:
            federation.engine.docker("restart", "--time", "10", federation.container(service))
    assert finished(federation, "restarts") == ("completed", None)
    process.kill()
    process.communicate()
    assert sha256(federation.run("restarts").global_model) == sha256(reference.run.global_model)


def test_a_site_whose_node_is_killed_or_stopped_is_missed_for_no_longer_than_it_is_away(
    federation: Federation, reference: ReferenceRun
) -> None:
    """The node by SIGKILL in one round; in a later one the site is stopped until a round was completed without it.

    After the kill it is asked again where its node is back before the coordinator took it for gone, and left out of
    that round, perhaps of the next too, where not: which of both is a matter of seconds. That a round without it is
    named, and that it is taken back, is not.
    """
    process = federation.start_run("nodes")
    killed_in = kill_in_the_middle_of(federation, "nodes", 2, f"node-{VICTIM}")
    stopped_in = in_the_middle_of(federation, "nodes", killed_in + 1)  # it has been taken back
    before_the_stop = rounds_without_the_victim(federation, "nodes", until=stopped_in - 1)
    stopped = (f"node-{VICTIM}", f"trainer-{VICTIM}")
    for service in stopped:
        federation.engine.docker("stop", "--time", "10", federation.container(service))
    missed = until_a_round_without_the_victim(federation, "nodes", since=stopped_in)
    for service in reversed(stopped):
        federation.start(service)
    assert finished(federation, "nodes")[0] == "partial"
    process.communicate(timeout=120)
    without = rounds_without_the_victim(federation, "nodes", until=SCHEDULE.rounds)
    print(f"node killed in round {killed_in}, site stopped in {stopped_in}, rounds without: {without}")
    assert set(before_the_stop) <= set(range(killed_in, stopped_in))
    assert missed in without
    assert set(federation.run("nodes").tests_recorded()) == set(
        SITES
    )  # the final model was tested there as well
    state = federation.state("nodes")
    assert state is not None
    for text in in_short(f"round {number} without {VICTIM}" for number in without):
        assert text in str(state["reason"])
    for number in range(1, without[0]):  # as if nothing had happened
        assert sha256(federation.run("nodes").checkpoint(number)) == sha256(reference.run.checkpoint(number))


def test_a_site_that_is_cut_off_is_left_out_named_and_taken_back(federation: Federation) -> None:
    """Nothing arrives and nobody is told; the site's containers notice nothing but silence."""
    process = federation.start_run("partition")
    cut_in = in_the_middle_of(federation, "partition", 2)
    federation.load_rules(f"node-{VICTIM}", CUT)
    cut_at = time.monotonic()
    missed = until_a_round_without_the_victim(federation, "partition", since=cut_in)
    cut_s = time.monotonic() - cut_at
    federation.drop_rules(f"node-{VICTIM}", "cut")
    assert finished(federation, "partition")[0] == "partial"
    process.communicate(timeout=120)
    without = rounds_without_the_victim(federation, "partition", until=SCHEDULE.rounds)
    print(f"cut for {cut_s:.0f} s (deadline {DEADLINE_S:g} s), rounds without {VICTIM}: {without}")
    assert missed in without
    assert set(without) <= set(range(cut_in, SCHEDULE.rounds + 1))
    assert SCHEDULE.rounds not in without  # the last round has it again
    state = federation.state("partition")
    assert state is not None
    assert VICTIM in str(state["reason"])
