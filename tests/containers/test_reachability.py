"""Who reaches what. Every "not reached" has a control by the same program that does reach something."""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from tests.containers.federation import COORDINATOR_NAME, OUTBOUND_ONLY, PROJECT, SERVICES, Federation
from tests.containers.peers import ADD_ROUTE, ASK, LISTEN, SCAN, Identity, as_argument, issue
from tests.containers.reference_run import SITES

pytestmark = [pytest.mark.containers, pytest.mark.timeout(2400)]

OUTSIDE = f"{PROJECT}-outside"
PROBE_PORT = 7777
FLEET_CALL = "/v1/fleet/pull-messages"

CLOSED_PATHS = (
    *("/", "/health", "/docs", "/openapi.json", "/v1", "/v1/fleet", "/v1/fleet/"),
    *(
        "/v1/control/list-nodes",
        "/v1/control/start-run",
        "/v1/runtime/acquire-task",
        "/v1/runtime/pull-task-input",
    ),
    *(
        "/v1/fleet/../control/list-nodes",
        "/v1/fleet/%2e%2e/control/list-nodes",
        "/v1/fleet/..%2fcontrol/list-nodes",
    ),
    *("/v1/fleet//../../control/list-nodes", "//v1/control/list-nodes", "/V1/FLEET/pull-messages"),
    *("/v1/fleet/pull-messages/", "/v1/fleet/pull-messages%0a", "/v1/fleet/pull-messages%0d%0aX: y"),
    *(
        "/v1/fleet/pull-messages;/../../control/list-nodes",
        "/v1/fleet/pull%00messages",
        "/v1/fleet/nested/call",
    ),
)


def open_ports(
    federation: Federation, network: str, host: str, *, first: int = 1, last: int = 65535
) -> list[int]:
    """The ports of `host` that a peer in `network` can connect to."""
    found = json.loads(federation.python_in(network, SCAN, as_argument([host, first, last])))
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
        assert open_ports(federation, node, inner, first=9443, last=9443) == []
    finally:
        federation.load_rules(f"node-{site}", OUTBOUND_ONLY)
    # the control: who is on the inner network does reach the server
    assert open_ports(federation, beside(federation, "proxy"), "coordinator", first=9440, last=9450) == [9443]


def test_the_server_is_reached_from_the_proxy_alone(federation: Federation) -> None:
    attached = json.loads(federation.engine.docker("network", "inspect", f"{PROJECT}_inner"))[0]
    assert attached["Internal"] is True
    names = {member["Name"] for member in attached["Containers"].values()}
    assert names == {federation.container("coordinator"), federation.container("proxy")}
    published = [service for service in SERVICES if federation.inspect(service)["HostConfig"]["PortBindings"]]
    assert published == []


@pytest.mark.parametrize("site", SITES)
def test_nothing_reaches_a_site(federation: Federation, site: str, listener: None) -> None:
    """Not even what listens there: the hospital's firewall lets nothing in, and the federation does without."""
    address = federation.address(f"node-{site}", f"site-{site}")
    proxy = beside(federation, "proxy")
    for first, last in ((1, 1024), (PROBE_PORT, PROBE_PORT), (8000, 10_000)):
        assert open_ports(federation, proxy, address, first=first, last=last) == []
    federation.drop_rules(f"node-{site}", "hospital")
    try:  # the control: without the firewall the same search finds the probe, and nothing of ours
        assert open_ports(federation, proxy, address) == [PROBE_PORT]
    finally:
        federation.load_rules(f"node-{site}", OUTBOUND_ONLY)
    assert open_ports(federation, proxy, address, first=PROBE_PORT, last=PROBE_PORT) == []


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
                    first=PROBE_PORT - 20,
                    last=PROBE_PORT + 20,
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
            *("-I", "-", as_argument([host, port, port]), f"{network}.0", gateway),
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


