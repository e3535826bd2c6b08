"""What is revoked, and the two files by which the proxy refuses it.

    pki/revoked.jsonl   a line for every revocation, appended; all the rest is made from it and can be made again
    pki/crl.pem         the authority's revocation list (X.509), for nginx's `ssl_crl`
    pki/nodes.map       which node key belongs to which certificate, for an nginx `map`: see `node_map`

The list is on the disk before anything is made from it, so a revocation that was cut off is one that happened: the
site is not registered again, and the command, given again, makes the rest.
"""

from __future__ import annotations

import base64
import contextlib
import datetime
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from pydantic import AfterValidator, Field

from minet_core.admission.expiry import CLOCK_SKEW
from minet_core.admission.fingerprints import read_node_key
from minet_core.errors import ConfigurationError
from minet_core.runtime.files.atomic_write import append_line, mend_lines, replacing, write_text
from minet_core.runtime.files.file_lock import let_go, locked_within
from minet_core.runtime.files.typed_page import parse_typed
from server.admission.pem_files import naming_damaged
from server.admission.pki import ISSUED_FILE, Authority

CRL_FILE = "crl.pem"
NODES_FILE = "nodes.map"
REVOKED_FILE = "revoked.jsonl"

CRL_DAYS = 180
"""nginx refuses everybody once its list has expired, and a list needs the authority's key. Twice the life of every
other certificate, each of which is issued with a new list: so this list is never the first to expire. A shorter one
would protect nobody: the proxy reads it from the disk on which it is made."""

_Line = TypeVar("_Line")


def _is_time(text: str) -> str:
    datetime.datetime.fromisoformat(text)
    return text


@dataclass(frozen=True)
class Revocation:
    """A site's two keys that are never admitted again, under whatever name."""

    site: str
    reason: str
    revoked_at: Annotated[str, AfterValidator(_is_time)]
    node_fingerprint: str
    tls_digest: str


@dataclass(frozen=True)
class _Issued:
    """What is needed of a certificate that was issued. serial: hexadecimal."""

    serial: Annotated[str, Field(pattern="^[0-9a-f]{1,40}$")]
    tls_digest: str


def revocations(pki: Path) -> list[Revocation]:
    """All of them, in the order in which they were made."""
    return _lines(pki / REVOKED_FILE, Revocation)


def record_revocation(
    pki: Path, site: str, *, reason: str, node_fingerprint: str, tls_digest: str
) -> Revocation:
    """Put a revocation on the disk; from here on it has happened."""
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    revocation = Revocation(site, reason, now, node_fingerprint, tls_digest)
    mend_lines(pki / REVOKED_FILE)
    append_line(pki / REVOKED_FILE, asdict(revocation))
    return revocation


def revoked_serials(pki: Path) -> dict[int, datetime.datetime]:
    """The serial numbers of every certificate that was ever issued for a revoked key, and since when."""
    since = {revocation.tls_digest: revocation.revoked_at for revocation in revocations(pki)}
    return {
        int(issued.serial, 16): datetime.datetime.fromisoformat(since[issued.tls_digest])
        for issued in _lines(pki / ISSUED_FILE, _Issued)
        if issued.tls_digest in since
    }


def write_crl(authority: Authority, *, days: int = CRL_DAYS, now: datetime.datetime | None = None) -> Path:
    """Make the revocation list anew; it is always there, also when it is empty."""
    start = now or datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(authority.certificate.subject)
        .last_update(start - CLOCK_SKEW)
        .next_update(start + datetime.timedelta(days=days))
        .add_extension(x509.CRLNumber(_next_number(authority.folder)), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()), critical=False
        )
    )
    for serial, since in revoked_serials(authority.folder).items():
        revoked = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(since).build()
        builder = builder.add_revoked_certificate(revoked)
    path = authority.folder / CRL_FILE
    with replacing(path) as temporary:
        content = builder.sign(authority.key, hashes.SHA384()).public_bytes(serialization.Encoding.PEM)
        temporary.write_bytes(content)
    return path


def read_crl(pki: Path) -> x509.CertificateRevocationList | None:
    """The present list; None before the first one. Raises ConfigurationError (FM-C100) for a damaged one."""
    path = pki / CRL_FILE
    if not path.is_file():
        return None
    with naming_damaged(path):
        return x509.load_pem_x509_crl(path.read_bytes())


def crl_is_behind(pki: Path) -> bool:
    """Whether a revocation is recorded that the present list does not have: its command was cut off."""
    crl = read_crl(pki)
    listed = {revoked.serial_number for revoked in crl} if crl is not None else set()
    return bool(set(revoked_serials(pki)) - listed)


def node_map(node_keys: Mapping[str, str]) -> str:
    """The content of nodes.map. node_keys: by site, the OpenSSH line of its node key.

    A line for every admitted site, for inclusion in

        map "$ssl_client_s_dn:$http_flwr_public_key" $fedminet_site { default ""; include .../pki/nodes.map; }

    Flower sends the node's public key in the header `flwr-public-key` (base64 of its PEM) and holds signature and node
    number of each request to it, but does not look at the certificate. A pair that is not in here gets no site, and
    the proxy answers 403. As regular expressions, because nginx compares plain strings without regard to case.
    """
    head = "# Certificate's subject, node's public key -> site. Made by `fedminet server`; do not edit.\n"
    lines = []
    for site, line in sorted(node_keys.items()):
        pem = read_node_key(line).public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        header = base64.b64encode(pem).decode("ascii")
        lines.append(f'"~^CN={site}:{re.escape(header)}$" {site};\n')
    return head + "".join(lines)


def write_node_map(pki: Path, node_keys: Mapping[str, str]) -> bool:
    """Write nodes.map where its content has changed; whether it had."""
    path, content = pki / NODES_FILE, node_map(node_keys)
    if path.is_file() and path.read_text(encoding="utf-8") == content:
        return False
    write_text(path, content)
    return True


@contextlib.contextmanager
def changing(pki: Path) -> Iterator[None]:
    """One change at a time: a list made before a revocation must not be written after it."""
    # For reading: one that another user's command made, as root's back-up, can be locked too. The folder is private.
    descriptor = os.open(pki / ".lock", os.O_RDONLY | os.O_CREAT, 0o644)
    try:
        locked_within(descriptor, None)
        yield
    finally:
        let_go(descriptor)


def _next_number(pki: Path) -> int:
    crl = read_crl(pki)
    if crl is None:
        return 1
    return crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number + 1


def _lines(path: Path, kind: type[_Line]) -> list[_Line]:
    """The whole lines of a file; a last one without an end was cut off and is not one."""
    if not path.exists():
        return []
    try:
        return [parse_typed(line, kind) for line in path.read_bytes().split(b"\n")[:-1]]
    except ValueError as failure:
        raise ConfigurationError(
            "the authority's record of its certificates is damaged",
            got=path,
            action="Restore it from a back-up (`fedminet server restore`): without it a revoked site might be let in",
        ) from failure
