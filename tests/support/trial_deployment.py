"""A real deployment of one server and two sites, with two small apps in place of ours."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from client.preflight.server_reachability import require_server
from client.processes.site_processes import SiteProcesses, site_processes
from fedminet.single_machine.admission import admit_here, make_coordinator_here
from minet_core.runtime.processes.child_processes import ChildProcesses, free_port
from minet_core.settings.federation import FederationSettings
from server.flower.bundle import Bundle, build_bundle, read_bundle, write_bundle
from server.flower.superlink_control import RunStatus, SuperLinkControl, wait_for_nodes
from server.processes.server_processes import ServerProcesses
from server.server_home import ServerHome, ServerSettings
from tests.support.admitted import make_site

SITES = ("sms", "umr")
CANARY = "ward-seven-canary"
"""Set in every site's environment; must be found nowhere at the coordinator."""

WITHIN_S = 240.0
"""For what takes seconds: a busy machine has its time."""

SERVER_APP = """
import json, os, time
from pathlib import Path
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.serverapp import ServerApp

app = ServerApp()

@app.main()
def main(grid, context):
    run = context.run_config["run"]
    nodes = {node.node_id: node for node in grid.get_nodes() if node.status == "online"}
    found = {"names": sorted(node.name for node in nodes.values()), "environment": sorted(os.environ),
             "answers": {}, "errors": {}, "rounds_s": []}
    for number in range(2 if run == "two-rounds" else 1):
        started = time.monotonic()
        content = RecordDict({"ask": ConfigRecord({"number": number})})
        left = set(grid.push_messages([Message(content, node_id, "train", group_id="1") for node_id in nodes]))
        while left and time.monotonic() - started < 200:
            for reply in grid.pull_messages(list(left)):
                left.discard(reply.metadata.reply_to_message_id)
                name = nodes[reply.metadata.src_node_id].name
                if reply.has_error():
                    found["errors"][name] = reply.error.reason
                else:
                    found["answers"][name] = dict(reply.content["answer"])
                    found["answers"][name]["n_pieces"] = len(reply.content["update"]["pieces"]) // 32
            time.sleep(0.2)
        found["rounds_s"].append(time.monotonic() - started)
    path = Path(os.environ["FEDMINET_RUNS"]) / f"{run}.json"
    path.with_suffix(".partial").write_text(json.dumps(found))
    path.with_suffix(".partial").replace(path)
"""

CLIENT_APP = """
import hashlib, os
import torch
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()

@app.train()
def train(message, context):
    if context.run_config["run"] == "raising":
        raise ValueError(os.environ["FEDMINET_SITE"] + " " + os.environ["CANARY"])
    layer = torch.nn.Conv2d(1, 8, 3)  # threads must work in a forked task
    layer(torch.ones(4, 1, 64, 64)).sum().backward()
    answer = {"site": os.path.basename(os.environ["FEDMINET_SITE"]), "number": message.content["ask"]["number"],
              "node_config": str(dict(context.node_config)), "has_runs": "FEDMINET_RUNS" in os.environ,
              "gradient": float(layer.bias.grad[0])}
    pieces = [hashlib.sha256(f"{answer['site']} {number}".encode()).digest() for number in range(4096)]
    update = ConfigRecord({"pieces": b"".join(pieces)})
    return Message(RecordDict({"answer": ConfigRecord(answer), "update": update}), reply_to=message)
"""


@dataclass
class Deployment:
    """What was started, and how long it took."""

    server: ServerHome
    children: ChildProcesses
    control: SuperLinkControl
    sites: dict[str, SiteProcesses]
    seconds: dict[str, float]
    commands: set[str] = field(default_factory=set)
    """The arguments of every process that was seen on the machine while a run was in work."""

    def run(self, name: str, *, bundle: Bundle | None = None) -> dict[str, Any]:
        """Run the trial apps to their end; what the ServerApp found."""
        ended = self.ended(name, bundle=bundle)
        log = (self.server.logs / "server-app.log").read_text()
        assert ended.completed, ended.details + log[-3000:]
        found: dict[str, Any] = json.loads((self.server.runs / f"{name}.json").read_text())
        return found

    def ended(self, name: str, *, bundle: Bundle | None = None) -> RunStatus:
        """Run them; how the run ended."""
        chosen = bundle or read_bundle(self.server.superlink)
        run_id = self.control.submit_run(chosen, run_config={"run": name})

        def finished() -> bool:
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                with contextlib.suppress(OSError):
                    self.commands.add(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
            return self.control.run_status(run_id).finished

        self.children.wait_until(finished, deadline_s=WITHIN_S, what="the run ends", interval_s=0.1)
        return self.control.run_status(run_id)


@contextlib.contextmanager
def trial_deployment(folder: Path) -> Iterator[Deployment]:
    """Start the server and the sites, wait until all are online, and end everything with the context."""
    apps = folder / "apps"
    apps.mkdir()
    (apps / "trial_server.py").write_text(SERVER_APP)
    (apps / "trial_client.py").write_text(CLIENT_APP)
    federation = FederationSettings(name="trial", sites=SITES, participation={"quorum": len(SITES)})
    server, authority = make_coordinator_here(folder / "server", federation, ServerSettings(port=free_port()))
    write_bundle(server.superlink, build_bundle(server_app="trial_server:app", client_app="trial_client:app"))
    homes = {name: make_site(folder / "sites" / name, name) for name in SITES}
    admit_here(server, authority, homes)
    began = time.monotonic()
    with ChildProcesses() as children:
        control = ServerProcesses(server, children, {"PYTHONPATH": str(apps)}).start()
        seconds = {"server": time.monotonic() - began}
        environment = {"PYTHONPATH": str(apps), "CANARY": CANARY}
        sites = {
            name: site_processes(home, children, environment=environment, preloaded=("torch",))
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
        seconds["online"] = time.monotonic() - began
        yield Deployment(server, children, control, sites, seconds)
        began = time.monotonic()
    print(json.dumps({**seconds, "stopped": time.monotonic() - began}))
