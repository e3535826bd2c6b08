"""Who reaches what. Every "not reached" has a control by the same program that does reach something."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.containers.federation import COORDINATOR_NAME, OUTBOUND_ONLY, PROJECT, SERVICES, Federation
from tests.containers.peers import ADD_ROUTE, CALL, LISTEN, SCAN, as_argument
from tests.containers.reference_run import SITES

pytestmark = [pytest.mark.containers, pytest.mark.timeout(2400)]

PROBE_PORT = 7777


EVERY_PORT = (1, 65535)


def open_ports(federation: Federation, network: str, host: str, *ranges: tuple[int, int]) -> list[int]:
    """The ports of `host`, of some ranges by their first and last, that a peer in `network` can connect to."""
    found = json.loads(federation.python_in(network, SCAN, as_argument([host, *(ranges or (EVERY_PORT,))])))
    assert isinstance(found, list)
    return found


def beside(federation: Federation, service: str) -> str:
    """The network of a service, for a peer that shares it."""
    return f"container:{federation.container(service)}"


@pytest.fixture(scope="module")
def listener(federation: Federation) -> Iterator[None]:
    """Somebody listens in the network of every node, as a careless program of the hospital would."""
    names = []
    for site in SITES:
        name = f"{PROJECT}-listener-{site}"
        federation.engine.tried("rm", "--force", name)
        federation.engine.docker(
            *(
                "run",
                "--detach",
                "--name",
                name,
                "--network",
                beside(federation, f"node-{site}"),
                "--cap-drop",
                "ALL",
            ),
            *("--entrypoint", "python", federation.images["site"], "-I", "-c", LISTEN, str(PROBE_PORT)),
        )
        names.append(name)
    for name in names:
        federation.wait(
            lambda name=name: "listening" in federation.engine.docker("logs", name),  # type: ignore[misc]
            deadline_s=30,
            what="the probe listens",
        )
    yield
    for name in names:
        federation.engine.tried("rm", "--force", name)


@pytest.mark.parametrize("site", SITES)
def test_a_site_reaches_port_443_of_the_coordinator_and_nothing_else(
    federation: Federation, site: str
) -> None:
    node = beside(federation, f"node-{site}")
    federation.drop_rules(
        f"node-{site}", "hospital"
    )  # what the coordinator offers, not what the firewall lets out
    try:
        assert open_ports(federation, node, COORDINATOR_NAME) == [443]
        inner = federation.address("coordinator", "inner")
        assert open_ports(federation, node, inner, (9443, 9443)) == []
    finally:
        federation.load_rules(f"node-{site}", OUTBOUND_ONLY)
    # the control: who is on the inner network does reach the server
    assert open_ports(federation, beside(federation, "proxy"), "coordinator", (9440, 9450)) == [9443]


def test_the_server_is_reached_from_the_proxy_alone(federation: Federation) -> None:
    attached = json.loads(federation.engine.docker("network", "inspect", f"{PROJECT}_inner"))[0]
    assert attached["Internal"] is True
    names = {member["Name"] for member in attached["Containers"].values()}
    assert names == {federation.container("coordinator"), federation.container("proxy")}
    published = [service for service in SERVICES if federation.inspect(service)["HostConfig"]["PortBindings"]]
    assert published == []


def test_the_proxy_reaches_the_sites_calls_alone_with_whatever_credential(federation: Federation) -> None:
    """An intruder in the proxy who also has the credential: as in the coordinator's container, he is answered 403."""
    secret = (federation.made / "coordinator" / "pki" / "control.secret").read_text(encoding="ascii")
    calls = ("/v1/control/list-nodes", "/v1/control/start-run", "/v1/runtime/acquire-task", "/docs")

    def refused(service: str) -> set[str]:
        answers = json.loads(federation.python_beside(service, CALL, as_argument([secret, calls])))
        assert set(answers) == {*calls, "/v1/fleet/activate-node"}
        return {path for path, answer in answers.items() if answer == [403, "Not without the credential."]}

    assert refused("proxy") == set(calls)  # and what it forwards, it reaches
    assert refused("coordinator") == set()  # the control: the same, where the server's own commands are


@pytest.mark.parametrize("site", SITES)
def test_nothing_reaches_a_site(federation: Federation, site: str, listener: None) -> None:
    """Not even what listens there: the hospital's firewall lets nothing in, and the federation does without."""
    address = federation.address(f"node-{site}", f"site-{site}")
    proxy = beside(federation, "proxy")
    assert open_ports(federation, proxy, address, (1, 1024), (PROBE_PORT, PROBE_PORT), (8000, 10_000)) == []
    federation.drop_rules(f"node-{site}", "hospital")
    try:  # the control: without the firewall the same search finds the probe, and nothing of ours
        assert open_ports(federation, proxy, address) == [PROBE_PORT]
    finally:
        federation.load_rules(f"node-{site}", OUTBOUND_ONLY)
    assert open_ports(federation, proxy, address, (PROBE_PORT, PROBE_PORT)) == []


def test_no_site_reaches_another(federation: Federation, listener: None) -> None:
    for site in SITES:
        federation.drop_rules(f"node-{site}", "hospital")
    try:
        for other in SITES:
            address = federation.address(f"node-{other}", f"site-{other}")
            for site in SITES:
                found = open_ports(
                    federation,
                    beside(federation, f"node-{site}"),
                    address,
                    (PROBE_PORT - 20, PROBE_PORT + 20),
                )
                assert found == ([PROBE_PORT] if site == other else [])  # itself is the control
    finally:
        for site in SITES:
            federation.load_rules(f"node-{site}", OUTBOUND_ONLY)


def test_a_site_with_root_finds_no_way_through_the_proxy(federation: Federation) -> None:
    """A hostile machine in a site's network names the proxy as its router; the proxy passes nothing on."""
    gateway = federation.address("proxy", "site-umr")
    inner = federation.address("coordinator", "inner")
    network = ".".join(inner.split(".")[:3])
    program = ADD_ROUTE + SCAN

    def found(host: str, port: int) -> list[int]:
        answer = federation.engine.docker(
            *("run", "--rm", "--interactive", "--network", f"{PROJECT}_site-umr", "--user", "0"),
            *(
                "--cap-drop",
                "ALL",
                "--cap-add",
                "NET_ADMIN",
                "--entrypoint",
                "python",
                federation.images["site"],
            ),
            *("-I", "-", as_argument([host, (port, port)]), f"{network}.0", gateway),
            stdin=program,
        )
        ports = json.loads(answer)
        assert isinstance(ports, list)
        return ports

    assert found(inner, 9443) == []
    assert found(gateway, 443) == [443]  # the control
    forwarding = federation.exec("proxy", "bash", "-c", "read -r x < /proc/sys/net/ipv4/ip_forward; echo $x")
    assert forwarding == "0"


@pytest.mark.parametrize("site", SITES)
def test_a_trainer_has_no_network_at_all(federation: Federation, site: str) -> None:
    listed = "print(*sorted(line.split(':')[0].strip() for line in open('/proc/net/dev').readlines()[2:]))"
    assert federation.exec(f"trainer-{site}", "python", "-c", listed) == "lo"
    assert "eth0" in federation.exec(f"node-{site}", "python", "-c", listed).split()  # the control
    connect = (
        "import socket, sys\n"
        "try: socket.create_connection((sys.argv[1], 443), 3); print('connected')\n"
        "except OSError as failure: print(type(failure).__name__)\n"
    )
    proxy = federation.address("proxy", f"site-{site}")
    assert federation.exec(f"trainer-{site}", "python", "-c", connect, proxy) == "OSError"
    assert federation.exec(f"node-{site}", "python", "-c", connect, proxy) == "connected"
