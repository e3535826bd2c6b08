"""The site's certificate on real TLS connections, made by the client that its SuperNode uses."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from flwr.proto.fleet_pb2 import ActivateNodeRequest
from flwr.supernode.fleet_http_client import FleetHttpClient

from client.admission.kit import accept_kit
from client.admission.tls import TlsFiles, tls_context
from client.flower.programs import fleet_client
from client.site_home import SiteHome
from server.admission.enrolment import KitTerms, renew
from server.admission.pki import issue_server_certificate
from tests.support.admitted import Coordinator, make_coordinator, make_site
from tests.support.tls_peers import FleetServer, connect_proxy, fleet_server


@pytest.fixture
def coordinator(tmp_path: Path) -> Coordinator:
    return make_coordinator(tmp_path / "server")


@pytest.fixture
def sms(coordinator: Coordinator, tmp_path: Path) -> SiteHome:
    home = make_site(tmp_path / "sms")
    coordinator.admitted(home)
    return home


@pytest.fixture
def server(coordinator: Coordinator) -> Iterator[FleetServer]:
    with fleet_server(coordinator.authority) as running:
        yield running


def _files(home: SiteHome) -> TlsFiles:
    return TlsFiles(home.kit / "ca.pem", home.kit / "site.pem", home.keys / "tls.key")


def _client(files: TlsFiles, port: int, *, host: str = "127.0.0.1") -> FleetHttpClient:
    roots = files.authority.read_bytes()
    return fleet_client(files).from_server_address(f"{host}:{port}", False, roots, [])


def _ask(client: FleetHttpClient) -> int:
    return int(client.ActivateNode(ActivateNodeRequest()).node_id)


def test_the_node_shows_its_certificate_to_a_server_that_requires_one(
    sms: SiteHome, server: FleetServer
) -> None:
    with _client(_files(sms), server.port) as client:
        assert _ask(client) == 7
    assert [name for name, _ in server.seen] == ["sms"]


def test_flowers_own_client_is_refused_for_it_has_none(sms: SiteHome, server: FleetServer) -> None:
    roots = (sms.kit / "ca.pem").read_bytes()
    with (
        FleetHttpClient.from_server_address(f"127.0.0.1:{server.port}", False, roots, []) as client,
        pytest.raises(httpx.TransportError),
    ):
        _ask(client)
    assert server.seen == []


def test_a_certificate_of_another_authority_is_refused(
    sms: SiteHome, server: FleetServer, tmp_path: Path
) -> None:
    other = make_site(tmp_path / "other")
    make_coordinator(tmp_path / "elsewhere").admitted(other)
    files = TlsFiles(sms.kit / "ca.pem", other.kit / "site.pem", other.keys / "tls.key")
    with _client(files, server.port) as client, pytest.raises(httpx.TransportError):
        _ask(client)
    assert server.seen == []


def test_a_renewed_certificate_is_used_by_the_next_connection_of_the_same_client(
    coordinator: Coordinator, sms: SiteHome, server: FleetServer, tmp_path: Path
) -> None:
    with _client(_files(sms), server.port) as client:
        _ask(client)
        renewed = renew(coordinator.home, coordinator.authority, "sms", KitTerms(tmp_path / "next"))
        accept_kit(sms, renewed.kit)
        _ask(client)
    (_, first), (_, second) = server.seen
    assert second == renewed.certificate.serial_number != first


def test_a_client_that_found_no_file_goes_on_when_it_is_there_again(
    sms: SiteHome, server: FleetServer
) -> None:
    link = sms.kit.readlink()
    with _client(_files(sms), server.port) as client:
        sms.kit.unlink()
        with pytest.raises(httpx.TransportError):
            _ask(client)
        sms.kit.symlink_to(link)
        assert _ask(client) == 7


def test_many_threads_of_one_client_connect_while_the_kit_is_replaced(
    coordinator: Coordinator, sms: SiteHome, server: FleetServer, tmp_path: Path
) -> None:
    failures: list[Exception] = []

    def ask_often(client: FleetHttpClient) -> None:
        try:
            for _ in range(10):
                _ask(client)
        except Exception as failure:  # of a thread: told by the test, whatever it is
            failures.append(failure)

    with _client(_files(sms), server.port) as client:
        threads = [threading.Thread(target=ask_often, args=(client,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for number in range(3):
            kit = renew(coordinator.home, coordinator.authority, "sms", KitTerms(tmp_path / f"{number}")).kit
            accept_kit(sms, kit)
        for thread in threads:
            thread.join()
    assert failures == []
    assert len(server.seen) == 40


def test_a_hospitals_proxy_is_gone_through(
    sms: SiteHome, server: FleetServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with connect_proxy() as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
        with _client(_files(sms), server.port, host="localhost") as client:
            assert _ask(client) == 7
    assert proxy.asked == [f"localhost:{server.port}"]
    assert [name for name, _ in server.seen] == ["sms"]


@pytest.mark.parametrize("hosts", [("elsewhere.example.org",), ("127.0.0.2",)])
def test_a_server_of_another_name_is_refused(
    coordinator: Coordinator, sms: SiteHome, hosts: tuple[str, ...]
) -> None:
    issue_server_certificate(coordinator.authority, hosts=hosts)
    with (
        fleet_server(coordinator.authority) as server,
        _client(_files(sms), server.port) as client,
        pytest.raises(httpx.ConnectError, match="mismatch"),
    ):
        _ask(client)


def test_the_context_is_strict_and_modern(sms: SiteHome) -> None:
    context = tls_context(_files(sms))
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.verify_flags & ssl.VERIFY_X509_STRICT
