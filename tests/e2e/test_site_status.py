"""A site's life as `fedminet site status` tells it, over the real engine and the real commands."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from client.admission.declaration import declare
from client.admission.keys import SiteKeys
from client.preflight.check_admission import check_admission
from client.rounds.round_cache import kept_round_bytes
from client.site_home import SiteHome
from client.status.site_status import as_json, read_status
from fedminet.single_machine.admission import admit_one_here, make_coordinator_here
from minet_core.runtime.cpu_threading import cpu_threading_environment
from minet_core.runtime.processes.child_processes import Child, ChildProcesses, child_environment, free_port
from server.admission.enrolment import admitted_sites
from server.processes.server_processes import ServerProcesses
from server.runs.follow import run_to_end
from server.server_home import ServerSettings
from tests.faults.tiny_sites import make_tiny_sites, tiny_federation

pytestmark = [pytest.mark.e2e, pytest.mark.long]

SITE = "sms"
ENVIRONMENT = {**cpu_threading_environment(), "OMP_NUM_THREADS": "1"}


WITHIN_S = 240.0
"""For what takes seconds: a busy machine has its time."""


def _page(home: SiteHome) -> dict[str, Any]:
    """What the command prints, without the second of a processor that a process costs: for looking often."""
    return as_json(read_status(home.path, check=lambda: check_admission(home).findings))


def _status(home: SiteHome) -> tuple[int, dict[str, Any]]:
    """The command's exit status, and what it prints."""
    done = subprocess.run(
        [sys.executable, "-m", "fedminet", "site", "status", str(home.path), "--json"],
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=False,
    )
    return done.returncode, json.loads(done.stdout)


def _start(children: ChildProcesses, home: SiteHome) -> Child:
    return children.start(
        "site",
        [sys.executable, "-m", "fedminet", "site", "start", str(home.path)],
        env=child_environment(**ENVIRONMENT),
        log_path=home.logs / "start.log",
        needed=False,
    )


def test_a_site_is_refused_let_in_trains_and_is_killed(tmp_path: Path) -> None:
    federation = tiny_federation(
        sites=[SITE],
        rounds=2,
        participation={"quorum": 1, "deadline_s": 300.0, "retries": 0},
        training={
            **{"local_steps": None, "local_seconds": 2.0},
            **{"patch_px": 16, "batch_size": 2, "validation_slices": 1},
        },
    )
    home = make_tiny_sites(tmp_path, names=(SITE,))[SITE]
    declare(home)
    settings = ServerSettings(port=free_port())
    server, authority = make_coordinator_here(tmp_path / "coordinator", federation, settings)
    with ChildProcesses() as children:
        processes = ServerProcesses(server, children, ENVIRONMENT)
        control = processes.start()
        admit_one_here(server, authority, SITE, home)  # not registered yet
        keys = SiteKeys.of(home.keys)

        def until(fact: Callable[[dict[str, Any]], bool], *, what: str) -> dict[str, Any]:
            found: list[dict[str, Any]] = []

            def seen() -> bool:
                found.append(_page(home))
                return fact(found[-1])

            children.wait_until(seen, deadline_s=WITHIN_S, what=what, interval_s=0.3)
            return found[-1]

        client = _start(children, home)
        refused = until(lambda page: page["registered"]["next_try"] is not None, what="the node is refused")
        code, waiting = _status(home)
        assert code == 0  # it waits within its back-off
        for page in (refused, waiting):
            assert page["registered"]["is"] is False
            assert f"does not know this site's key {keys.fingerprint}" in page["registered"]["reason"]
            assert page["configured"]["is"] is True
            assert page["training"]["is"] is False
        control.register(admitted_sites(server))
        admitted = until(lambda page: bool(page["registered"]["is"]), what="the node is let in")
        (node,) = control.nodes()
        assert admitted["registered"]["node"] == str(node.node_id)
        assert admitted["server"]["last_answer"] is not None

        seen: list[dict[str, Any]] = []
        summary = run_to_end(server, "study", progress=lambda *_: seen.append(_page(home)), watch=children)
        assert summary.status == "completed"
        working = [page["training"]["work"] for page in seen if page["training"]["is"]]
        assert {work["run"] for work in working} == {"study"}
        assert {work["round"] for work in working} <= {1, 2}
        after = until(lambda page: page["training"]["work"] is None, what="nothing is in work")
        code, printed = _status(home)
        assert (code, printed["last_round"]) == (0, after["last_round"])
        last = after["last_round"]
        assert (last["round"], last["run"], last["reply_sent"], last["code"]) == (2, "study", True, None)
        assert last["ended"] <= last["sent"]
        assert after["last_failure"] is None
        _the_room_for_a_round_is_what_one_takes(home)

        os.kill(client.process.pid, signal.SIGKILL)
        client.process.wait()
        code, killed = _status(home)
        assert code == 1
        assert (killed["client"]["runs"], killed["registered"]["is"]) == (False, False)
        assert killed["registered"]["last"]["node"] == str(node.node_id)
        assert killed["configured"]["is"] is True  # a fact of its own
        assert killed["last_round"] == last

        client = _start(children, home)
        until(lambda page: bool(page["registered"]["is"]), what="the next client is let in")
        client.process.send_signal(signal.SIGTERM)
        client.process.wait(timeout=WITHIN_S)
        code, ended = _status(home)
        assert (code, ended["client"]["why_ended"]) == (1, "ended by a signal")


def _the_room_for_a_round_is_what_one_takes(home: SiteHome) -> None:
    """Beside what safetensors and the page in front of it add to each of the small tensors."""
    (kept, *_) = sorted((home.state / "study").glob("round-*.safetensors"))
    bound = kept_round_bytes(home.federation())
    assert 0.95 * bound < kept.stat().st_size
    header = int.from_bytes(kept.read_bytes()[:8], "little")
    assert kept.stat().st_size - header < 1.05 * bound
