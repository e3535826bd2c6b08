"""Who looks on: `fedminet site status` where a part of the site is missing, and the coordinator's screen."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from minet_core.runtime.processes.child_processes import free_port
from tests.containers.engine import Engine
from tests.containers.federation import COORDINATOR_OFTEN_LOOKED_AT, PROJECT, Federation
from tests.containers.test_hardening import CAPABILITY_SETS, process_numbers, status_of
from tests.support.repository import ROOT

pytestmark = [pytest.mark.containers, pytest.mark.timeout(2400)]

SITE = "sms"
HEALTHY_WITHIN_S = 180.0
CONNECT = """
import socket, sys
for host, port in (("coordinator", 9443), (sys.argv[1], 9443), (sys.argv[2], 80)):
    try:
        socket.create_connection((host, port), 4).close()
        print("connected")
    except OSError as failure:
        print(type(failure).__name__)
"""


def with_the_folder_mounted(federation: Federation, *arguments: str) -> tuple[int, str]:
    """A command of the site, in a container that has the whole folder and no process of its own in it."""
    home = federation.made / "sites" / SITE
    done = federation.engine.tried(
        *("run", "--rm", "--network", "none", "--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL"),
        *("--volume", f"{home}:/site:ro", federation.images["site"], *arguments),
    )
    return done.returncode, done.stdout


def test_who_has_the_folder_mounted_is_told_the_same(federation: Federation) -> None:
    code, text = with_the_folder_mounted(federation, "site", "status", "/site", "--json")
    page = json.loads(text)
    assert (code, page["healthy"], page["registered"]["is"], page["configured"]["is"]) == (
        0,
        True,
        True,
        True,
    )
    code, text = with_the_folder_mounted(federation, "site", "status", "/site")
    assert code == 0
    assert [line[:11].strip() for line in text.splitlines()[1:4]] == ["node", "trainer", "registered"]


@pytest.mark.parametrize(("stopped", "other"), [("trainer", "node"), ("node", "trainer")])
def test_a_part_that_is_stopped_is_missed_by_the_other(
    federation: Federation, stopped: str, other: str
) -> None:
    service = f"{stopped}-{SITE}"
    federation.engine.docker("stop", "--time", "30", federation.container(service))
    try:
        code, page = federation.site_status(f"{other}-{SITE}")
        assert code == 1
        assert (page["parts"][stopped]["runs"], page["parts"][other]["runs"]) == (False, True)
        assert page["parts"][stopped]["why_ended"] == "ended by a signal"
        assert page["registered"]["is"] is (
            stopped == "trainer"
        )  # what the node has goes on without the trainer
        assert page["training"]["is"] is False
        assert with_the_folder_mounted(federation, "site", "status", "/site")[0] == 1
    finally:
        federation.start(service)

    def is_back() -> bool:
        code, page = federation.site_status(f"{other}-{SITE}")
        return code == 0 and bool(page["registered"]["is"])

    federation.wait(is_back, deadline_s=HEALTHY_WITHIN_S, what="both parts run, and the site is registered")
    assert federation.site_status(service)[0] == 0
    federation.wait(
        lambda: federation.works(service), deadline_s=HEALTHY_WITHIN_S, what=f"{service} is healthy"
    )


@pytest.fixture(scope="module")
def screen(federation: Federation) -> Iterator[int]:
    """The screen of compose.coordinator.yaml beside the running federation; its port on this machine's loopback."""
    port = free_port()
    beside = Engine(
        {
            **federation.engine.environment,
            "FEDMINET_COORDINATOR": str(federation.made / "coordinator"),
            "FEDMINET_SCREEN": f"127.0.0.1:{port}",
            "COMPOSE_IGNORE_ORPHANS": "true",
        }
    )
    compose = ("compose", "--project-name", PROJECT, "--profile", "screen")
    compose += ("--file", str(ROOT / "docker" / "compose.coordinator.yaml"))
    compose += ("--file", str(COORDINATOR_OFTEN_LOOKED_AT))
    beside.docker(*compose, "up", "--detach", "--no-deps", "screen")
    try:
        federation.wait(
            lambda: federation.healthy("screen"), deadline_s=HEALTHY_WITHIN_S, what="the screen is healthy"
        )
        yield port
    finally:
        beside.docker(*compose, "rm", "--force", "--stop", "screen")
        beside.tried("network", "rm", f"{PROJECT}_screen", f"{PROJECT}_edge")  # the rest is the federation's


def get(port: int, path: str, *, host: str = "127.0.0.1", name: str | None = None) -> tuple[int, str]:
    connection = http.client.HTTPConnection(host, port, timeout=20)
    connection.request("GET", path, headers={"Host": name} if name else {})
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text


def test_the_screen_shows_the_run_and_who_is_online(federation: Federation, screen: int) -> None:
    status, text = get(screen, "/")
    assert (status, "<html" in text) == (200, True)
    for run in (path.name for path in (federation.made / "coordinator" / "runs").glob("*/")):
        assert get(screen, f"/runs/{run}")[0] == 200
    online = f'fedminet_site_online{{site="{SITE}"}} 1.0'
    federation.wait(  # the server asks which nodes are online every 10 s, and the site's was away a moment ago
        lambda: online in get(screen, "/metrics")[1], deadline_s=60.0, what=f"the screen shows {SITE} online"
    )
    status, metrics = get(screen, "/metrics")
    assert status == 200
    assert "fedminet_superlink_answers 1.0" in metrics
    assert "fedminet_certificate_days_left{" in metrics
    assert get(screen, "/", name="another.example")[0] == 421


def test_the_screen_is_reached_from_this_machine_alone_and_reaches_nobody(
    federation: Federation, screen: int
) -> None:
    bindings = federation.inspect("screen")["NetworkSettings"]["Ports"]["9480/tcp"]
    assert bindings == [{"HostIp": "127.0.0.1", "HostPort": str(screen)}]
    inner = federation.address("coordinator", "inner")
    (edge,) = json.loads(federation.engine.docker("network", "inspect", f"{PROJECT}_screen"))
    gateway = edge["IPAM"]["Config"][0]["Gateway"]
    with pytest.raises(ConnectionRefusedError):
        get(screen, "/health", host=gateway)  # another address of this machine
    found = federation.exec("screen", "python", "-c", CONNECT, inner, "192.0.2.1").split()
    assert "connected" not in found
    # the control: the same program does connect where there is a way
    reached = federation.exec("proxy", "bash", "-c", "exec 3<>/dev/tcp/coordinator/9443 && echo connected")
    assert reached == "connected"


def test_the_screen_is_hardened_and_has_no_key(federation: Federation, screen: int) -> None:
    for pid in process_numbers(federation, "screen"):
        status = status_of(pid)
        assert set(status["Uid"].split()) == {"10001"}
        assert {int(status[name], 16) for name in CAPABILITY_SETS} == {0}
        assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    mounts = Path(f"/proc/{federation.host_pid('screen')}/mountinfo").read_text(encoding="utf-8")
    for line in mounts.splitlines():
        if line.split()[4] == "/" or line.split()[4].startswith("/coordinator"):
            assert "ro" in line.split()[5].split(","), line
    files = "import os; print(*(os.path.join(d, f) for d, _, n in os.walk('/coordinator') for f in n))"
    listed = federation.exec("screen", "python", "-c", files).split()
    assert "/coordinator/screen/nodes.json" in listed  # the control
    assert not [path for path in listed if path.endswith((".key", ".secret", "passphrase", ".argon2"))]
    assert "/coordinator/pki/ca.pem" in listed
    assert federation.inspect("screen")["HostConfig"]["Memory"] == 1 << 30
