"""Who gets through nginx with the files that the coordinator writes for it: ca.pem, crl.pem, nodes.map."""

from __future__ import annotations

import contextlib
import datetime
import re
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from flwr.supercore.constant import FLEET_HTTP_PUBLIC_KEY_HEADER

from client.admission.tls import TlsFiles
from client.preflight.check_server import CERTIFICATE_REFUSED
from client.preflight.server_reachability import require_server
from client.site_home import SiteHome
from minet_core.runtime.processes.child_processes import free_port
from server.admission.enrolment import revoke
from server.admission.pki import server_files
from server.admission.revocation import node_map, write_crl
from tests.support.admitted import Coordinator, make_coordinator, make_site
from tests.support.proxy_front import Front, header_of, nginx_front

pytestmark = pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed")


@contextlib.contextmanager
def front(coordinator: Coordinator, folder: Path) -> Iterator[Front]:
    """nginx before an upstream that notes the node keys that reach it."""

    class Upstream(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            running.reached.append(self.headers.get_all(FLEET_HTTP_PUBLIC_KEY_HEADER) or [])
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    upstream = ThreadingHTTPServer(("127.0.0.1", 0), Upstream)
    thread = threading.Thread(target=upstream.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    url = f"http://127.0.0.1:{upstream.server_address[1]}"
    try:
        with nginx_front(coordinator.home.pki, folder, upstream=url, port=free_port()) as running:
            yield running
    finally:
        upstream.shutdown()
        thread.join()
        upstream.server_close()


@pytest.fixture
def coordinator(tmp_path: Path) -> Coordinator:
    return make_coordinator(tmp_path / "server")


@pytest.fixture
def sms(coordinator: Coordinator, tmp_path: Path) -> SiteHome:
    return _admitted(coordinator, tmp_path / "sms", "sms")


@pytest.fixture
def umr(coordinator: Coordinator, tmp_path: Path) -> SiteHome:
    return _admitted(coordinator, tmp_path / "umr", "umr")


@pytest.fixture
def nginx(coordinator: Coordinator, sms: SiteHome, umr: SiteHome, tmp_path: Path) -> Iterator[Front]:
    with front(coordinator, tmp_path / "nginx") as running:
        yield running


def _admitted(coordinator: Coordinator, path: Path, name: str) -> SiteHome:
    home = make_site(path, name)
    coordinator.admitted(home)
    return home


def test_an_admitted_site_gets_through_with_its_own_key(nginx: Front, sms: SiteHome, umr: SiteHome) -> None:
    assert [nginx.ask(home, home) for home in (sms, umr)] == [200, 200]
    assert nginx.reached == [[header_of(sms)], [header_of(umr)]]


def test_a_peer_without_a_certificate_is_refused(nginx: Front, sms: SiteHome) -> None:
    assert nginx.ask(None, sms) == 400
    assert nginx.reached == []


def test_another_sites_key_is_refused(nginx: Front, sms: SiteHome, umr: SiteHome, tmp_path: Path) -> None:
    assert nginx.ask(sms, umr) == 403
    assert nginx.ask(umr, sms) == 403
    assert nginx.ask(sms, make_site(tmp_path / "unknown")) == 403
    assert nginx.ask(sms, None) == 403
    assert nginx.reached == []


def test_the_key_is_compared_letter_by_letter(nginx: Front, sms: SiteHome) -> None:
    header = header_of(sms)
    assert nginx.ask(sms, header.swapcase()) == 403
    assert nginx.ask(sms, header + "A") == 403
    assert nginx.ask(sms, "A" + header) == 403
    assert nginx.ask(sms, header[:-1]) == 403


def test_a_second_header_does_not_smuggle_another_key_past(
    nginx: Front, sms: SiteHome, umr: SiteHome
) -> None:
    for first, second in ((sms, umr), (umr, sms)):
        nginx.ask(sms, first, more=[(FLEET_HTTP_PUBLIC_KEY_HEADER, header_of(second))])
    nginx.ask(sms, sms, more=[("flwr_public_key", header_of(umr))])
    assert all(keys == [header_of(sms)] for keys in nginx.reached)  # one key, and the one that was looked up


def test_a_revoked_site_is_refused_once_the_files_were_read_again(
    nginx: Front, coordinator: Coordinator, sms: SiteHome, umr: SiteHome
) -> None:
    assert nginx.ask(sms, sms) == 200
    revoke(coordinator.home, coordinator.authority, "sms", reason="a laptop was lost")
    nginx.reload()
    assert nginx.ask(sms, sms) == 400
    assert nginx.ask(umr, umr) == 200


def test_the_checks_before_a_start_see_that_the_proxy_takes_no_certificate(
    nginx: Front, coordinator: Coordinator, sms: SiteHome
) -> None:
    tls = TlsFiles(sms.kit / "ca.pem", sms.kit / "site.pem", sms.keys / "tls.key")
    assert require_server(f"localhost:{nginx.port}", tls=tls).http_status == 403  # it shows no node's key
    revoke(coordinator.home, coordinator.authority, "sms", reason="a laptop was lost")
    nginx.reload()
    assert require_server(f"localhost:{nginx.port}", tls=tls).http_status == CERTIFICATE_REFUSED


def test_the_map_alone_refuses_a_revoked_site(nginx: Front, coordinator: Coordinator, sms: SiteHome) -> None:
    """What a server that has no key of the authority can do by itself."""
    (coordinator.home.pki / "nodes.map").write_text(node_map({}))
    nginx.reload()
    assert nginx.ask(sms, sms) == 403


def test_a_site_that_is_admitted_later_gets_through(
    tmp_path: Path, coordinator: Coordinator, sms: SiteHome
) -> None:
    with front(coordinator, tmp_path / "nginx") as running:
        umr = _admitted(coordinator, tmp_path / "umr", "umr")
        assert running.ask(umr, umr) == 403
        running.reload()
        assert running.ask(umr, umr) == 200


def test_an_expired_certificate_is_refused(
    nginx: Front, coordinator: Coordinator, sms: SiteHome, tmp_path: Path
) -> None:
    long_ago = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=91)
    expired = coordinator.admit(sms, tmp_path / "expired", now=long_ago)
    shutil.copyfile(expired.kit / "site.pem", sms.kit / "site.pem")
    nginx.reload()
    assert nginx.ask(sms, sms) == 400


def test_a_certificate_of_another_authority_of_the_same_name_is_refused(
    nginx: Front, sms: SiteHome, tmp_path: Path
) -> None:
    other = _admitted(make_coordinator(tmp_path / "false"), tmp_path / "other", "sms")
    for name in ("node", "node.pub"):
        shutil.copyfile(sms.keys / name, other.keys / name)
    assert nginx.ask(other, sms) == 400


def test_the_servers_own_certificate_lets_nobody_in(
    nginx: Front, coordinator: Coordinator, sms: SiteHome
) -> None:
    files = server_files(coordinator.home.pki)
    shutil.copyfile(files.certificate, sms.kit / "site.pem")
    shutil.copyfile(files.private_key, sms.keys / "tls.key")
    assert nginx.ask(sms, sms) == 400


def test_an_expired_revocation_list_refuses_everybody(
    nginx: Front, coordinator: Coordinator, sms: SiteHome
) -> None:
    """It fails closed, which is why the list outlives everything else: see server.admission.revocation.CRL_DAYS."""
    long_ago = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=181)
    write_crl(coordinator.authority, now=long_ago)
    nginx.reload()
    assert nginx.ask(sms, sms) == 400


@pytest.mark.parametrize(
    "path", ["/", "/v1/control/list-runs", "/v1/runtime/acquire-task", "/docs", "/health"]
)
def test_an_admitted_site_reaches_no_other_path(nginx: Front, sms: SiteHome, path: str) -> None:
    assert nginx.ask(sms, sms, path=path) == 404


def test_a_nodes_key_has_no_sign_that_means_something_in_an_expression(
    coordinator: Coordinator, sms: SiteHome
) -> None:
    (line,) = [
        line for line in (coordinator.home.pki / "nodes.map").read_text().splitlines() if line[0] == '"'
    ]
    assert line == f'"~^CN=sms:{header_of(sms)}$" sms;'
    assert re.fullmatch("[A-Za-z0-9/]+=*", header_of(sms))
