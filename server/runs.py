"""Starting a run on the server, following it to its end, and saying how the server stands."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from typing import Any

from minet_core.report.summary import Summary, read_summary
from minet_core.runtime.durable import write_json
from minet_core.runtime.errors import ConfigurationError, FileMissing, HostError, ProcessDied
from minet_core.runtime.processes import ChildProcesses
from minet_core.runtime.progress import Advance
from minet_core.wire import RUN_NAME
from server.bundle import read_bundle
from server.control import SuperLinkControl
from server.enrolment import admitted_sites
from server.pki import ca_files
from server.run_directory import TERMINAL, RunDirectory
from server.server_home import ServerHome
from server.superlink import local_address

FOLLOW_INTERVAL_S = 0.5

ASK_FLOWER_INTERVAL_S = 5.0
"""How often Flower is asked whether the server application still runs; the run's own state is a file."""

SUMMARY_DEADLINE_S = 60.0
"""How long the summary may follow the run's last state."""


def run_to_end(
    home: ServerHome, name: str, *, progress: Advance, watch: ChildProcesses | None = None
) -> Summary:
    """Start the run `name` and follow it until it has ended.

    watch: child processes of the caller that must live meanwhile. Raises ConfigurationError (FM-C100) where a run
    of this name exists, ServerUnreachable (FM-S502), ProcessDied (FM-S503).
    """
    if not RUN_NAME.fullmatch(name):
        raise ConfigurationError("a run has no plain name", got=name, expected="letters, digits, - and _")
    federation = home.federation()
    control = _control(home)
    control.nodes()  # an unreachable server is said so before a run directory is made
    missing = sorted(set(federation.sites) - set(admitted_sites(home)))
    if missing:
        raise ConfigurationError(
            "a member of the federation is not admitted",
            got=", ".join(missing),
            action="Run `fedminet server admit` for it",
        )
    run = RunDirectory.create(home.runs / name, federation, engine="deployment")
    flower_run = control.submit_run(read_bundle(home.superlink), run_config={"run": name})
    write_json(run.path / "submission.json", {"flower_run": flower_run})
    asked = time.monotonic()
    while run.state.status not in TERMINAL:
        progress(run.state.round, federation.rounds)
        if watch is not None:
            watch.check()
        if time.monotonic() - asked > ASK_FLOWER_INTERVAL_S:
            asked = time.monotonic()
            if control.run_status(flower_run).finished:
                _mark_ended(run, reason=f"{ProcessDied.code}: the server application ended early")
        time.sleep(FOLLOW_INTERVAL_S)
    progress(run.state.round, federation.rounds)
    return _awaited_summary(run)


def stop_run(home: ServerHome, name: str) -> None:
    """Stop a run; its state becomes `failed` with the reason, and what it has completed is kept."""
    run = _existing(home, name)
    submission = run.path / "submission.json"
    if submission.exists():
        _control(home).stop_run(json.loads(submission.read_text(encoding="utf-8"))["flower_run"])
    _mark_ended(run, reason="stopped by the coordinator")


def server_status(home: ServerHome) -> dict[str, Any]:
    """Whether the server answers, each member's state, and the state of every run."""
    control = _control(home)
    healthy = control.answers()
    online = {node.name: node.status for node in control.nodes()} if healthy else {}
    admitted = admitted_sites(home)
    sites = {
        site: online.get(site, "unknown") if site in admitted else "not admitted"
        for site in home.federation().sites
    }
    runs = {
        path.parent.name: asdict(RunDirectory(path.parent).state)
        for path in sorted(home.runs.glob("*/state.json"))
    }
    return {"healthy": healthy, "address": local_address(home), "sites": sites, "runs": runs}


def _control(home: ServerHome) -> SuperLinkControl:
    return SuperLinkControl(local_address(home), ca=ca_files(home.pki).certificate)


def _existing(home: ServerHome, name: str) -> RunDirectory:
    run = RunDirectory(home.runs / name)
    if not (run.path / "state.json").exists():
        known = ", ".join(sorted(path.name for path in home.runs.iterdir())) or "none"
        raise FileMissing("no such run", got=name, expected=f"one of: {known}")
    return run


def _mark_ended(run: RunDirectory, *, reason: str) -> None:
    """`failed`, unless the run has just ended by itself."""
    from server.summarise import summarise_run

    if run.state.status in TERMINAL:
        return
    run.advance(status="failed", reason=reason)
    run.event("run-ended", status="failed", reason=reason)
    summarise_run(run)


def _awaited_summary(run: RunDirectory) -> Summary:
    path = run.path / "summary.json"
    ends = time.monotonic() + SUMMARY_DEADLINE_S
    while not path.exists():
        if time.monotonic() > ends:
            raise HostError("the run has ended without a summary", got=run.path)
        time.sleep(FOLLOW_INTERVAL_S)
    return read_summary(path)
