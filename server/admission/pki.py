"""The federation's own certificate authority, and the certificates that it issues.

    pki/ca.pem        the authority's certificate; every site gets it in its kit
    pki/ca.key        its private key under a passphrase; needed to admit, renew and revoke, not to run the server
    pki/server.pem    the server's certificate
    pki/server.key    its private key; server.key.next before the certificate for it is there
    pki/issued.jsonl  a line for every certificate that a site was issued; see server.admission.revocation for the rest

EC P-384 throughout, as for the sites' keys. Certificates are short-lived.
"""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from minet_core.admission.expiry import CLOCK_SKEW
from minet_core.admission.fingerprints import authority_fingerprint, tls_key_digest
from minet_core.admission.kit import read_authority
from minet_core.errors import ConfigurationError, FileMissing, InvalidSetting
from minet_core.runtime.files.atomic_write import append_line, mend_lines, replacing, write_private
from server.admission.encrypted_key import decrypt_key, encrypt_key
from server.admission.pem_files import naming_damaged

CA_DAYS = 730
SERVER_DAYS = 90
SITE_DAYS = 90
ISSUED_FILE = "issued.jsonl"

BACKUP_KEY_FILE, BACKUP_NAME = "back-up.key", "back-up"
BACKUP_USAGE = ExtendedKeyUsageOID.CODE_SIGNING
"""Of no site's certificate, nor the server's: none of their keys signs a back-up, and this one opens no connection."""

_CURVE = ec.SECP384R1()


@dataclass(frozen=True)
class KeyPair:
    """A certificate and its private key, as files."""

    certificate: Path
    private_key: Path


@dataclass(frozen=True)
class Authority:
    """The authority with its private key opened: it issues, revokes and signs."""

    folder: Path
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey = field(repr=False)

    @property
    def fingerprint(self) -> str:
        """To compare by telephone."""
        return authority_fingerprint(self.certificate)

    def sign(self, content: bytes) -> bytes:
        """ECDSA-P384/SHA-384, DER."""
        return self.key.sign(content, ec.ECDSA(hashes.SHA384()))


def ca_files(folder: Path) -> KeyPair:
    """Where the authority of `folder` is kept."""
    return KeyPair(folder / "ca.pem", folder / "ca.key")


def server_files(folder: Path) -> KeyPair:
    """Where the server's certificate of `folder` is kept."""
    return KeyPair(folder / "server.pem", folder / "server.key")


def make_ca(
    folder: Path, *, name: str, passphrase: str, days: int = CA_DAYS, now: datetime.datetime | None = None
) -> Authority:
    """Make the authority of the federation `name`, its key under `passphrase`.

    Raises ConfigurationError (FM-C100) where there is one, InvalidSetting (FM-C102) for a short passphrase.
    """
    files = ca_files(folder)
    if files.certificate.exists() or files.private_key.exists():
        raise ConfigurationError(
            "a certificate authority is already here",
            got=folder,
            action="Every site trusts the present one; make another in another folder",
        )
    key = ec.generate_private_key(_CURVE)
    subject = _name(f"{name} federation CA")
    certificate = (
        _certificate(subject, subject, key.public_key(), days=days, now=now)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(key_cert_sign=True, crl_sign=True, digital_signature=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA384())
    )
    sealed = encrypt_key(key, passphrase)
    folder.mkdir(parents=True, exist_ok=True)
    write_private(files.private_key, sealed)
    _write_certificate(files.certificate, certificate)
    return Authority(folder, certificate, key)


def open_authority(folder: Path, passphrase: str, *, key: Path | None = None) -> Authority:
    """The authority of `folder`, opened.

    key: where its private key lies, if it is not kept in `folder`. Raises FileMissing (FM-C103), InvalidSetting
    (FM-C102) for a wrong passphrase and for a key that is not the certificate's.
    """
    files = ca_files(folder)
    path = key or files.private_key
    if not files.certificate.is_file() or not path.is_file():
        raise FileMissing(
            "the certificate authority is incomplete",
            got=path if files.certificate.is_file() else files.certificate,
            expected="an existing file",
            action="Name the authority's key with --ca-key where it is kept elsewhere",
        )
    certificate = read_authority(files.certificate)
    opened = decrypt_key(path.read_bytes(), passphrase)
    if opened.public_key() != certificate.public_key():
        raise InvalidSetting("the authority's key is not that of its certificate", got=path)
    return Authority(folder, certificate, opened)


def change_passphrase(folder: Path, *, former: str | None, passphrase: str, key: Path | None = None) -> None:
    """Put the authority's key under another passphrase; `former` None: it is under none yet."""
    path = key or ca_files(folder).private_key
    if not path.is_file():
        raise FileMissing("the authority's key is missing", got=path)
    content = path.read_bytes()
    if former is None:
        with naming_damaged(path):
            opened = serialization.load_pem_private_key(content, password=None)
        if not isinstance(opened, ec.EllipticCurvePrivateKey):
            raise InvalidSetting("the authority's key is of another kind", got=path, expected="ECDSA-P384")
    else:
        opened = decrypt_key(content, former)
    write_private(path, encrypt_key(opened, passphrase))


def is_sealed(folder: Path, *, key: Path | None = None) -> bool:
    """Whether the authority's key is under a passphrase."""
    path = key or ca_files(folder).private_key
    return path.is_file() and b"BEGIN ENCRYPTED PRIVATE KEY" in path.read_bytes()


