"""The real deployment engine: TLS, node authentication, process isolation, a bundle without code."""

from __future__ import annotations

import json
import textwrap
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from client.site_home import SiteHome
from client.site_keys import make_site_keys
from client.supernode import SiteProcesses, site_processes
from minet_core.federation import FederationSettings
from minet_core.runtime.processes import ChildProcesses, free_port
from server.bundle import build_bundle, read_bundle, write_bundle
from server.control import SuperLinkControl, wait_for_nodes
from server.enrolment import admit
from server.server_home import ServerHome, ServerSettings, init_server
from server.superlink import start_superlink

SITES = ("fastmri", "sms", "umr")

SERVER_APP = """
import json, os, time
from pathlib import Path
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.serverapp import ServerApp

app = ServerApp()

@app.main()
def main(grid, context):
    nodes = {node.node_id: node for node in grid.get_nodes()}
    found = {"run": context.run_config["run"], "environment": sorted(os.environ), "rounds": [],
             "names": sorted(node.name for node in nodes.values()),
             "statuses": sorted(node.status for node in nodes.values()), "replies": {}}
    for number in range(3):
        started = time.monotonic()
        messages = [Message(RecordDict({"ask": ConfigRecord({"number": number})}), node_id, "train",
                            group_id=str(number)) for node_id in nodes]
        left = set(grid.push_messages(messages))
        while left and time.monotonic() - started < 60:
            for reply in grid.pull_messages(list(left)):
                left.discard(reply.metadata.reply_to_message_id)
                name = nodes[reply.metadata.src_node_id].name
                found["replies"][name] = dict(reply.content["answer"]) if reply.has_content() else reply.error.reason
            time.sleep(0.2)
        found["rounds"].append(time.monotonic() - started)
    path = Path(os.environ["FEDMINET_RUNS"]) / "found.json"
    path.with_suffix(".partial").write_text(json.dumps(found))
    path.with_suffix(".partial").replace(path)
"""

CLIENT_APP = """
import os
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()

@app.train()
def train(message, context):
    site = os.environ["FEDMINET_SITE"]
    answer = {"folder": os.path.basename(site), "number": message.content["ask"]["number"],
              "node_config": str(dict(context.node_config)), "has_runs": "FEDMINET_RUNS" in os.environ}
    return Message(RecordDict({"answer": ConfigRecord(answer)}), reply_to=message)
"""


@dataclass
class Deployment:
    home: ServerHome
    children: ChildProcesses
    control: SuperLinkControl
    sites: dict[str, SiteProcesses]
    started_s: float
    online_s: float


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    folder = tmp_path_factory.mktemp("deployment")
    apps = folder / "apps"
    apps.mkdir()
    (apps / "trial_server.py").write_text(textwrap.dedent(SERVER_APP))
    (apps / "trial_client.py").write_text(textwrap.dedent(CLIENT_APP))
    federation = FederationSettings(name="trial", sites=SITES, quorum=3)
    home = init_server(folder / "server", federation, ServerSettings(port=free_port()))
    write_bundle(home.superlink, build_bundle(server_app="trial_server:app", client_app="trial_client:app"))
    site_homes = {name: _admitted(home, folder / "sites" / name, name) for name in SITES}
    with ChildProcesses() as children:
        started = time.monotonic()
        control = start_superlink(home, children, PYTHONPATH=str(apps))
        answered = time.monotonic()
        sites = {
            name: site_processes(site_home, children, environment={"PYTHONPATH": str(apps)}, preloaded=("torch",))
            for name, site_home in site_homes.items()
        }
        for site in sites.values():
            site.start()
        wait_for_nodes(
            control,
            SITES,
            wait=lambda online: children.wait_until(online, deadline_s=60, what="all are online"),
        )
        yield Deployment(home, children, control, sites, answered - started, time.monotonic() - answered)
    

def _admitted(home: ServerHome, path: Path, name: str) -> SiteHome:
    site = SiteHome(path)
    keys = make_site_keys(site.keys, name=name)
    admit(home, name, keys.public_key, kit=site.kit)
    return site


@pytest.fixture(scope="module")
def found(deployment: Deployment) -> dict:
    submitted = time.monotonic()
    run_id = deployment.control.submit_run(
        read_bundle(deployment.home.superlink), run_config={"run": "first"}
    )
    deployment.children.wait_until(
        lambda: deployment.control.run_status(run_id).finished,
        deadline_s=120,
        what="the run ends",
        interval_s=0.5,
    )
    status = deployment.control.run_status(run_id)
    assert status.completed, (status, (deployment.home.logs / "server-app.log").read_text()[-3000:])
    answer = json.loads((deployment.home.runs / "found.json").read_text())
    print(
        json.dumps(
            {
                "started_s": deployment.started_s,
                "online_s": deployment.online_s,
                "rounds_s": answer["rounds"],
                "run_s": time.monotonic() - submitted,
            }
        )
    )
    return answer


@pytest.mark.e2e
def test_the_server_sees_the_names_it_registered(found: dict) -> None:
    assert found["names"] == list(SITES)
    assert set(found["statuses"]) == {"online"}
