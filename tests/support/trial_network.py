"""What stands between a site and its coordinator, for tests: a TLS server that tells a time, a proxy that tunnels."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import http.server
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path

from cryptography.hazmat.primitives import serialization

from client.admission.keys import SiteKeys, make_tls_key, read_tls_private
from client.admission.tls import TlsFiles
from server.admission.pki import Authority, ca_files, issue_site_certificate, server_files

PASSWORD = "correct-horse"


@dataclass
class Proxy:
    """A proxy that opens tunnels; `asked` holds what it was asked for."""

    port: int = 0
    user: str | None = None
    asked: list[str] = field(default_factory=list)
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers = [writer]
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await self._tunnel(reader, writer, writers)
        finally:
            for open_ in writers:
                open_.close()

    async def _tunnel(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, writers: list[asyncio.StreamWriter]
    ) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        self.asked.append(head.split("\r\n")[0])
        if self.user is not None:
            expected = base64.b64encode(f"{self.user}:{PASSWORD}".encode()).decode()
            if f"Basic {expected}" not in head:
                writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
                await writer.drain()
                return
        host, _, port = head.split()[1].rpartition(":")
        there, back = await asyncio.open_connection(host, int(port))
        writers.append(back)
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await asyncio.gather(_pump(reader, back), _pump(there, writer))

    def run(self, ready: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self.serve, "127.0.0.1", 0))
        self.port = server.sockets[0].getsockname()[1]
        ready.set()
        self._loop.run_forever()
        server.close()
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self._loop.run_until_complete(asyncio.sleep(0.01))  # the closed connections are seen off
        self._loop.close()

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while part := await source.read(65536):
            sink.write(part)
            await sink.drain()
        sink.close()


class Answer(http.server.BaseHTTPRequestHandler):
    """Says "not found" or what else the test sets, and the time that it sets."""

    def do_GET(self) -> None:
        self.send_response_only(self.server.status)  # type: ignore[attr-defined]
        date = self.server.date  # type: ignore[attr-defined]
        if date is not None:
            self.send_header("Date", date() if callable(date) else date)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


class QuietServer(http.server.ThreadingHTTPServer):
    """date: what it tells; what gives it is asked at each answer."""

    date: str | Callable[[], str] | None = None
    status = 404

    def handle_error(self, *_: object) -> None:
        """A client that does not trust it goes away in the middle."""


@dataclass
class Server:
    """A server that runs; `http.date` is what it tells. tls: of a site that its authority has admitted."""

    address: str
    tls: TlsFiles
    http: QuietServer


def clock_behind(seconds: float) -> Callable[[], str]:
    """The time that a server tells whose clock is behind."""
    return lambda: formatdate(time.time() - seconds, usegmt=True)


@contextlib.contextmanager
def serving(authority: Authority, *, port: int = 0, asks_for_certificate: bool = False) -> Iterator[Server]:
    """A server with the certificate that lies beside its authority's."""
    files = server_files(authority.folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate, files.private_key)
    if asks_for_certificate:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(ca_files(authority.folder).certificate)
    with QuietServer(("127.0.0.1", port), Answer) as found:
        found.socket = context.wrap_socket(found.socket, server_side=True)
        found.date = clock_behind(0)
        thread = threading.Thread(target=found.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        tls = site_tls(authority, authority.folder / "a-site", name="sms")
        yield Server(f"127.0.0.1:{found.server_port}", tls, found)
        found.shutdown()
        thread.join()


@contextlib.contextmanager
def tunnelling() -> Iterator[Proxy]:
    """A proxy that runs."""
    made, ready = Proxy(), threading.Event()
    thread = threading.Thread(target=made.run, args=(ready,), daemon=True)
    thread.start()
    assert ready.wait(120)
    yield made
    made.stop()
    thread.join()


def site_tls(authority: Authority, folder: Path, *, name: str) -> TlsFiles:
    """A site's key, and its certificate of `authority`, in `folder`."""
    folder.mkdir(exist_ok=True)
    keys = SiteKeys.of(folder)
    make_tls_key(keys)
    certificate = issue_site_certificate(authority, name, read_tls_private(keys).public_key())
    path = folder / "site.pem"
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return TlsFiles(ca_files(authority.folder).certificate, path, keys.tls_key)
