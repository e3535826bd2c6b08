"""Starting a run on the server, following it to its end, and saying how the server stands."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from minet_core.errors import (
    ConfigurationError,
    FileMissing,
    FileNotWritten,
    HostError,
    RunWithoutProgress,
    ServerUnreachable,
)
from minet_core.protocol.messages import RUN_NAME
from minet_core.report.summary import Summary, read_summary
from minet_core.runtime.processes.child_processes import ChildProcesses
from minet_core.runtime.progress import Advance
from minet_core.settings.federation import FederationSettings
from server.admission.enrolment import admitted_sites, declared_cohorts
from server.admission.pki import ca_files
from server.admission.revocation import revocations
from server.flower.superlink_control import SuperLinkControl
from server.ledger import note_act
from server.runs.participation import require_declarations
from server.runs.resubmit import abandoned, end_as_failed, last_submission, submit
from server.runs.run_directory import RunDirectory
from server.server_home import ServerHome, local_address

FOLLOW_INTERVAL_S = 0.5

ASK_FLOWER_INTERVAL_S = 5.0
"""How often Flower is asked whether the server application still runs; the run's own state is a file."""

SUMMARY_DEADLINE_S = 60.0
"""How long the summary may follow the run's last state."""


def run_to_end(
    home: ServerHome,
    name: str,
    *,
    progress: Advance,
    watch: ChildProcesses | None = None,
    resume: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> Summary:
    """Start the run `name`, or continue it, and follow it until it has ended.

    watch: child processes of the caller that must live meanwhile. say: told once why a run is interrupted. Raises
    ConfigurationError (FM-C100) where a run of this name exists that is not to be continued, ServerUnreachable
    (FM-S502), ProcessDied (FM-S503).
    """
    if not RUN_NAME.fullmatch(name):
        raise ConfigurationError("a run has no plain name", got=name, expected="letters, digits, - and _")
    home.federation()  # a wrong file is said before anybody is asked
    control = control_of(home)
    control.nodes()  # an unreachable server is said so before a run directory is made
    if resume and (ended := _existing(home, name)).ended:
        say(
            f"Run {name} has ended as {ended.state.status} and goes no further. This is what came of it; a new run has "
            "another name."
        )
        return _awaited_summary(ended)
    run = _taken_up(home, control, name) if resume else _created(home, control, name)
    note_act(
        home, "run-continued" if resume else "run-started", run=name, federation=run.federation().digest()
    )
    said: str | None = None
    asked = time.monotonic()
    while not run.ended:
        state = run.state
        progress(state.round, state.rounds)
        if state.reason != said and state.reason is not None:
            say(f"{state.reason}. The run goes on by itself.")
        said = state.reason
        if watch is not None:
            watch.check()
        if time.monotonic() - asked > ASK_FLOWER_INTERVAL_S:
            asked = time.monotonic()
            with contextlib.suppress(FileNotWritten):  # the run has said so, and goes on when there is room
                _continue_if_abandoned(home, control, run)
        time.sleep(FOLLOW_INTERVAL_S)
    progress(run.state.round, run.state.rounds)
    return _awaited_summary(run)


def resume_run(home: ServerHome, name: str) -> None:
    """Take an existing run up again unless somebody works on it, as `run_to_end` does, and do not wait for its end.

    Raises ConfigurationError (FM-C100) where the run has ended, FileMissing (FM-C103), ServerUnreachable (FM-S502).
    """
    run = _existing(home, name)
    if run.ended:
        raise ConfigurationError("a run that has ended is not taken up again", got=run.state.status)
    control = control_of(home)
    control.nodes()
    note_act(home, "run-continued", run=name, federation=run.federation().digest())
    _taken_up(home, control, name)


def stop_run(home: ServerHome, name: str) -> None:
    """Stop a run; its state becomes `failed` with the reason, and what it has completed is kept."""
    run = _existing(home, name)
    note_act(home, "run-stopped", run=name)
    end_as_failed(run, reason="stopped by the coordinator")
    submission = last_submission(run)
    if submission is not None:
        control_of(home).stop_run(submission.flower_run)


def server_status(home: ServerHome) -> dict[str, Any]:
    """Whether the server answers, each member's state, and the state of every run."""
    control = control_of(home)
    healthy = control.answers()
    online = {node.name: node.status for node in control.nodes()} if healthy else {}
    admitted, revoked = admitted_sites(home), revoked_sites(home)
    sites = {
        site: online.get(site, "unknown") if site in admitted else revoked.get(site, "not admitted")
        for site in home.federation().sites
    }
    runs = {
        path.parent.name: asdict(RunDirectory(path.parent).state)
        for path in sorted(home.runs.glob("*/state.json"))
    }
    return {"healthy": healthy, "address": local_address(home), "sites": sites, "runs": runs}


def status_lines(facts: Mapping[str, Any]) -> list[str]:
    """What `server_status` found, for a person; of a run that waits or failed also why."""
    lines = [f"server: {'answers' if facts['healthy'] else 'does not answer'} at {facts['address']}"]
    lines += [f"site {site}: {state}" for site, state in facts["sites"].items()]
    for name, state in facts["runs"].items():
        why = (
            f": {state['reason']}" if state["reason"] and state["status"] in ("interrupted", "failed") else ""
        )
        lines.append(f"run {name}: {state['status']}, round {state['round']} of {state['rounds']}{why}")
    return lines


def revoked_sites(home: ServerHome) -> dict[str, str]:
    """By name, when the keys of a site were revoked that has no others: `revoked since DATE`."""
    admitted = admitted_sites(home)
    return {
        revocation.site: f"revoked since {revocation.revoked_at[:10]}"
        for revocation in revocations(home.pki)
        if revocation.site not in admitted
    }


def control_of(home: ServerHome) -> SuperLinkControl:
    """The started server's SuperLink."""
    return SuperLinkControl(local_address(home), ca=ca_files(home.pki).certificate)


def _existing(home: ServerHome, name: str) -> RunDirectory:
    run = RunDirectory(home.runs / name)
    if not (run.path / "state.json").exists():
        known = ", ".join(sorted(path.parent.name for path in home.runs.glob("*/state.json"))) or "none"
        raise FileMissing("no such run", got=name, expected=f"one of: {known}")
    return run


def _created(home: ServerHome, control: SuperLinkControl, name: str) -> RunDirectory:
    federation, declared = home.federation(), declared_cohorts(home)
    _require_admitted(home, federation)
    require_declarations(federation, declared)
    run = RunDirectory.create(
        home.runs / name,
        federation,
        engine="deployment",
        declared={site: cohort for site, cohort in declared.items() if site in federation.sites},
        keep_checkpoints=home.settings().keep_checkpoints,
    )
    submit(home, control, run, former=None)
    return run


def _require_admitted(home: ServerHome, federation: FederationSettings) -> None:
    missing = sorted(set(federation.sites) - set(admitted_sites(home)))
    revoked = revoked_sites(home)
    if missing:
        raise ConfigurationError(
            "a member of the federation is not admitted",
            got=", ".join(f"{site} ({revoked[site]})" if site in revoked else site for site in missing),
            action="Take it out of `sites` in federation.yaml and make new kits for the others, or admit its new keys"
            if set(missing) <= set(revoked)
            else "Run `fedminet server admit` for it",
        )


def _taken_up(home: ServerHome, control: SuperLinkControl, name: str) -> RunDirectory:
    """An existing run, continued unless somebody works on it."""
    run = _existing(home, name)
    submission = last_submission(run)
    if submission is None and not run.ended:
        submit(home, control, run, former=None)
    else:
        _continue_if_abandoned(home, control, run)
    return run


def _continue_if_abandoned(home: ServerHome, control: SuperLinkControl, run: RunDirectory) -> None:
    """Submit a run again that nobody works on: the started server does so too, and the first one to come does."""
    submission = last_submission(run)
    with contextlib.suppress(ServerUnreachable):
        finished = submission is not None and control.run_status(submission.flower_run).finished
        if abandoned(run, submission, finished=finished):
            with contextlib.suppress(RunWithoutProgress):
                submit(home, control, run, former=submission)


def _awaited_summary(run: RunDirectory) -> Summary:
    path = run.path / "summary.json"
    ends = time.monotonic() + SUMMARY_DEADLINE_S
    while not path.exists():
        if time.monotonic() > ends:
            raise HostError("the run has ended without a summary", got=run.path)
        time.sleep(FOLLOW_INTERVAL_S)
    return read_summary(path)