def issue_server_certificate(
    authority: Authority,
    *,
    hosts: Sequence[str],
    days: int = SERVER_DAYS,
    now: datetime.datetime | None = None,
) -> KeyPair:
    """Issue the server's certificate for `hosts`, names and IP addresses; replaces an earlier one.

    Raises InvalidSetting (FM-C102) for no host.
    """
    if not hosts:
        raise InvalidSetting("a server certificate needs a host", got="none", expected="names or addresses")
    key = ec.generate_private_key(_CURVE)
    certificate = _issued(
        authority,
        _certificate(_name(hosts[0]), authority.certificate.subject, key.public_key(), days=days, now=now),
        key.public_key(),
        names=[_general_name(host) for host in hosts],
        usage=ExtendedKeyUsageOID.SERVER_AUTH,
    )
    files = server_files(authority.folder)
    write_private(_next_key(files), _plain(key))
    _write_certificate(files.certificate, certificate)
    settle_server_key(authority.folder)
    return files


def backup_files(folder: Path) -> KeyPair:
    """Where the key that signs back-ups of `folder` is kept; it is in none of them."""
    return KeyPair(folder / "back-up.pem", folder / BACKUP_KEY_FILE)


def issue_backup_key(authority: Authority) -> KeyPair:
    """Make the key that signs back-ups, certified by the authority for that alone; replaces an earlier one."""
    files, key = backup_files(authority.folder), ec.generate_private_key(_CURVE)
    end = authority.certificate.not_valid_after_utc
    certificate = _issued(
        authority,
        _certificate(
            _name(BACKUP_NAME),
            authority.certificate.subject,
            key.public_key(),
            days=CA_DAYS,
            now=None,
            ends_by=end,
        ),
        key.public_key(),
        names=[x509.UniformResourceIdentifier(f"urn:fedminet:{BACKUP_NAME}")],
        usage=BACKUP_USAGE,
    )
    write_private(files.private_key, _plain(key))
    _write_certificate(files.certificate, certificate)
    return files


def settle_server_key(folder: Path) -> None:
    """Put the server's next key in the place of the former one once its certificate is there.

    The two are two files, and issuing them may be cut off anywhere: until its certificate is there the former pair is
    kept, and whoever reads a pair finishes first what was cut off. Any process may, at any time.
    """
    files = server_files(folder)
    # There is none, or another process has just done it; a damaged certificate is for others to say.
    with contextlib.suppress(FileNotFoundError, ValueError):
        waiting = serialization.load_pem_private_key(_next_key(files).read_bytes(), password=None)
        certificate = x509.load_pem_x509_certificate(files.certificate.read_bytes())
        if waiting.public_key() == certificate.public_key():
            _next_key(files).replace(files.private_key)


def issue_site_certificate(
    authority: Authority,
    site: str,
    key: ec.EllipticCurvePublicKey,
    *,
    days: int = SITE_DAYS,
    now: datetime.datetime | None = None,
) -> x509.Certificate:
    """Issue the site's TLS certificate: a client's and nothing else, never longer valid than the authority.

    Its serial number is on the disk before anybody has the certificate: what was issued can be revoked.
    """
    certificate = _issued(
        authority,
        _certificate(
            _name(site),
            authority.certificate.subject,
            key,
            days=days,
            now=now,
            ends_by=authority.certificate.not_valid_after_utc,
        ),
        key,
        names=[x509.DNSName(site)],
        usage=ExtendedKeyUsageOID.CLIENT_AUTH,
    )
    path = authority.folder / ISSUED_FILE
    mend_lines(path)
    append_line(
        path,
        {
            "site": site,
            "serial": f"{certificate.serial_number:x}",
            "tls_digest": tls_key_digest(key),
            "expires_at": certificate.not_valid_after_utc.isoformat(),
        },
    )
    return certificate


def expires_at(certificate: Path) -> datetime.datetime:
    """When the certificate ends to be valid, UTC. Raises ConfigurationError (FM-C100) for a damaged one."""
    with naming_damaged(certificate):
        return x509.load_pem_x509_certificate(certificate.read_bytes()).not_valid_after_utc


def _issued(
    authority: Authority,
    builder: x509.CertificateBuilder,
    key: ec.EllipticCurvePublicKey,
    *,
    names: list[x509.GeneralName],
    usage: x509.ObjectIdentifier,
) -> x509.Certificate:
    return (
        builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()), critical=False
        )
        .sign(authority.key, hashes.SHA384())
    )


def _certificate(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    *,
    days: int,
    now: datetime.datetime | None,
    ends_by: datetime.datetime | None = None,
) -> x509.CertificateBuilder:
    start = now or datetime.datetime.now(datetime.UTC)
    end = start + datetime.timedelta(days=days)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start - CLOCK_SKEW)
        .not_valid_after(end if ends_by is None else min(end, ends_by))
    )


def _next_key(files: KeyPair) -> Path:
    return files.private_key.with_name(f"{files.private_key.name}.next")


def _plain(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write_certificate(path: Path, certificate: x509.Certificate) -> None:
    with replacing(path) as temporary:
        temporary.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


def _name(common_name: str) -> x509.Name:
    return x509.Name(
        [x509.NameAttribute(NameOID.COMMON_NAME, common_name[:64])]
    )  # 64: RFC 5280, ub-common-name


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host.strip("[]")))
    except ValueError:
        return x509.DNSName(host)


def _key_usage(
    *, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )
