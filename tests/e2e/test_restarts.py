"""Every process of a federation is killed in turn, and comes back without a hand; the times are printed.

One server and three sites on the real deployment engine, with two small apps in place of ours.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from flwr.common.constant import ErrorCode

from client.preflight.server_reachability import require_server
from client.processes.site_processes import SiteProcesses, site_processes
from fedminet.single_machine.admission import admit_here, make_coordinator_here
from minet_core.errors import DeadlinePassed, HostError
from minet_core.runtime.processes.child_processes import ChildProcesses, free_port
from minet_core.settings.federation import FederationSettings
from server.flower.bundle import build_bundle, read_bundle, write_bundle
from server.flower.superlink_control import RunStatus, SuperLinkControl, wait_for_nodes
from server.processes.server_processes import SUPEREXEC, SUPERLINK, ServerProcesses, serve
from server.server_home import ServerHome, ServerSettings
from tests.support.admitted import make_site

pytestmark = [pytest.mark.e2e, pytest.mark.long]

SITES = ("fastmri", "sms", "umr")
WITHIN_S = 240.0
"""For what takes seconds: a busy machine has its time."""

HELD = "held-"
"""Begins the name of a run whose tasks are at work until the test lets them go: what is killed meets them there."""

SERVER_APP = """
import json, os, time
from pathlib import Path
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.common.constant import ErrorCode
from flwr.serverapp import ServerApp

app = ServerApp()

@app.main()
def main(grid, context):
    run = context.run_config["run"]
    folder = Path(os.environ["FEDMINET_RUNS"])
    (folder / f"{run}.pid").write_text(str(os.getpid()))
    began = time.monotonic()
    nodes = {}
    while len(nodes) < 3 and time.monotonic() - began < 200:  # a node may miss its signs of life on a busy machine
        nodes = {node.node_id: node.name for node in grid.get_nodes() if node.status == "online"}
        time.sleep(0.2)
    content = RecordDict({"ask": ConfigRecord({"number": 1})})
    began = time.monotonic()
    asked_of = {}  # by message, the node that has it

    def ask(some):
        sent = grid.push_messages([Message(content, node_id, "train", group_id="1") for node_id in some])
        asked_of.update(zip(sent, some))
        return set(sent)

    left, lost = ask(list(nodes)), set()
    found = {"online": sorted(nodes.values()), "answers": {}, "errors": {}, "waits_s": []}
    while (left or lost) and time.monotonic() - began < 480:
        asked = time.monotonic()
        replies = list(grid.pull_messages(list(left))) if left else []
        found["waits_s"].append(time.monotonic() - asked)
        for reply in replies:
            left.discard(reply.metadata.reply_to_message_id)
            node_id = asked_of[reply.metadata.reply_to_message_id]
            if not reply.has_error():
                found["answers"][nodes[node_id]] = dict(reply.content["answer"])
            elif run == "held-link" and reply.error.code == ErrorCode.NODE_UNAVAILABLE:
                lost.add(node_id)  # as our own application does it, which asks again
            else:
                found["errors"][nodes[node_id]] = [reply.error.code, reply.error.reason]
        if lost:  # a SuperLink that was away for long takes a node for gone until its next sign of life
            back = lost & {node.node_id for node in grid.get_nodes() if node.status == "online"}
            left |= ask(list(back)) if back else set()
            lost -= back
        time.sleep(0.2)
    found["seconds"] = time.monotonic() - began
    path = folder / f"{run}.json"
    path.with_suffix(".partial").write_text(json.dumps(found))
    path.with_suffix(".partial").replace(path)
"""

CLIENT_APP = """
import os, time
from pathlib import Path
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()

@app.train()
def train(message, context):
    site, run = Path(os.environ["FEDMINET_SITE"]), context.run_config["run"]
    with (site / "tasks").open("a") as tasks:
        print(run, os.getpid(), file=tasks)
    while run.startswith("held-") and not (site / f"{run}.let-go").exists():
        time.sleep(0.05)
    return Message(RecordDict({"answer": ConfigRecord({"process": os.getpid()})}), reply_to=message)
