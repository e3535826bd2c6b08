"""Real peers on loopback for tests of TLS: a server that requires a client's certificate, and a proxy (CONNECT)."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from flwr.proto.fleet_pb2 import ActivateNodeResponse

from server.admission.pki import Authority, ca_files, server_files


@dataclass
class FleetServer:
    """Answers every request as Flower's server answers an activation; notes the clients' certificates."""

    port: int
    seen: list[tuple[str, int]] = field(default_factory=list)
    """Name and serial number of each client."""


@contextlib.contextmanager
def fleet_server(authority: Authority) -> Iterator[FleetServer]:
    """A server with the coordinator's certificate that lets in clients of its authority alone."""
    files = server_files(authority.folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate, files.private_key)
    context.load_verify_locations(cafile=str(ca_files(authority.folder).certificate))
    context.verify_mode = ssl.CERT_REQUIRED

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            peer: Any = self.connection.getpeercert()  # type: ignore[attr-defined]
            names = dict(item for part in peer["subject"] for item in part)
            fleet.seen.append((names["commonName"], int(peer["serialNumber"], 16)))
            body = ActivateNodeResponse(node_id=7).SerializeToString()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def finish_request(self, request: Any, client_address: Any) -> None:
            with contextlib.suppress(OSError):  # a client that is refused
                secured = context.wrap_socket(request, server_side=True)
                with secured:
                    super().finish_request(secured, client_address)

    server = Server(("127.0.0.1", 0), Handler)
    fleet = FleetServer(server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield fleet
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@dataclass
class Proxy:
    """A hospital's proxy: its port, and whom it was asked to connect to."""

    port: int
    asked: list[str] = field(default_factory=list)


@contextlib.contextmanager
def connect_proxy() -> Iterator[Proxy]:
    """A proxy that knows CONNECT and nothing else, and sees no more of what passes than its bytes."""

    class Handler(BaseHTTPRequestHandler):
        def do_CONNECT(self) -> None:
            proxy.asked.append(self.path)
            host, _, port = self.path.rpartition(":")
            with socket.create_connection((host, int(port)), timeout=5) as onward:
                self.send_response(200)
                self.end_headers()
                back = threading.Thread(target=_pump, args=(onward, self.connection))
                back.start()
                _pump(self.connection, onward)
                back.join()

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    proxy = Proxy(server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while content := source.recv(65536):
            target.sendall(content)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)
