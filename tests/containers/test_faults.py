"""Containers that are killed, restarted and cut off in the middle of a run: it goes on as the contract says.

The contract of the federation file: two sites of three suffice for a round, and a site that has not answered by the
deadline is left out. A container that comes back sooner is waited for: every site has part in every round, and the
model has the bytes of a run that nothing happened to. A site that is cut off for longer is left out, named, and taken
back.
"""

from __future__ import annotations

import os
import signal
import time

import pytest

from tests.containers.federation import CUT, OUTBOUND_ONLY, SERVICES, Federation
from tests.containers.reference_run import DEADLINE_S, SCHEDULE, ReferenceRun
from tests.containers.test_federation import RUN_DEADLINE_S, sha256

pytestmark = [pytest.mark.containers, pytest.mark.timeout(2400)]

ROUND_DEADLINE_S = 240.0
VICTIM = "umr"
KILLED = ("trainer-umr", "node-umr", "proxy", "coordinator")
DOWN_S = 10.0


def finished(federation: Federation, name: str) -> str:
    """The run's last status, once it has one."""
    federation.wait(
        lambda: federation.ended(name), deadline_s=RUN_DEADLINE_S, what=f"the run {name} has ended"
    )
    state = federation.state(name)
    assert state is not None
    return str(state["status"])


def after_round(federation: Federation, name: str, number: int) -> None:
    federation.wait(
        lambda: federation.round_of(name) >= number or federation.ended(name),
        deadline_s=ROUND_DEADLINE_S,
        what=f"round {number} of {name} is completed",
    )
    assert not federation.ended(name)


def is_back(federation: Federation, service: str, *, but_not: int) -> bool:
    state = federation.inspect(service)["State"]
    return bool(state["Running"]) and int(state["Pid"]) not in (0, but_not)


def test_a_run_goes_on_to_the_same_bytes_while_containers_are_killed(
    federation: Federation, reference: ReferenceRun
) -> None:
    """SIGKILL for the first process of a container, from the machine: the engine alone brings it back."""
    process = federation.start_run("kills")
    for number, service in enumerate(KILLED, start=1):
        after_round(federation, "kills", number)
        pid = federation.host_pid(service)
        os.kill(pid, signal.SIGKILL)
        back_s = federation.wait(
            lambda service=service, pid=pid: is_back(federation, service, but_not=pid),  # type: ignore[misc]
            deadline_s=60,
            what=f"{service} is back",
        )
        if service.startswith("node-"):
            federation.load_rules(service, OUTBOUND_ONLY)  # its network is another one now
        print(f"{service} killed after round {number}, back after {back_s:.1f} s")
    status = finished(federation, "kills")
    process.kill()  # the command that followed the run ended with the coordinator's container
    process.wait()
    run = federation.run("kills")
    assert status == "completed"
    for number in range(1, SCHEDULE.rounds + 1):
        assert sha256(run.checkpoint(number)) == sha256(reference.run.checkpoint(number))
    assert sha256(run.global_model) == sha256(reference.run.global_model)


@pytest.mark.parametrize("service", ["trainer-sms", "node-sms", "proxy", "coordinator"])
def test_a_container_is_down_within_ten_seconds_of_the_signal(federation: Federation, service: str) -> None:
    """It ends by itself: the engine would kill it only after 30 s."""
    container = federation.container(service)
    began = time.monotonic()
    federation.engine.docker("stop", "--time", "30", container)
    seconds = time.monotonic() - began
    state = federation.inspect(service)["State"]
    federation.start(service)
    print(f"{service} was down after {seconds:.1f} s, exit status {state['ExitCode']}")
    assert seconds < DOWN_S
    assert state["ExitCode"] in (0, 143)  # 137 would be SIGKILL
    federation.wait(lambda: federation.healthy(*SERVICES), deadline_s=180, what="everything is healthy")


def test_a_run_goes_on_to_the_same_bytes_while_containers_are_restarted(
    federation: Federation, reference: ReferenceRun
) -> None:
    """All containers of a site, then the proxy and the coordinator, as for an upgrade."""
    process = federation.start_run("restarts")
    after_round(federation, "restarts", 1)
    for service in (f"node-{VICTIM}", f"trainer-{VICTIM}"):
        federation.engine.docker("restart", "--time", "10", federation.container(service))
    federation.load_rules(f"node-{VICTIM}", OUTBOUND_ONLY)
    after_round(federation, "restarts", 3)
    for service in ("proxy", "coordinator"):
        federation.engine.docker("restart", "--time", "10", federation.container(service))
    assert finished(federation, "restarts") == "completed"
    process.kill()
    process.wait()
    assert sha256(federation.run("restarts").global_model) == sha256(reference.run.global_model)


def test_a_site_that_is_cut_off_is_left_out_named_and_taken_back(federation: Federation) -> None:
    """Nothing arrives and nobody is told; the site's containers notice nothing but silence."""
    process = federation.start_run("partition")
    after_round(federation, "partition", 1)
    federation.load_rules(f"node-{VICTIM}", CUT)
    cut_at = time.monotonic()
    after_round(federation, "partition", 2)
    cut_s = time.monotonic() - cut_at
    federation.drop_rules(f"node-{VICTIM}", "cut")
    assert finished(federation, "partition") == "partial"
    process.communicate(timeout=120)
    records = {record["round"]: record["sites"] for record in federation.run("partition").rounds_recorded()}
    without = [number for number, sites in records.items() if sites[VICTIM]["refused"]]
    print(f"cut for {cut_s:.0f} s (deadline {DEADLINE_S:g} s), rounds without {VICTIM}: {without}")
    assert 2 in without
    assert 1 not in without
    assert SCHEDULE.rounds not in without  # the last round has it again
    assert not [
        number for number, sites in records.items() if sites["sms"]["refused"] or sites["fastmri"]["refused"]
    ]
    state = federation.state("partition")
    assert state is not None
    assert VICTIM in str(state["reason"])
