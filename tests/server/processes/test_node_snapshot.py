"""What a screen in a container of its own is given: nothing secret, and the nodes as the SuperLink said."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from minet_core.errors import ServerUnreachable
from server.dashboard.node_presence import NodePresence
from server.flower.superlink_control import Node
from server.processes.node_snapshot import ASK_EVERY_S, CERTIFICATES, OLD_AFTER_S, ScreenFiles, read_nodes
from server.server_home import ServerHome
from tests.support.screen import wait_until

SMS = Node(2**63 + 11, "sms", "online", "SHA256:x", 1000.5)


@pytest.fixture
def home(tmp_path: Path) -> ServerHome:
    pki = tmp_path / "pki"
    pki.mkdir()
    for name in (*CERTIFICATES, "ca.key", "server.key", "nodes.map"):
        (pki / name).write_text(f"{name}, first\n")
    return ServerHome(tmp_path)


def test_the_screen_gets_the_public_certificates_and_the_nodes(home: ServerHome) -> None:
    ScreenFiles(home).update(lambda: [SMS])
    assert {path.name for path in home.screen.iterdir()} == {*CERTIFICATES, "nodes.json"}
    found = read_nodes(home, now=time.time())
    assert found is not None
    assert found[1] == [SMS]
    (home.pki / "server.pem").write_text("renewed\n")
    ScreenFiles(home).update(None)
    assert (home.screen / "server.pem").read_text() == "renewed\n"


def test_the_superlink_is_asked_now_and_then(home: ServerHome) -> None:
    now, asked = [0.0], []

    def nodes() -> list[Node]:
        asked.append(now[0])
        return [SMS]

    files = ScreenFiles(home, clock=lambda: now[0])
    for moment in (0.0, 1.0, ASK_EVERY_S - 0.1, ASK_EVERY_S):
        now[0] = moment
        files.update(nodes)
    assert asked == [0.0, ASK_EVERY_S]


@pytest.mark.parametrize("changes", [{"asked": 1e300}, {"asked": "1"}, {"nodes": [{}]}, {"nodes": None}])
def test_a_page_of_nodes_that_says_what_none_does_is_as_none(
    home: ServerHome, changes: dict[str, object]
) -> None:
    ScreenFiles(home).update(lambda: [SMS])
    page = home.screen / "nodes.json"
    page.write_text(json.dumps(json.loads(page.read_text()) | changes))
    assert read_nodes(home, now=time.time()) is None


@pytest.mark.parametrize("until", ["soon", 1e300, float("nan")])
def test_a_node_that_is_online_until_no_time_there_is_makes_the_page_as_none(
    home: ServerHome, until: object
) -> None:
    ScreenFiles(home).update(lambda: [SMS])
    page = home.screen / "nodes.json"
    content = json.loads(page.read_text())
    content["nodes"][0]["online_until"] = until
    page.write_text(json.dumps(content))
    assert read_nodes(home, now=time.time()) is None


def test_what_a_server_that_ended_has_left_is_not_told_as_the_present(home: ServerHome) -> None:
    assert read_nodes(home, now=0.0) is None  # nothing was written yet
    files = ScreenFiles(home)
    files.update(lambda: [SMS])
    assert read_nodes(home, now=time.time()) is not None
    assert read_nodes(home, now=time.time() + OLD_AFTER_S + 1) is None

    def unreachable() -> list[Node]:
        raise ServerUnreachable("the SuperLink does not answer")

    before = (home.screen / "nodes.json").read_bytes()
    with pytest.raises(ServerUnreachable):
        ScreenFiles(home).update(unreachable)
    assert (home.screen / "nodes.json").read_bytes() == before
    (home.screen / "nodes.json").write_text("{")
    assert read_nodes(home, now=time.time()) is None


def test_a_screen_of_files_sees_what_was_written_and_when(home: ServerHome) -> None:
    ScreenFiles(home).update(lambda: [SMS])
    written = read_nodes(home, now=time.time())
    sightings = NodePresence.from_files(home)
    wait_until(lambda: sightings.latest() is not None)
    seen = sightings.latest()
    assert seen is not None
    assert written is not None
    assert (seen.asked, seen.nodes) == (written[0], {"sms": SMS})


def test_a_screen_without_such_files_says_that_the_superlink_does_not_answer(home: ServerHome) -> None:
    sightings = NodePresence.from_files(home)
    wait_until(lambda: sightings.latest() is not None)
    seen = sightings.latest()
    assert seen is not None
    assert seen.nodes is None
