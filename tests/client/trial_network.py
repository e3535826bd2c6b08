"""What stands between a site and its coordinator, for tests: a TLS server that tells a time, a proxy that tunnels."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import datetime
import http.server
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from client.reach import TlsPair
from server.pki import ca_files, server_files

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
    """Says "not found", and the time that the test sets."""

    date: str | None = None

    def do_GET(self) -> None:
        self.send_response_only(404)
        if self.server.date is not None:  # type: ignore[attr-defined]
            self.send_header("Date", self.server.date)  # type: ignore[attr-defined]
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


class QuietServer(http.server.ThreadingHTTPServer):
    date: str | None = None

    def handle_error(self, *_: object) -> None:
        """A client that does not trust it goes away in the middle."""


@dataclass
class Server:
    """A server that runs; `http.date` is what it tells."""

    address: str
    ca: Path
    http: QuietServer


@contextlib.contextmanager
def serving(pki: Path, *, port: int = 0, asks_for_certificate: bool = False) -> Iterator[Server]:
    """A server with the certificate that lies in `pki`."""
    files = server_files(pki)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate, files.private_key)
    if asks_for_certificate:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(ca_files(pki).certificate)
    with QuietServer(("127.0.0.1", port), Answer) as found:
        found.socket = context.wrap_socket(found.socket, server_side=True)
        found.date = formatdate(time.time(), usegmt=True)
        thread = threading.Thread(target=found.serve_forever, daemon=True)
        thread.start()
        yield Server(f"127.0.0.1:{found.server_port}", ca_files(pki).certificate, found)
        found.shutdown()
        thread.join()


@contextlib.contextmanager
def tunnelling() -> Iterator[Proxy]:
    """A proxy that runs."""
    made, ready = Proxy(), threading.Event()
    thread = threading.Thread(target=made.run, args=(ready,), daemon=True)
    thread.start()
    assert ready.wait(10)
    yield made
    made.stop()
    thread.join()


def site_certificate(pki: Path, folder: Path, *, name: str) -> TlsPair:
    """A site's certificate of the authority in `pki`, and its key, in `folder`."""
    authority = x509.load_pem_x509_certificate(ca_files(pki).certificate.read_bytes())
    signer = serialization.load_pem_private_key(ca_files(pki).private_key.read_bytes(), None)
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    key, now = ec.generate_private_key(ec.SECP384R1()), datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(authority.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(days=60))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
        )
        .sign(signer, hashes.SHA384())
    )
    pair = TlsPair(folder / "site.pem", folder / "tls.key")
    pair.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    pair.private_key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    pair.private_key.chmod(0o600)
    return pair
