"""A site that announces its reply and never sends it: real SuperLink, real key, an honest site beside it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_ssh_private_key
from flwr.app import Array, ArrayRecord, Message, RecordDict
from flwr.supercore.inflatable.inflatable_object import get_object_tree
from flwr.supernode.fleet_http_connection import http_request_response

from client.admission.declaration import declare
from client.admission.keys import SiteKeys
from client.processes.site_processes import site_processes
from fedminet.simulation.in_process_grid import server_identity
from fedminet.single_machine.admission import admit_here, make_coordinator_here
from minet_core.admission.kit import CA_FILE
from minet_core.runtime.cpu_threading import cpu_threading_environment
from minet_core.runtime.processes.child_processes import ChildProcesses, free_port
from server.flower.superlink_control import wait_for_nodes
from server.processes.server_processes import ServerProcesses
from server.runs.follow import run_to_end
from server.runs.run_directory import RunDirectory
from server.server_home import ServerSettings
from tests.faults.tiny_sites import make_tiny_sites, tiny_federation

HONEST, ROGUE = "sms", "umr"
DEADLINE_S = 8.0
RETRIES = 5
"""An honest site may miss the deadline on a busy machine; its round is asked for again."""

BUSY_S = 30.0
"""What a busy machine may take for the round beside its deadline; a reply that holds somebody does so for minutes."""


class Rogue(threading.Thread):
    """A node with the site's key that takes every request, announces a reply, and sends none of its parts."""

    def __init__(self, address: str, root_certificates: Path, private_key: Path) -> None:
        super().__init__(daemon=True)
        self._address, self._root = address, root_certificates.read_bytes()
        self._key = load_ssh_private_key(private_key.read_bytes(), None)
        self.announced: list[float] = []
        self.ended = threading.Event()

    def run(self) -> None:
        keys = (self._key, self._key.public_key())
        with http_request_response(self._address, False, self._root, keys, None, None) as connection:  # type: ignore[arg-type]
            node_id, receive, send = connection[0], connection[1], connection[2]
            while not self.ended.wait(0.2):
                received = receive()
                if received is None:
                    continue
                with server_identity():
                    reply = Message(
                        RecordDict({"weights": ArrayRecord({"all": Array("uint8", (3,), "none", b"abc")})}),
                        reply_to=received[0],
                    )
                reply.metadata.__dict__["_src_node_id"] = node_id
                reply.metadata.__dict__["_run_id"] = received[0].metadata.run_id
                reply.metadata.__dict__["_message_id"] = reply.object_id
                assert send(reply, get_object_tree(reply), 1.0)[
                    0
                ]  # the parts that the SuperLink waits for now
                self.announced.append(time.monotonic())


@contextmanager
def rogue_node(address: str, root_certificates: Path, private_key: Path) -> Iterator[Rogue]:
    rogue = Rogue(address, root_certificates, private_key)
    rogue.start()
    try:
        yield rogue
    finally:
        rogue.ended.set()
        rogue.join(timeout=180)


@pytest.mark.e2e
@pytest.mark.long
def test_a_reply_that_is_announced_and_never_sent_holds_nobody_past_the_deadline(tmp_path: Path) -> None:
    """Flower's own grid waited 188 s for it in a round with a deadline of 20 s."""
    federation = tiny_federation(
        sites=(HONEST, ROGUE),
        rounds=2,
        participation={"quorum": 1, "deadline_s": DEADLINE_S, "retries": RETRIES},
    )
    homes = make_tiny_sites(tmp_path, names=(HONEST, ROGUE))
    with ChildProcesses(grace_s=15.0) as children:
        server, authority = make_coordinator_here(
            tmp_path / "coordinator", federation, ServerSettings(hosts=("127.0.0.1",), port=free_port())
        )
        for home in homes.values():
            declare(home)
        admit_here(server, authority, homes)
        environment = {**cpu_threading_environment(), "OMP_NUM_THREADS": "1"}
        control = ServerProcesses(server, children, environment).start()
        site_processes(homes[HONEST], children, environment=environment).start()
        address = f"127.0.0.1:{server.settings().port}"
        with rogue_node(
            address, homes[ROGUE].kit / CA_FILE, SiteKeys.of(homes[ROGUE].keys).private_key
        ) as rogue:
            wait_for_nodes(
                control,
                (HONEST, ROGUE),
                wait=lambda online: children.wait_until(
                    online, deadline_s=120.0, what="all are online", interval_s=0.5
                ),
            )
            summary = run_to_end(server, "half", progress=lambda *_: None, watch=children)
    run = RunDirectory(server.runs / "half")
    assert summary.status == "partial", summary.status_reason
    records = run.rounds_recorded()
    assert [record["sites"][ROGUE]["refused"] for record in records] == ["FM-F405", "FM-F405"]
    assert all(record["seconds"] < DEADLINE_S + BUSY_S for record in records)
    assert len(rogue.announced) >= 3  # both rounds and the test: it was asked, and did answer by half
    events = [json.loads(line) for line in (run.path / "events.jsonl").read_text().splitlines()]
    completed = [event["sites"] for event in events if event["event"] == "round-completed"]
    assert completed == [[HONEST]] * 2
