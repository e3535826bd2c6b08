"""Programs that run in containers as peers of the federation: they look for open ports and send requests.

Each is a whole program, since the container that it runs in has nothing of the tests; its arguments are JSON.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

SCAN = """
import json, resource, select, socket, sys, time
host, *ranges = json.loads(sys.argv[1])
address = socket.gethostbyname(host)
limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
AT_ONCE = 4000
found = []
ports = [port for first, last in ranges for port in range(first, last + 1)]
for begin in range(0, len(ports), AT_ONCE):
    waiting, poll = {}, select.poll()
    for port in ports[begin : begin + AT_ONCE]:
        stream = socket.socket()
        stream.setblocking(False)
        stream.connect_ex((address, port))
        waiting[stream.fileno()] = (stream, port)
        poll.register(stream, select.POLLOUT)
    ends = time.monotonic() + 3.0  # a port that is refused answers at once; one that is dropped never does
    while waiting and time.monotonic() < ends:
        for number, _ in poll.poll(200):
            stream, port = waiting.pop(number)
            poll.unregister(number)
            if stream.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0:
                found.append(port)
            stream.close()
    for stream, _ in waiting.values():
        stream.close()
print(json.dumps(found))
"""
"""Prints which ports of a host, in ranges by their first and last, take a connection."""

LISTEN = """
import socket, sys
listener = socket.create_server(("0.0.0.0", int(sys.argv[1])), backlog=64)
print("listening", flush=True)
while True:
    listener.accept()[0].close()
"""

ADD_ROUTE = """
import fcntl, socket, struct, sys

def address(text):
    return struct.pack("@HH4s8x", socket.AF_INET, 0, socket.inet_aton(text))

to, by, mask = address(sys.argv[2]), address(sys.argv[3]), address("255.255.255.0")
route = struct.pack("@L16s16s16sHhLBB3hhPLLH", 0, to, by, mask, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
fcntl.ioctl(socket.socket(socket.AF_INET, socket.SOCK_DGRAM), 0x890B, route)  # SIOCADDRT; 3: up, by a router
"""
"""Sends what is for a network by a router; to be put before another program."""

CALL = """
import http.client, json, ssl, sys
secret, paths = json.loads(sys.argv[1])
context = ssl._create_unverified_context()  # whoever answers there is who is meant
answers = {}
for path in ["/v1/fleet/activate-node", *paths]:
    connection = http.client.HTTPSConnection("coordinator", 9443, timeout=10, context=context)
    connection.request("POST", path, body=b"", headers={"fedminet-control": secret})
    answer = connection.getresponse()
    answers[path] = [answer.status, answer.read(400).decode("utf-8", "replace").strip()]
print(json.dumps(answers))
"""
"""Prints what the coordinator's server answers to who shows the credential."""

ASK = r"""
import http.client, json, socket, ssl, sys
wish = json.loads(sys.argv[1])
context = ssl.create_default_context(cafile=wish["ca"])
if wish.get("certificate"):
    context.load_cert_chain(wish["certificate"], wish["key"])
answers = []
for request in wish["requests"]:
    try:
        raw = socket.create_connection((wish["host"], wish["port"]), timeout=10)
        with context.wrap_socket(raw, server_hostname=wish["name"]) as stream:
            body = b"\0" * request.get("n_bytes", 0)
            head = f"{request['method']} {request['path']} HTTP/1.1\r\nHost: {wish['name']}\r\n"
            for name, value in request.get("headers", []):
                head += f"{name}: {value}\r\n"
            head += "Content-Type: application/protobuf\r\n"
            head += f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
            try:
                stream.sendall(head.encode() + body)
            except OSError:
                pass
            answer = http.client.HTTPResponse(stream)
            answer.begin()
            answers.append([answer.status, answer.read(400).decode("utf-8", "replace")])
    except (OSError, http.client.HTTPException) as failure:
        answers.append([type(failure).__name__, str(failure)])
print(json.dumps(answers))
"""
"""Sends requests as they are given, without making their paths regular, and prints status and text of each answer."""


@dataclass(frozen=True)
class Identity:
    """A certificate and its key, as files in `folder`."""

    folder: Path
    name: str

    @property
    def certificate(self) -> Path:
        return self.folder / f"{self.name}.pem"

    @property
    def key(self) -> Path:
        return self.folder / f"{self.name}.key"


def issue(
    folder: Path,
    name: str,
    *,
    common_name: str,
    authority: tuple[x509.Certificate, ec.EllipticCurvePrivateKey] | None,
    days: float = 10,
    began_days_ago: float = 1,
) -> Identity:
    """A client certificate from `authority`, or from one of its own name that nobody trusts."""
    now = datetime.datetime.now(datetime.UTC)
    key = ec.generate_private_key(ec.SECP384R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    issuer, signer = (authority[0].subject, authority[1]) if authority else (subject, key)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=began_days_ago))
        .not_valid_after(now - datetime.timedelta(days=began_days_ago) + datetime.timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .sign(signer, hashes.SHA384())
    )
    identity = Identity(folder, name)
    identity.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    identity.key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    identity.key.chmod(0o644)  # a throw-away key, read by the peer's container
    return identity


def as_argument(content: Mapping[str, object] | list[object]) -> str:
    return json.dumps(content)
