"""A peer without a certificate cannot take the proxy's connections from the others: the shipped nginx.conf.template.

The attack is half a TLS handshake, or a whole one and a byte of a request, many times, from one address; the honest
site comes from another one. The worker has room for fewer connections than the attacker opens.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from flwr.supercore.constant import FLEET_HTTP_PUBLIC_KEY_HEADER

from client.site_home import SiteHome
from minet_core.runtime.processes.child_processes import free_port
from server.admission.pki import server_files
from tests.support.admitted import Coordinator, make_coordinator, make_site
from tests.support.proxy_front import header_of

TEMPLATE = Path("docker/nginx/nginx.conf.template")
STREAM = Path("/etc/nginx/modules-enabled")


def _has_stream() -> bool:
    if shutil.which("nginx") is None:
        return False
    built = subprocess.run(["nginx", "-V"], capture_output=True, text=True, check=True).stderr
    return "--with-stream " in built or bool(list(STREAM.glob("*-mod-stream.conf")))


pytestmark = pytest.mark.skipif(not _has_stream(), reason="nginx with its stream module is not installed")

FEW = 300
"""Connections of the worker. One address may have 64, of three each; the site's is four, with that to the server."""

ATTACKER, HONEST = "127.0.0.1", "127.0.0.2"


@dataclass(frozen=True)
class Proxy:
    """The shipped nginx on a free port of loopback, and a site that was admitted."""

    port: int
    ca: Path
    site: SiteHome
    log: Path

    def connect(self, address: str) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), 5.0, source_address=(address, 0))

    def ask(self, address: str, *, head: bytes = b"") -> bytes:
        """The first line of the answer to the site's call."""
        context = ssl.create_default_context(cafile=str(self.ca))
        context.load_cert_chain(self.site.kit / "site.pem", self.site.keys / "tls.key")
        with context.wrap_socket(self.connect(address), server_hostname="localhost") as stream:
            stream.settimeout(5.0)
            stream.sendall(
                b"POST /v1/fleet/activate-node HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n"
                + f"{FLEET_HTTP_PUBLIC_KEY_HEADER}: {header_of(self.site)}\r\n".encode()
                + head
                + b"\r\n"
            )
            return stream.recv(4096).split(b"\r\n")[0]


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    folder = tmp_path_factory.mktemp("proxy")
    coordinator: Coordinator = make_coordinator(folder / "server", sites=("sms",))
    site = make_site(folder / "sms")
    coordinator.admitted(site)
    pki = coordinator.home.pki

    class Upstream(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    files = server_files(pki)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate, files.private_key)
    upstream = ThreadingHTTPServer(("127.0.0.1", 0), Upstream)
    upstream.socket = context.wrap_socket(upstream.socket, server_side=True)
    thread = threading.Thread(target=upstream.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    port, log = free_port(), folder / "access.log"
    text = TEMPLATE.read_text(encoding="utf-8")
    for former, present in {
        "/tmp/": f"{folder}/",
        "/pki/": f"{pki}/",
        "/dev/stdout": str(log),
        "@RESOLVER@": "127.0.0.1",
        "@UPSTREAM@": f"127.0.0.1:{upstream.server_address[1]}",
        "listen 443": f"listen 127.0.0.1:{port}",
        "listen 127.0.0.1:8080": f"listen 127.0.0.1:{free_port()}",
        "worker_connections 8192": f"worker_connections {FEW}",
    }.items():
        assert former in text
        text = text.replace(former, present)
    (folder / "nginx.conf").write_text(text)
    user = "user root;" if os.geteuid() == 0 else ""  # in the image there is one user, and no root
    errors = (folder / "errors").open("wb")
    command = ["nginx", "-e", "stderr", "-c", str(folder / "nginx.conf"), "-g", f"daemon off; {user}"]
    with errors, subprocess.Popen(command, stderr=errors) as process:
        try:
            made = Proxy(port, pki / "ca.pem", site, log)
            ends = time.monotonic() + 20
            while True:
                assert process.poll() is None, (folder / "errors").read_text()
                with contextlib.suppress(OSError):
                    made.connect(HONEST).close()
                    break
                assert time.monotonic() < ends
                time.sleep(0.05)
            yield made
        finally:
            process.terminate()
            upstream.shutdown()
            thread.join()
            upstream.server_close()


@pytest.fixture(params=["half a handshake", "a byte of a request"])
def attacker(proxy: Proxy, request: pytest.FixtureRequest) -> Iterator[list[socket.socket]]:
    """More connections than the worker has, of a peer without a certificate that says no more."""
    context = ssl.create_default_context(cafile=str(proxy.ca))
    held: list[socket.socket] = []
    for _ in range(FEW + 50):
        stream = proxy.connect(ATTACKER)
        held.append(stream)
        with contextlib.suppress(OSError):
            if request.param == "half a handshake":
                stream.sendall(b"\x16")
            else:
                held[-1] = context.wrap_socket(stream, server_hostname="localhost")
                held[-1].sendall(b"P")
    yield held
    for stream in held:
        stream.close()


def test_an_admitted_site_is_answered(proxy: Proxy) -> None:
    assert proxy.ask(HONEST) == b"HTTP/1.1 200 OK"
    assert f'{HONEST} site="sms"' in proxy.log.read_text()  # by its own address, and not the proxy's


def test_half_handshakes_of_one_address_leave_the_others_room(
    proxy: Proxy, attacker: list[socket.socket]
) -> None:
    assert len(attacker) > FEW
    for _ in range(5):
        assert proxy.ask(HONEST) == b"HTTP/1.1 200 OK"


def test_who_holds_too_many_is_let_go_of_and_the_rest_after_the_handshakes_time(
    proxy: Proxy, attacker: list[socket.socket]
) -> None:
    def living() -> int:
        alive = 0
        for stream in attacker:
            if stream.fileno() == -1:  # its handshake was refused
                continue
            stream.setblocking(False)
            try:
                alive += stream.recv(1) != b""
            except (BlockingIOError, ssl.SSLWantReadError):
                alive += 1
            except OSError:
                pass
        return alive

    ends = time.monotonic() + 9  # before client_header_timeout, which is 10 s
    while living() > 64:
        assert time.monotonic() < ends
        time.sleep(0.05)
    ends = time.monotonic() + 40  # client_header_timeout is 10 s; nginx's own would be 60 s
    while living():
        assert time.monotonic() < ends
        time.sleep(0.2)
    assert proxy.ask(ATTACKER) == b"HTTP/1.1 200 OK"  # an address is not shut out for ever


def test_a_large_header_is_refused(proxy: Proxy) -> None:
    assert proxy.ask(HONEST, head=b"x: " + b"a" * 20_000 + b"\r\n").startswith(b"HTTP/1.1 400")