class Stranger:
    """A peer from outside, who shows what certificate it likes."""

    def __init__(self, federation: Federation, folder: Path) -> None:
        self.federation, self.folder = federation, folder
        folder.chmod(0o755)
        made = federation.made
        (folder / "ca.pem").write_bytes((made / "coordinator" / "pki" / "ca.pem").read_bytes())

    def ask(
        self, identity: Identity | None, requests: list[dict[str, object]]
    ) -> list[tuple[int | str, str]]:
        wish = {
            **{"ca": "/peer/ca.pem", "host": COORDINATOR_NAME, "name": COORDINATOR_NAME, "port": 443},
            "requests": requests,
        }
        if identity is not None:
            wish |= {
                "certificate": f"/peer/{identity.certificate.name}",
                "key": f"/peer/{identity.key.name}",
            }
        answer = self.federation.python_in(
            OUTSIDE, ASK, as_argument(wish), options=("--volume", f"{self.folder}:/peer:ro")
        )
        return [(status, text) for status, text in json.loads(answer)]

    def status(self, identity: Identity | None, **request: object) -> int | str:
        ((status, _),) = self.ask(identity, [{"method": "POST", "path": FLEET_CALL, **request}])
        return status


@contextmanager
def outside_network(federation: Federation) -> Iterator[None]:
    """A network of strangers, on which the proxy is and nothing else of the federation."""
    engine = federation.engine
    engine.tried("network", "rm", OUTSIDE)
    engine.docker("network", "create", "--internal", OUTSIDE)
    engine.docker("network", "connect", "--alias", COORDINATOR_NAME, OUTSIDE, federation.container("proxy"))
    yield
    engine.docker("network", "disconnect", OUTSIDE, federation.container("proxy"))
    engine.docker("network", "rm", OUTSIDE)


def identity_of(federation: Federation, stranger: Stranger, site: str) -> Identity:
    """The true certificate of a site, and its key: what a thief of the site's folder would have."""
    home = federation.made / "sites" / site
    identity = Identity(stranger.folder, site)
    identity.certificate.write_bytes((home / "kit" / "site.pem").read_bytes())
    identity.key.write_bytes((home / "keys" / "tls.key").read_bytes())
    identity.key.chmod(0o644)
    return identity


@pytest.fixture(scope="module")
def stranger(federation: Federation, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stranger]:
    with outside_network(federation):
        yield Stranger(federation, tmp_path_factory.mktemp("peer"))


@pytest.fixture(scope="module")
def umr(federation: Federation, stranger: Stranger) -> Identity:
    return identity_of(federation, stranger, "umr")


def node_header(federation: Federation, site: str) -> list[list[str]]:
    """Flower's header with the public key of a site's node."""
    line = (federation.made / "sites" / site / "keys" / "node.pub").read_bytes()
    pem = serialization.load_ssh_public_key(line).public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return [["flwr-public-key", base64.b64encode(pem).decode("ascii")]]


def test_a_site_with_its_certificate_and_its_key_is_forwarded(
    federation: Federation, stranger: Stranger, umr: Identity
) -> None:
    """The control of all that follows: the answer is the server's own, to a request without a signature."""
    ((status, text),) = stranger.ask(
        umr, [{"method": "POST", "path": FLEET_CALL, "headers": node_header(federation, "umr")}]
    )
    assert status in (400, 401, 422), text
    assert "nginx" not in text


def test_every_path_but_the_fleets_is_refused(
    federation: Federation, stranger: Stranger, umr: Identity
) -> None:
    headers = node_header(federation, "umr")
    requests = [
        {"method": method, "path": path, "headers": headers}
        for path in CLOSED_PATHS
        for method in ("GET", "POST")
    ]
    for request, (status, text) in zip(requests, stranger.ask(umr, requests), strict=True):
        assert status in (400, 403, 404, 405), (request, status, text)
        assert "nginx" in text, (request, text)  # refused here, not by the server behind
    # the control: what is refused is there, for who is inside
    inside = json.loads(
        federation.python_beside(
            "proxy",
            ASK,
            as_argument(
                {
                    **{"ca": "/peer/ca.pem", "host": "coordinator", "name": "localhost", "port": 9443},
                    "requests": [{"method": "GET", "path": "/health"}, {"method": "GET", "path": "/docs"}],
                }
            ),
            options=("--volume", f"{stranger.folder}:/peer:ro"),
        )
    )
    assert [status for status, _ in inside] == [200, 200]


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"])
def test_a_call_is_posted_and_nothing_else(
    federation: Federation, stranger: Stranger, umr: Identity, method: str
) -> None:
    assert stranger.status(umr, method=method, headers=node_header(federation, "umr")) == 405


@pytest.mark.parametrize("call", ["register-node", "unregister-node"])
def test_no_node_is_registered_from_outside(
    federation: Federation, stranger: Stranger, umr: Identity, call: str
) -> None:
    assert stranger.status(umr, path=f"/v1/fleet/{call}", headers=node_header(federation, "umr")) == 403


def test_a_peer_without_a_certificate_is_refused(federation: Federation, stranger: Stranger) -> None:
    ((status, text),) = stranger.ask(
        None, [{"method": "POST", "path": FLEET_CALL, "headers": node_header(federation, "umr")}]
    )
    assert (status, "No required SSL certificate" in text) == (400, True)


def test_a_certificate_of_another_authority_is_refused(federation: Federation, stranger: Stranger) -> None:
    own = issue(stranger.folder, "own", common_name="umr", authority=None)
    assert stranger.status(own, headers=node_header(federation, "umr")) == 400


def test_the_servers_certificate_is_held_to_the_authority_by_a_peer_too(
    federation: Federation, stranger: Stranger, umr: Identity
) -> None:
    other = issue(stranger.folder, "other-authority", common_name="federation CA", authority=None)
    (stranger.folder / "ca.pem").rename(stranger.folder / "ca.kept")
    try:
        (stranger.folder / "ca.pem").write_bytes(other.certificate.read_bytes())
        assert stranger.status(umr) == "SSLCertVerificationError"
    finally:
        (stranger.folder / "ca.kept").replace(stranger.folder / "ca.pem")


def test_an_expired_certificate_is_refused(federation: Federation, stranger: Stranger) -> None:
    authority = (federation.authority.certificate, federation.authority.key)
    expired = issue(
        stranger.folder, "expired", common_name="umr", authority=authority, days=1, began_days_ago=2
    )
    valid = issue(stranger.folder, "valid", common_name="umr", authority=authority)
    headers = node_header(federation, "umr")
    ((status, text),) = stranger.ask(expired, [{"method": "POST", "path": FLEET_CALL, "headers": headers}])
    assert (status, "SSL certificate error" in text) == (400, True)
    assert stranger.status(valid, headers=headers) in (401, 422)  # the control: the same but for its days


@pytest.mark.parametrize("other", ["sms", "fastmri"])
def test_the_key_of_another_site_is_refused(
    federation: Federation, stranger: Stranger, umr: Identity, other: str
) -> None:
    theirs, own = node_header(federation, other), node_header(federation, "umr")
    assert stranger.status(umr, headers=theirs) == 403
    assert stranger.status(umr, headers=[*theirs, *own]) == 403
    # two headers, its own first: the server gets one, its own
    assert stranger.status(umr, headers=[*own, *theirs]) in (401, 403, 422)


def test_a_certificate_without_a_nodes_key_is_refused(stranger: Stranger, umr: Identity) -> None:
    assert stranger.status(umr) == 403
    assert stranger.status(umr, headers=[["flwr-public-key", secrets.token_hex(100)]]) == 403


def test_a_body_of_more_than_8_mb_is_refused(
    federation: Federation, stranger: Stranger, umr: Identity
) -> None:
    headers = node_header(federation, "umr")
    assert stranger.status(umr, headers=headers, n_bytes=8 * 2**20 + 1) == 413
    assert stranger.status(umr, headers=headers, n_bytes=8 * 2**20) != 413  # the control


def test_an_old_protocol_of_tls_is_refused(federation: Federation, stranger: Stranger, umr: Identity) -> None:
    for version, expected in (("TLSv1_1", "SSLError"), ("TLSv1_2", "int")):
        program = ASK.replace(
            "if wish",
            "import warnings; warnings.simplefilter('ignore')\n"
            "context.set_ciphers('ALL:@SECLEVEL=0')\n"
            f"context.minimum_version = context.maximum_version = ssl.TLSVersion.{version}\nif wish",
            1,
        )
        wish = {
            **{"ca": "/peer/ca.pem", "host": COORDINATOR_NAME, "name": COORDINATOR_NAME, "port": 443},
            **{"certificate": "/peer/umr.pem", "key": "/peer/umr.key"},
            "requests": [{"method": "POST", "path": FLEET_CALL}],
        }
        ((status, _),) = json.loads(
            federation.python_in(
                OUTSIDE, program, as_argument(wish), options=("--volume", f"{stranger.folder}:/peer:ro")
            )
        )
        assert (type(status).__name__ if isinstance(status, int) else status) == expected
