"""The way to the server: a real TLS server, and a real proxy that opens tunnels."""

from __future__ import annotations

import contextlib
import datetime
import os
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import httpx
import pytest
from flwr.proto.fleet_pb2 import ActivateNodeRequest

from client.flower.programs import fleet_client
from client.preflight import server_reachability
from client.preflight.server_reachability import require_server
from client.preflight.web_proxy import proxy_for, without_credentials
from client.processes.site_processes import site_processes
from minet_core.errors import AdmissionRefused, InvalidSetting, ServerUnreachable
from minet_core.runtime.processes.child_processes import ChildProcesses, free_port
from server.admission.pki import Authority, issue_server_certificate, make_ca
from tests.support.admitted import PASSPHRASE, make_coordinator, make_site
from tests.support.trial_network import PASSWORD, Proxy, Server, clock_behind, serving, site_tls, tunnelling


def _authority(folder: Path) -> Authority:
    """An authority, with the certificate of its server."""
    authority = make_ca(folder, name="trial", passphrase=PASSPHRASE)
    issue_server_certificate(authority, hosts=("127.0.0.1",))
    return authority


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return _authority(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Another federation's."""
    return _authority(tmp_path_factory.mktemp("foreign"))


@pytest.fixture
def server(authority: Authority) -> Iterator[Server]:
    with serving(authority) as running:
        yield running


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    with tunnelling() as running:
        yield running


@pytest.fixture(autouse=True)
def _no_proxy_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.upper().endswith("_PROXY"):
            monkeypatch.delenv(name)


def test_a_server_answers_without_a_proxy(server: Server) -> None:
    answer = require_server(server.address, tls=server.tls, deadline_s=30)
    assert (answer.http_status, answer.proxy) == (404, None)
    assert answer.clock_ahead_s is not None
    assert abs(answer.clock_ahead_s) <= answer.clock_error_s + 0.5
    assert 80 < (answer.certificate_ends.timestamp() - time.time()) / 86400 < 91


@pytest.mark.parametrize("ahead_s", [-400, -40, 0, 4, 90])
def test_the_clock_is_measured_to_its_stated_error(server: Server, ahead_s: int) -> None:
    server.http.date = clock_behind(ahead_s)
    began = time.monotonic()
    answer = require_server(server.address, tls=server.tls, deadline_s=30)
    assert answer.clock_ahead_s is not None
    assert answer.clock_error_s < 1 + time.monotonic() - began
    assert abs(answer.clock_ahead_s - ahead_s) <= answer.clock_error_s + 0.5


@pytest.mark.parametrize("date", [None, "", "yesterday"])
def test_a_server_that_tells_no_time_leaves_the_clock_unknown(server: Server, date: str | None) -> None:
    server.http.date = date
    assert require_server(server.address, tls=server.tls, deadline_s=30).clock_ahead_s is None


def test_the_way_goes_through_the_proxy(
    server: Server, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
    answer = require_server(server.address, tls=server.tls, deadline_s=30)
    assert answer.proxy == f"127.0.0.1:{proxy.port}"
    assert proxy.asked == [f"CONNECT {server.address} HTTP/1.1"]


def test_no_proxy_is_kept_to(server: Server, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert require_server(server.address, tls=server.tls, deadline_s=30).proxy is None
    assert proxy.asked == []


def test_a_proxy_with_a_password_is_used_and_the_password_is_shown_nowhere(
    server: Server, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    proxy.user = "site"
    monkeypatch.setenv("https_proxy", f"http://site:{PASSWORD}@127.0.0.1:{proxy.port}")
    answer = require_server(server.address, tls=server.tls, deadline_s=30)
    assert PASSWORD not in str(answer) + caplog.text
    monkeypatch.setenv("https_proxy", f"http://site:not-{PASSWORD}@127.0.0.1:{proxy.port}")
    with pytest.raises(ServerUnreachable, match="407") as caught:
        require_server(server.address, tls=server.tls, deadline_s=0.1)
    assert "user and password" in str(caught.value)
    assert PASSWORD not in str(caught.value) + caplog.text


def test_a_proxy_that_is_away_is_named_without_its_password(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    monkeypatch.setenv("HTTPS_PROXY", f"http://site:{PASSWORD}@127.0.0.1:{port}")
    with pytest.raises(ServerUnreachable, match=f"127.0.0.1:{port}") as caught:
        require_server(server.address, tls=server.tls, deadline_s=0.1)
    assert PASSWORD not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    "value", [f"ftp://u:{PASSWORD}@proxy:1", f"http://u:{PASSWORD}@proxy:port", "http://"]
)
def test_what_is_no_proxy_is_refused_and_not_shown(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", value)
    with pytest.raises(InvalidSetting, match="FM-C102: HTTPS_PROXY") as caught:
        proxy_for("server")
    assert PASSWORD not in str(caught.value)


def test_a_proxy_cannot_stand_in_for_the_server(
    server: Server, foreign: Authority, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tunnel that ends elsewhere shows another authority's certificate."""
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
    with pytest.raises(ServerUnreachable, match="does not prove to be the federation's"):
        require_server(server.address, tls=site_tls(foreign, tmp_path, name="sms"), deadline_s=30)


def test_an_expired_certificate_is_refused_at_once_and_the_clock_is_named(tmp_path: Path) -> None:
    authority = make_ca(tmp_path / "pki", name="trial", passphrase=PASSPHRASE)
    then = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=9)
    files = issue_server_certificate(authority, hosts=("127.0.0.1",), days=2, now=then)
    tls = site_tls(authority, tmp_path, name="sms")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate, files.private_key)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            with contextlib.suppress(OSError), listener.accept()[0] as connection:
                context.wrap_socket(connection, server_side=True)

        thread = threading.Thread(target=answer)
        thread.start()
        again = mock.Mock(side_effect=AssertionError("the server was asked again"))
        clock = SimpleNamespace(time=time.time, monotonic=time.monotonic, sleep=again)
        with (
            mock.patch.object(server_reachability, "time", clock),
            pytest.raises(ServerUnreachable, match=r"expired.*clock"),
        ):
            require_server(f"127.0.0.1:{listener.getsockname()[1]}", tls=tls, deadline_s=20)
        thread.join()


def test_a_server_that_asks_for_a_certificate_gets_the_sites(
    authority: Authority, foreign: Authority, tmp_path: Path
) -> None:
    with serving(authority, asks_for_certificate=True) as server:
        assert require_server(server.address, tls=server.tls, deadline_s=30).http_status == 404
        other = replace(site_tls(foreign, tmp_path, name="sms"), authority=server.tls.authority)
        with pytest.raises(ServerUnreachable):
            require_server(server.address, tls=other, deadline_s=0.5)
        without = ssl.create_default_context(cafile=server.tls.authority)
        with pytest.raises(httpx.TransportError):  # no site is without one: the server does ask
            httpx.get(f"https://{server.address}", verify=without)


def test_a_certificate_without_its_key_is_refused(
    server: Server, authority: Authority, tmp_path: Path
) -> None:
    mixed = replace(server.tls, private_key=site_tls(authority, tmp_path, name="umr").private_key)
    with pytest.raises(AdmissionRefused, match="do not belong together"):
        require_server(server.address, tls=mixed, deadline_s=0.1)


@pytest.mark.parametrize("name", ["authority", "certificate", "private_key"])
def test_a_tls_file_that_cannot_be_read_is_refused(server: Server, tmp_path: Path, name: str) -> None:
    (tmp_path / "altered").write_text("altered")
    for path in (tmp_path / "missing", tmp_path / "altered"):
        with pytest.raises(AdmissionRefused, match="FM-F404"):
            require_server(server.address, tls=replace(server.tls, **{name: path}), deadline_s=0.1)


def test_the_nodes_own_client_goes_through_the_proxy(
    server: Server, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the node speaks with, in the environment that a node gets."""
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
    roots = server.tls.authority.read_bytes()
    with (
        fleet_client(server.tls).from_server_address(server.address, False, roots, []) as client,
        pytest.raises(httpx.HTTPStatusError) as answer,
    ):
        client.ActivateNode(ActivateNodeRequest(heartbeat_interval=30))
    assert answer.value.response.status_code == 501  # the trial server answers to GET alone
    assert proxy.asked == [f"CONNECT {server.address} HTTP/1.1"]


def test_the_proxy_is_the_nodes_and_no_tasks(
    proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Real processes of a site: the node asks the proxy, and no other process knows of it."""
    monkeypatch.setenv("HTTPS_PROXY", f"http://site:{PASSWORD}@127.0.0.1:{proxy.port}")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    coordinator = make_coordinator(tmp_path / "server", port=free_port())
    site = make_site(tmp_path / "sms")
    coordinator.admitted(site)
    with ChildProcesses(grace_s=2.0) as children:
        processes = site_processes(site, children, preloaded=())
        processes.start()
        environments = {
            child.name.removesuffix("-sms"): Path(f"/proc/{child.process.pid}/environ").read_text()
            for child in children
        }
        children.wait_until(lambda: bool(proxy.asked), deadline_s=60, what="the node asks the proxy")
    assert proxy.asked[0] == f"CONNECT {coordinator.home.settings().address} HTTP/1.1"
    assert PASSWORD in environments["supernode"]
    for name in ("task-host", "superexec"):
        assert PASSWORD not in environments[name]
        assert "proxy" not in environments[name].lower().replace("_proxy_", "")
    for log in site.logs.iterdir():
        assert PASSWORD not in log.read_text()


def test_credentials_are_left_out_of_a_text() -> None:
    assert without_credentials(f"at http://u:{PASSWORD}@proxy:3128 it failed") == (
        "at http://proxy:3128 it failed"
    )
    assert without_credentials("http://proxy:3128/a@b") == "http://proxy:3128/a@b"


def test_httpx_and_this_page_agree_on_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """`proxy_for` is for the message; the way is httpx's own choice."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # one for all: nobody is connected to
    for no_proxy, host in (
        ("", "a.b"),
        ("b", "a.b"),
        (".b", "a.b"),
        ("c", "a.b"),
        ("*", "a.b"),
        ("a.b", "a.b"),
    ):
        monkeypatch.setenv("HTTPS_PROXY", "http://proxy:3128")
        monkeypatch.setenv("NO_PROXY", no_proxy)
        with httpx.Client(verify=context) as client:
            direct = client._transport_for_url(httpx.URL(f"https://{host}/")) is client._transport
        assert (proxy_for(host) is None) == direct, no_proxy
