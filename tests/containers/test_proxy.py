"""What the proxy forwards to the server, and what a peer from outside is refused."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator

import pytest

from tests.containers.federation import COORDINATOR_NAME, Federation
from tests.containers.peers import ASK, Identity, as_argument, issue
from tests.containers.stranger import FLEET_CALL, Stranger, identity_of, node_header, stranger_outside

pytestmark = [pytest.mark.containers, pytest.mark.timeout(2400)]

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


@pytest.fixture(scope="module")
def stranger(federation: Federation, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stranger]:
    with stranger_outside(federation, tmp_path_factory.mktemp("peer")) as outside:
        yield outside


@pytest.fixture(scope="module")
def umr(federation: Federation, stranger: Stranger) -> Identity:
    return identity_of(federation, stranger, "umr")


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
    # the control: the server is there, and asks even the proxy's own container for the credential
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
    assert [status for status, _ in inside] == [200, 403]


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


def test_an_old_protocol_of_tls_is_refused(stranger: Stranger, umr: Identity) -> None:
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
        ((status, _),) = json.loads(stranger.python(program, as_argument(wish)))
        assert (type(status).__name__ if isinstance(status, int) else status) == expected
