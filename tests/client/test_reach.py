"""The way to the server: a real TLS server, and a real proxy that opens tunnels."""

from __future__ import annotations

import contextlib
import datetime
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from email.utils import formatdate
from pathlib import Path

import httpx
import pytest

from client.proxy import proxy_for, without_credentials, without_proxy
from client.reach import require_server
from client.site_home import SiteHome
from client.site_keys import make_site_keys
from client.supernode import site_processes
from minet_core.federation import FederationSettings
from minet_core.runtime.errors import AdmissionRefused, InvalidSetting, ServerUnreachable
from minet_core.runtime.processes import ChildProcesses, free_port
from server.enrolment import admit
from server.pki import ca_files, issue_server_certificate, make_ca, server_files
from server.server_home import ServerSettings, init_server
from tests.client.trial_network import PASSWORD, Proxy, Server, serving, site_certificate, tunnelling


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    make_ca(tmp_path, name="trial")
    issue_server_certificate(tmp_path, hosts=("127.0.0.1",))
    with serving(tmp_path) as running:
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
    answer = require_server(server.address, ca=server.ca, deadline_s=5)
    assert (answer.http_status, answer.proxy) == (404, None)
    assert answer.clock_ahead_s is not None
    assert abs(answer.clock_ahead_s) < 3
    assert 80 < (answer.certificate_ends.timestamp() - time.time()) / 86400 < 91


@pytest.mark.parametrize("ahead_s", [-400, -40, 0, 4, 90])
def test_the_clock_is_measured_to_its_stated_error(server: Server, ahead_s: int) -> None:
    server.http.date = formatdate(time.time() - ahead_s, usegmt=True)
    answer = require_server(server.address, ca=server.ca, deadline_s=5)
    assert answer.clock_ahead_s is not None
    assert answer.clock_error_s < 2
    assert abs(answer.clock_ahead_s - ahead_s) <= answer.clock_error_s + 0.5


@pytest.mark.parametrize("date", [None, "", "yesterday"])
def test_a_server_that_tells_no_time_leaves_the_clock_unknown(server: Server, date: str | None) -> None:
    server.http.date = date
    assert require_server(server.address, ca=server.ca, deadline_s=5).clock_ahead_s is None


