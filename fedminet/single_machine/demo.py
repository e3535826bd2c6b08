"""The main job on one machine: a coordinator and three sites, each its own process, over loopback with TLS.

Everything is done by the commands that a coordinator and a hospital use; this file only calls them in order.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from client.admission.declaration import declare
from fedminet.single_machine.admission import admit_here, make_coordinator_here
from fedminet.single_machine.federation import Rehearsal
from fedminet.single_machine.rounds_within_budget import rounds_here
from minet_core.errors import RunFailed
from minet_core.report.summary import Summary
from minet_core.runtime.cpu_threading import cpu_threading_environment
from minet_core.runtime.processes.child_processes import ChildProcesses, child_environment, free_port
from minet_core.runtime.progress import progress
from server.runs.follow import run_to_end, server_status
from server.runs.run_directory import RunDirectory
from server.server_home import ServerHome, ServerSettings

START_DEADLINE_S = 120.0
RUN_NAME = "demo"

CHILD_GRACE_S = 15.0
"""More than the children take to end their own children."""


def run_demo(rehearsal: Rehearsal, *, quiet: bool = False, training_s: float | None = None) -> Summary:
    """Ingest, admit, start, train, test, report. Raises RunFailed (FM-F403); ends every process it started.

    training_s: where given, only as many of the rounds as this machine is expected to train in so many seconds.
    """
    _say("Making and ingesting the scans of three sites", quiet=quiet)
    rehearsal.make_sites()
    if training_s is not None:
        rehearsal = shortened(rehearsal, training_s, quiet=quiet)
    server = enrol(rehearsal, ServerSettings(hosts=("127.0.0.1", "localhost"), port=free_port()))
    with ChildProcesses(grace_s=CHILD_GRACE_S) as children:
        _say("Starting the server and three sites", quiet=quiet)
        start_processes(children, rehearsal, server)
        with progress("Rounds", quiet=quiet) as advance:
            summary = run_to_end(server, RUN_NAME, progress=advance, watch=children)
    if summary.status == "failed":
        raise RunFailed("the demonstration ended without a global model", got=summary.status_reason)
    return rehearsal.finish(RunDirectory(server.runs / RUN_NAME))


def shortened(rehearsal: Rehearsal, training_s: float, *, quiet: bool) -> Rehearsal:
    """The rehearsal with as many of its rounds as this machine is expected to train in so many seconds."""
    federation = rehearsal.federation
    rounds = rounds_here(training_s, federation)
    if rounds == federation.rounds:
        return rehearsal
    _say(
        f"{rounds} rounds, for a short demonstration on this machine; "
        f"--rounds {federation.rounds} trains a better model",
        quiet=quiet,
    )
    return replace(rehearsal, federation=federation.model_copy(update={"rounds": rounds}))


def prepare_for_containers(rehearsal: Rehearsal, *, host: str, quiet: bool = False) -> ServerHome:
    """Make what a coordinator and three sites in containers start with, and start nothing (docs/containers.md).

    host: the name by which the sites reach the coordinator's proxy.
    """
    _say("Making and ingesting the scans of three sites", quiet=quiet)
    rehearsal.make_sites()
    return enrol(rehearsal, container_settings(host))


def container_settings(host: str) -> ServerSettings:
    """`server.yaml` of a coordinator whose port a proxy forwards, and whom the sites know as `host`."""
    return ServerSettings(hosts=(host, "localhost"), bind="0.0.0.0", port=9443, public_port=443)  # noqa: S104


def enrol(rehearsal: Rehearsal, settings: ServerSettings) -> ServerHome:
    """Make the coordinator's folder, and admit the sites, whose folders are there."""
    server, authority = make_coordinator_here(rehearsal.out / "coordinator", rehearsal.federation, settings)
    for home in rehearsal.homes().values():
        home.make_folders()
        declare(home)
    admit_here(server, authority, rehearsal.homes())
    return server


def start_processes(
    children: ChildProcesses, rehearsal: Rehearsal, server: ServerHome, **variables: str
) -> None:
    """Start the server, wait until it answers, and start every site.

    variables: of their environment, beside those of this process. Raises HostError where the server does not answer.
    """
    environment = child_environment(**cpu_threading_environment(), OMP_NUM_THREADS="1", **variables)
    children.start(
        "the server",
        _fedminet("server", "start", server.path),
        env=environment,
        log_path=server.logs / "start.log",
    )
    children.wait_until(
        lambda: bool(server_status(server)["healthy"]), deadline_s=START_DEADLINE_S, what="the server answers"
    )
    for site, home in rehearsal.homes().items():
        children.start(
            f"site {site}",
            _fedminet("site", "start", home.path),
            env=environment,
            log_path=home.logs / "start.log",
        )


def _fedminet(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "fedminet", *map(str, arguments)]


def _say(text: str, *, quiet: bool) -> None:
    if not quiet:
        sys.stderr.write(text + "\n")
        sys.stderr.flush()