"""


@dataclass
class Deployment:
    """What was started, what was said about it, and how long things took."""

    server: ServerHome
    children: ChildProcesses
    control: SuperLinkControl
    processes: ServerProcesses
    sites: dict[str, SiteProcesses]
    said: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)

    def tend(self) -> None:
        self.said += self.processes.tend(answered=False)
        for site in self.sites.values():
            self.said += site.tend()

    def wait(self, predicate: Callable[[], bool], *, what: str) -> float:
        """Wait, and tend meanwhile, until `predicate()`; how long it took."""
        began = time.monotonic()

        def reached() -> bool:
            self.tend()
            return predicate()

        self.children.wait_until(reached, deadline_s=WITHIN_S, what=what, interval_s=0.2)
        return time.monotonic() - began

    def kill(self, *names: str) -> None:
        for name in names:
            (child,) = [child for child in self.children if child.name == name]
            os.kill(child.process.pid, signal.SIGKILL)
            child.process.wait()

    def submit(self, run: str) -> int:
        return self.control.submit_run(read_bundle(self.server.superlink), run_config={"run": run})

    def tasks(self, site: str, run: str) -> list[int]:
        """The processes that worked on a run at a site."""
        path = self.sites[site].home.path / "tasks"
        lines = path.read_text().splitlines() if path.exists() else []
        return [int(line.split()[1]) for line in lines if line.split()[0] == run]

    def let_go(self, run: str) -> None:
        """Let the tasks of a run that holds them come to their end."""
        for site in self.sites.values():
            (site.home.path / f"{run}.let-go").touch()

    def wait_for_tasks(self, run: str) -> None:
        try:
            self.wait(
                lambda: all(self.tasks(site, run) for site in SITES),
                what=f"{run} is at work at every site",
            )
        except DeadlinePassed:
            self.print_state(run)
            raise

    def print_state(self, run: str) -> None:
        """What a reader of a failed test would look for."""
        print("tasks", {site: self.tasks(site, run) for site in SITES}, "said", self.said)
        print("application", (self.server.runs / f"{run}.pid").exists(), self.control.nodes())

    def result(self, run: str) -> dict[str, Any]:
        path = self.server.runs / f"{run}.json"
        self.wait(path.exists, what=f"{run} ends")
        found: dict[str, Any] = json.loads(path.read_text())
        return found

    def check_all(self, run: str) -> None:
        """A new run has an answer of every site."""
        self.wait(self.online, what="all are online")
        self.submit(run)
        found = self.result(run)
        assert found["errors"] == {}
        assert sorted(found["answers"]) == list(SITES)

    def admissions(self, site: str) -> int:
        return self.sites[site].node_log.read_text().count("SuperNode ID")

    def online(self) -> bool:
        try:
            nodes = self.control.nodes()
        except HostError:  # the server is away, or is just starting
            return False
        return sum(node.status == "online" for node in nodes) == len(SITES)


@dataclass(frozen=True)
class Late(SuperLinkControl):
    """Its first look at a run is from before the run finished."""

    first_look: list[RunStatus]

    def run_status(self, run_id: int) -> RunStatus:
        return self.first_look.pop() if self.first_look else super().run_status(run_id)


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    folder = tmp_path_factory.mktemp("restarts")
    apps = folder / "apps"
    apps.mkdir()
    (apps / "restart_server.py").write_text(SERVER_APP)
    (apps / "restart_client.py").write_text(CLIENT_APP)
    federation = FederationSettings.model_validate(
        {"name": "trial", "sites": SITES, "participation": {"quorum": 3}}
    )
    server, authority = make_coordinator_here(folder / "server", federation, ServerSettings(port=free_port()))
    bundle = build_bundle(server_app="restart_server:app", client_app="restart_client:app")
    write_bundle(server.superlink, bundle)
    homes = {name: make_site(folder / "sites" / name, name) for name in SITES}
    admit_here(server, authority, homes)
    with ChildProcesses(grace_s=4.0) as children:
        processes = ServerProcesses(server, children, {"PYTHONPATH": str(apps)})
        control = processes.start()
        sites = {
            name: site_processes(home, children, environment={"PYTHONPATH": str(apps)}, preloaded=())
            for name, home in homes.items()
        }
        for site in sites.values():
            require_server(site.kit.settings.address, tls=site.tls)
            site.start()
        wait_for_nodes(
            control,
            SITES,
            wait=lambda online: children.wait_until(online, deadline_s=WITHIN_S, what="all are online"),
        )
        started = Deployment(server, children, control, processes, sites)
        yield started
    print(json.dumps({what: round(seconds, 1) for what, seconds in started.seconds.items()}, indent=1))


def test_tasks_outlive_what_is_killed_around_them_at_a_site(deployment: Deployment) -> None:
    """A task itself, the SuperExec that started one, and the host that runs one, each at another site."""
    run = f"{HELD}site"
    deployment.submit(run)
    deployment.wait_for_tasks(run)
    began = time.monotonic()
    os.kill(deployment.tasks("sms", run)[0], signal.SIGKILL)
    deployment.kill("superexec-umr", "task-host-fastmri")
    deployment.wait(
        lambda: all(len(deployment.tasks(site, run)) == 2 for site in ("sms", "fastmri")),
        what="both killed tasks are at work again",
    )
    deployment.let_go(run)
    found = deployment.result(run)
    deployment.seconds["a task, a SuperExec and a task host killed: the run ended"] = time.monotonic() - began
    assert found["errors"] == {}
    assert sorted(found["answers"]) == list(SITES)
    assert {site: len(deployment.tasks(site, run)) for site in SITES} == {"sms": 2, "umr": 1, "fastmri": 2}
    assert len(deployment.said) == 2  # each once
    deployment.check_all("after-sites")


def test_a_killed_node_is_back_and_the_server_is_told_that_its_message_is_lost(
    deployment: Deployment,
) -> None:
    run = f"{HELD}node"
    deployment.submit(run)
    deployment.wait_for_tasks(run)
    admissions = deployment.admissions("sms")
    deployment.kill("supernode-sms")
    back_s = deployment.wait(lambda: deployment.admissions("sms") > admissions, what="the node is back")
    deployment.seconds["node killed: back"] = back_s
    deployment.let_go(run)
    found = deployment.result(run)
    assert [code for code, _ in found["errors"].values()] == [ErrorCode.NODE_UNAVAILABLE]
    assert sorted(found["answers"]) == ["fastmri", "umr"]
    deployment.check_all("after-node")


def test_a_run_goes_on_when_the_superlink_is_back(deployment: Deployment) -> None:
    run = f"{HELD}link"
    deployment.submit(run)
    deployment.wait_for_tasks(run)
    deployment.kill(SUPERLINK)
    deployment.seconds["SuperLink killed: all online again"] = deployment.wait(
        deployment.online, what="all are online"
    )
    deployment.let_go(run)
    found = deployment.result(run)
    deployment.seconds["SuperLink killed: the longest that the server application waited"] = max(
        found["waits_s"]
    )
    assert found["errors"] == {}
    assert sorted(found["answers"]) == list(SITES)


def test_a_run_whose_superexec_was_killed_has_failed_and_another_one_is_run(deployment: Deployment) -> None:
    run = f"{HELD}exec"
    flower_run = deployment.submit(run)
    deployment.wait_for_tasks(run)
    application = Path(f"/proc/{(deployment.server.runs / f'{run}.pid').read_text()}")
    deployment.kill(SUPEREXEC)
    status = deployment.control.run_status
    deployment.seconds["the server's SuperExec killed: its run has failed"] = deployment.wait(
        lambda: status(flower_run).finished, what="the run has failed"
    )
    assert not status(flower_run).completed
    deployment.wait(lambda: not application.exists(), what="its application has ended")
    deployment.let_go(run)
    deployment.check_all("after-exec")


def test_a_run_whose_application_was_killed_is_stopped_and_another_one_is_run(deployment: Deployment) -> None:
    run = f"{HELD}app"
    flower_run = deployment.submit(run)
    deployment.wait_for_tasks(run)
    running = deployment.control.run_status(flower_run)
    os.kill(int((deployment.server.runs / f"{run}.pid").read_text()), signal.SIGKILL)
    deployment.control.stop_run(flower_run)
    assert deployment.control.run_status(flower_run).finished
    late = Late(deployment.control.address, deployment.control.ca, [running])
    late.stop_run(flower_run)  # which has finished meanwhile
    assert not late.first_look
    deployment.let_go(run)
    deployment.check_all("after-app")


def test_the_server_survives_its_superlink_and_a_failure_of_what_it_tends(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    federation = FederationSettings.model_validate(
        {"name": "trial", "sites": ("sms",), "participation": {"quorum": 1}}
    )
    server, _ = make_coordinator_here(tmp_path / "server", federation, ServerSettings(port=free_port()))
    killed: list[int] = []
    tended: list[SuperLinkControl] = []

    def tend(control: SuperLinkControl) -> None:
        (superlink,) = _own_children("flower-superlink", str(server.path))
        if killed and superlink != killed[0] and control.answers():
            raise KeyboardInterrupt
        tended.append(control)
        if len(tended) == 3 and not killed:
            killed.append(superlink)
            os.kill(superlink, signal.SIGKILL)
        if len(tended) < 3:
            raise PermissionError(errno.EACCES, "Permission denied", "state.lock")
        raise HostError("a run cannot go on")

    with pytest.raises(KeyboardInterrupt):
        serve(server, tend=tend)
    said = caplog.text
    assert said.count("a run cannot go on") == 1
    assert said.count("state.lock cannot be read or written; got Permission denied") == 1
    assert said.count("superlink ended with status -9; starting it again") == 1


def _own_children(*words: str) -> list[int]:
    """The living processes that this one started with these words in their command."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
            command = (folder / "cmdline").read_text()
        except OSError:  # it has just ended
            continue
        if int(parent) == os.getpid() and state != "Z" and all(word in command for word in words):
            found.append(int(folder.name))
    return found