def test_the_way_goes_through_the_proxy(
    server: Server, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
    answer = require_server(server.address, ca=server.ca, deadline_s=5)
    assert answer.proxy == f"127.0.0.1:{proxy.port}"
    assert proxy.asked == [f"CONNECT {server.address} HTTP/1.1"]


def test_no_proxy_is_kept_to(server: Server, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert require_server(server.address, ca=server.ca, deadline_s=5).proxy is None
    assert proxy.asked == []


def test_a_proxy_with_a_password_is_used_and_the_password_is_shown_nowhere(
    server: Server, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    proxy.user = "site"
    monkeypatch.setenv("https_proxy", f"http://site:{PASSWORD}@127.0.0.1:{proxy.port}")
    answer = require_server(server.address, ca=server.ca, deadline_s=5)
    assert PASSWORD not in str(answer) + caplog.text
    monkeypatch.setenv("https_proxy", f"http://site:not-{PASSWORD}@127.0.0.1:{proxy.port}")
    with pytest.raises(ServerUnreachable, match="407") as caught:
        require_server(server.address, ca=server.ca, deadline_s=0.1)
    assert "user and password" in str(caught.value)
    assert PASSWORD not in str(caught.value) + caplog.text


def test_a_proxy_that_is_away_is_named_without_its_password(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    monkeypatch.setenv("HTTPS_PROXY", f"http://site:{PASSWORD}@127.0.0.1:{port}")
    with pytest.raises(ServerUnreachable, match=f"127.0.0.1:{port}") as caught:
        require_server(server.address, ca=server.ca, deadline_s=0.1)
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
    server: Server, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tunnel that ends elsewhere shows another authority's certificate."""
    make_ca(tmp_path / "other", name="other")
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
    with pytest.raises(ServerUnreachable, match="does not prove to be the federation's"):
        require_server(server.address, ca=ca_files(tmp_path / "other").certificate, deadline_s=5)


def test_an_expired_certificate_is_refused_at_once_and_the_clock_is_named(tmp_path: Path) -> None:
    make_ca(tmp_path, name="trial")
    then = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=9)
    issue_server_certificate(tmp_path, hosts=("127.0.0.1",), days=2, now=then)
    files = server_files(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate, files.private_key)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            with contextlib.suppress(OSError), listener.accept()[0] as connection:
                context.wrap_socket(connection, server_side=True)

        thread = threading.Thread(target=answer)
        thread.start()
        began = time.monotonic()
        with pytest.raises(ServerUnreachable, match=r"expired.*clock"):
            require_server(
                f"127.0.0.1:{listener.getsockname()[1]}", ca=ca_files(tmp_path).certificate, deadline_s=20
            )
        assert time.monotonic() - began < 10
        thread.join()


def test_a_server_that_asks_for_a_certificate_gets_the_sites(tmp_path: Path) -> None:
    make_ca(tmp_path, name="trial")
    issue_server_certificate(tmp_path, hosts=("127.0.0.1",))
    own = site_certificate(tmp_path, tmp_path, name="sms")
    with serving(tmp_path, asks_for_certificate=True) as server:
        assert require_server(server.address, ca=server.ca, own=own, deadline_s=5).http_status == 404
        with pytest.raises(ServerUnreachable):
            require_server(server.address, ca=server.ca, deadline_s=0.5)


def test_a_certificate_without_its_key_is_refused(tmp_path: Path) -> None:
    make_ca(tmp_path, name="trial")
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    one, two = (site_certificate(tmp_path, tmp_path / name, name=name) for name in ("one", "two"))
    mixed = replace(one, private_key=two.private_key)
    with pytest.raises(AdmissionRefused, match="do not belong together"):
        require_server("127.0.0.1:1", ca=ca_files(tmp_path).certificate, own=mixed, deadline_s=0.1)


def test_flowers_own_client_goes_through_the_proxy(server: Server, proxy: Proxy) -> None:
    """What the node speaks with, in a process with the environment that a node gets."""
    code = (
        "import sys; from pathlib import Path; import httpx\n"
        "from flwr.proto.fleet_pb2 import ActivateNodeRequest\n"
        "from flwr.supernode.fleet_http_client import FleetHttpClient\n"
        "client = FleetHttpClient.from_server_address(sys.argv[1], False, Path(sys.argv[2]).read_bytes(), [])\n"
        "try:\n    client.ActivateNode(ActivateNodeRequest(heartbeat_interval=30))\n"
        "except httpx.HTTPStatusError as answer:\n    print(answer.response.status_code)\n"
    )
    environment = {**os.environ, "HTTPS_PROXY": f"http://127.0.0.1:{proxy.port}"}
    done = subprocess.run(
        [sys.executable, "-c", code, server.address, str(server.ca)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert done.stdout.strip() == "501"  # the trial server answers to GET alone
    assert proxy.asked == [f"CONNECT {server.address} HTTP/1.1"]


def test_the_proxy_is_the_nodes_and_no_tasks(
    proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Real processes of a site: the node asks the proxy, and no other process knows of it."""
    monkeypatch.setenv("HTTPS_PROXY", f"http://site:{PASSWORD}@127.0.0.1:{proxy.port}")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    federation = FederationSettings(name="trial", sites=("sms",), participation={"quorum": 1})
    coordinator = init_server(tmp_path / "server", federation, ServerSettings(port=free_port()))
    site = SiteHome(tmp_path / "sms")
    admit(coordinator, "sms", make_site_keys(site.keys, name="sms").public_key, kit=site.kit)
    with ChildProcesses(grace_s=2.0) as children:
        processes = site_processes(site, children, preloaded=())
        processes.start()
        environments = {
            child.name.removesuffix("-sms"): Path(f"/proc/{child.process.pid}/environ").read_text()
            for child in children
        }
        children.wait_until(lambda: bool(proxy.asked), deadline_s=60, what="the node asks the proxy")
    assert proxy.asked[0] == f"CONNECT {coordinator.settings().address} HTTP/1.1"
    assert PASSWORD in environments["supernode"]
    for name in ("task-host", "superexec"):
        assert PASSWORD not in environments[name]
        assert "proxy" not in environments[name].lower().replace("_proxy_", "")
    for log in site.logs.iterdir():
        assert PASSWORD not in log.read_text()


def test_variables_of_the_proxy_are_left_out_however_they_are_written() -> None:
    given = {"HTTPS_PROXY": "a", "https_proxy": "b", "No_Proxy": "c", "PATH": "d"}
    assert without_proxy(given) == {"PATH": "d"}


def test_credentials_are_left_out_of_a_text() -> None:
    assert without_credentials(f"at http://u:{PASSWORD}@proxy:3128 it failed") == (
        "at http://proxy:3128 it failed"
    )
    assert without_credentials("http://proxy:3128/a@b") == "http://proxy:3128/a@b"


def test_httpx_and_this_page_agree_on_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """`proxy_for` is for the message; the way is httpx's own choice."""
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
        with httpx.Client() as client:
            direct = client._transport_for_url(httpx.URL(f"https://{host}/")) is client._transport
        assert (proxy_for(host) is None) == direct, no_proxy
