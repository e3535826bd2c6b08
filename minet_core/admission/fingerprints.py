"""Fingerprints: what two people compare by telephone before one of them trusts a key.

Decimal digits in groups of five: they are read aloud alike in every language, where `b`, `d` and `e` of a hexadecimal
number are not. 40 digits are 132 bits: whoever wants to pass another key off for the one that is read aloud has to
try 2^132 of them.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from minet_core.errors import AdmissionRefused

_GROUPS, _GROUP_DIGITS = 8, 5
_N_DIGITS = _GROUPS * _GROUP_DIGITS

KEY_KIND = "ecdsa-sha2-nistp384"
"""The curve that Flower's node authentication names, and that of every other key here."""


def key_fingerprint(public_key: Path) -> str:
    """Fingerprint of a public key in a file.

    Parameters
    ----------
    public_key
        Of a file of one line, OpenSSH form.

    Returns
    -------
    str
        `SHA256:...`, as `ssh-keygen -l` prints it.

    Raises
    ------
    AdmissionRefused
        FM-F404, for a file that holds no EC P-384 key in OpenSSH form.
    """
    try:
        return line_fingerprint(public_key.read_text(encoding="ascii"))
    except (AdmissionRefused, UnicodeDecodeError) as failure:
        raise AdmissionRefused(
            "a public key is not of the right kind",
            got=public_key,
            expected=f"one line, {KEY_KIND} ...",
            action="Use the key that `fedminet site init` made",
        ) from failure


def line_fingerprint(line: str) -> str:
    """Fingerprint of a public key in an OpenSSH line.

    Parameters
    ----------
    line
        Kind, key in base64 and an optional comment.

    Returns
    -------
    str
        `SHA256:...`, as `ssh-keygen -l` prints it.

    Raises
    ------
    AdmissionRefused
        FM-F404, for a line of another kind.
    """
    return "SHA256:" + base64.b64encode(hashlib.sha256(_key_blob(line)).digest()).decode().rstrip("=")


def read_node_key(line: str) -> ec.EllipticCurvePublicKey:
    """The key in an OpenSSH line.

    Parameters
    ----------
    line
        Kind, key in base64 and an optional comment.

    Returns
    -------
    EllipticCurvePublicKey
        On the curve P-384.

    Raises
    ------
    AdmissionRefused
        FM-F404, for any other key.
    """
    _key_blob(line)
    try:
        key = serialization.load_ssh_public_key(line.encode("ascii"))
    # NotImplementedError is cryptography's own, for a key whose point is compressed: it reads none.
    except (ValueError, UnsupportedAlgorithm, NotImplementedError) as failure:
        raise AdmissionRefused("a node key cannot be read", expected=f"one line, {KEY_KIND} ...") from failure
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP384R1):
        raise AdmissionRefused("a node key is of another kind", expected=KEY_KIND)
    return key


def tls_key_digest(key: ec.EllipticCurvePublicKey) -> str:
    """SHA-256 of a TLS key.

    Parameters
    ----------
    key
        Its SubjectPublicKeyInfo, DER, is what is hashed.

    Returns
    -------
    str
        64 hexadecimal digits.
    """
    return hashlib.sha256(_public_der(key)).hexdigest()


def site_fingerprint(site: str, *, node_key: str, tls_key: ec.EllipticCurvePublicKey) -> str:
    """The one fingerprint of a site: of its name and both its public keys, so that none can be exchanged unseen.

    Only the keys count: a later request with the same ones has the same fingerprint.

    Parameters
    ----------
    site
        Its name.
    node_key
        The OpenSSH line.
    tls_key
        Of its certificate request.

    Returns
    -------
    str
        Eight groups of five digits.

    Raises
    ------
    AdmissionRefused
        FM-F404, for a node key that cannot be read.
    """
    parts = (b"fedminet site", site.encode(), _key_blob(node_key), _public_der(tls_key))
    framed = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    return spoken(hashlib.sha256(framed).digest())


def authority_fingerprint(certificate: x509.Certificate) -> str:
    """The fingerprint of a federation's authority.

    Parameters
    ----------
    certificate
        Its DER is what is hashed, by SHA-256.

    Returns
    -------
    str
        Eight groups of five digits.
    """
    return spoken(certificate.fingerprint(hashes.SHA256()))


def spoken(digest: bytes) -> str:
    """A digest as people read it aloud: its value modulo 10^40.

    Parameters
    ----------
    digest
        SHA-256, 32 bytes.

    Returns
    -------
    str
        Eight groups of five digits, spaces between them.
    """
    digits = f"{int.from_bytes(digest, 'big') % 10**_N_DIGITS:0{_N_DIGITS}d}"
    return " ".join(digits[start : start + _GROUP_DIGITS] for start in range(0, _N_DIGITS, _GROUP_DIGITS))


def same_fingerprint(given: str, expected: str) -> bool:
    """Whether a person has given the expected fingerprint.

    Parameters
    ----------
    given
        As typed; how the digits were grouped does not matter.
    expected
        As `spoken` gives it.

    Returns
    -------
    bool
        False also for what is not of digits.
    """
    digits = re.sub(r"[\s,.-]", "", given)
    return digits.isdecimal() and digits == expected.replace(" ", "")


def _key_blob(line: str) -> bytes:
    try:
        kind, encoded, *_ = line.split()
        blob = base64.b64decode(encoded, validate=True)
    except (ValueError, binascii.Error) as failure:
        raise AdmissionRefused("a node key cannot be read", expected=f"one line, {KEY_KIND} ...") from failure
    if kind != KEY_KIND:
        raise AdmissionRefused("a node key is of another kind", got=kind, expected=KEY_KIND)
    return blob


def _public_der(key: ec.EllipticCurvePublicKey) -> bytes:
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
