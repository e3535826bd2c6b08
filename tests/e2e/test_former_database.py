"""The database that a coordinator on an earlier Flower has left is taken over: back-up, restore, start."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from client.preflight.server_reachability import require_server
from client.processes.site_processes import site_processes
from minet_core.runtime.processes.child_processes import ChildProcesses, free_port
from server.admission.enrolment import admitted_sites
from server.backup.create import DATABASE, back_up
from server.backup.restore import restore
from server.flower.superlink_control import Node, wait_for_nodes
from server.processes.server_processes import ServerProcesses
from server.server_home import ServerHome
from tests.support.admitted import make_coordinator, make_site

pytestmark = [pytest.mark.e2e, pytest.mark.long]

FORMER = Path(__file__).with_name("superlink-1.41.sql")
REVISION, NODE_ID, RUN_ID = "d90a2f91f23c", 4939180318419398501, 1139108341233229532
"""What stands in it: the revision of its tables, the number of the one node, and that of the run that failed."""


def _put_former_database(home: ServerHome) -> None:
    """Give `home` the former database, with the key of the one admitted site in it."""
    key = serialization.load_ssh_public_key(admitted_sites(home)["sms"].read_bytes())
    pem = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    with contextlib.closing(sqlite3.connect(home.path / DATABASE)) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.executescript(FORMER.read_text(encoding="utf-8"))
        database.execute("UPDATE node SET public_key = ?", (pem,))
        database.commit()


def _revision(home: ServerHome) -> str:
    with contextlib.closing(sqlite3.connect(home.path / DATABASE)) as database:
        ((revision,),) = database.execute("SELECT version_num FROM alembic_version").fetchall()
    return str(revision)


def test_what_an_earlier_flower_kept_is_taken_over(tmp_path: Path) -> None:
    """The site comes back under its former number, the run is listed as it ended, and the way back stays open."""
    coordinator = make_coordinator(tmp_path / "former", sites=("sms",), port=free_port())
    site = make_site(tmp_path / "sms")
    kit = coordinator.admitted(site)
    _put_former_database(coordinator.home)
    back_up(coordinator.home, tmp_path / "before-upgrade.tar")
    home, _ = restore(tmp_path / "before-upgrade.tar", tmp_path / "server")
    assert _revision(home) == REVISION

    with ChildProcesses() as children:
        control = ServerProcesses(home, children).start()
        (node,) = control.nodes()
        assert (node.node_id, node.name, node.status) == (NODE_ID, "sms", "registered")
        run = control.run_status(RUN_ID)
        assert (run.finished, run.completed, run.sub_status) == (True, False, "failed")
        assert run.details.endswith("a run of a trial")

        processes = site_processes(site, children, preloaded=())
        require_server(kit.settings.address, tls=processes.tls)
        processes.start()
        wait_for_nodes(
            control,
            ("sms",),
            wait=lambda online: children.wait_until(online, deadline_s=180, what="the site is online"),
        )
        online: list[Node] = control.nodes()
        assert [(node.node_id, node.name, node.status) for node in online] == [(NODE_ID, "sms", "online")]

    assert _revision(home) != REVISION  # so the former Flower does not start on it: restore the back-up
    again, _ = restore(tmp_path / "before-upgrade.tar", tmp_path / "again")
    assert _revision(again) == REVISION
