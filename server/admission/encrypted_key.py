"""The authority's private key on the disk: PKCS#8, encrypted under a passphrase by scrypt and AES-256-CBC.

`cryptography` reads this form and writes another one: PBKDF2 with 2048 rounds, which a graphics card tries a million
passphrases a second against. The form is that of RFC 8018 (PBES2) with the scrypt of RFC 7914; OpenSSL reads it too.
"""

from __future__ import annotations

import base64
import os
import textwrap

from cryptography.hazmat.primitives import padding, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from minet_core.errors import InvalidSetting

MIN_PASSPHRASE_LENGTH = 15
"""NIST SP 800-63B-4, 3.1.1.2: a passphrase that is the only factor."""

_COST, _BLOCK, _PARALLEL = 1 << 14, 8, 5
"""OWASP's Password Storage Cheat Sheet; of its equal choices the one within the 32 MB that OpenSSL allows itself."""

_PBES2 = bytes.fromhex("06092a864886f70d01050d")  # object identifiers, DER, of RFC 8018 and RFC 7914
_SCRYPT = bytes.fromhex("06092b06010401da47040b")
_AES_256_CBC = bytes.fromhex("060960864801650304012a")


def encrypt_key(key: ec.EllipticCurvePrivateKey, passphrase: str) -> bytes:
    """The key encrypted, PEM. Raises InvalidSetting (FM-C102) for a passphrase that is too short."""
    require_long_enough(passphrase)
    salt, vector = os.urandom(16), os.urandom(16)
    derived = Scrypt(salt=salt, length=32, n=_COST, r=_BLOCK, p=_PARALLEL).derive(passphrase.encode())
    plain = key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    padder = padding.PKCS7(algorithms.AES.block_size).padder()
    encryptor = Cipher(algorithms.AES(derived), modes.CBC(vector)).encryptor()
    encrypted = encryptor.update(padder.update(plain) + padder.finalize()) + encryptor.finalize()
    parameters = _sequence(_octets(salt), _integer(_COST), _integer(_BLOCK), _integer(_PARALLEL))
    scheme = _sequence(_sequence(_SCRYPT, parameters), _sequence(_AES_256_CBC, _octets(vector)))
    content = _sequence(_sequence(_PBES2, scheme), _octets(encrypted))
    lines = textwrap.wrap(base64.b64encode(content).decode("ascii"), 64)
    body = "\n".join(lines)
    return f"-----BEGIN ENCRYPTED PRIVATE KEY-----\n{body}\n-----END ENCRYPTED PRIVATE KEY-----\n".encode()


def decrypt_key(content: bytes, passphrase: str) -> ec.EllipticCurvePrivateKey:
    """The key in a PEM that `encrypt_key` wrote.

    Raises InvalidSetting (FM-C102) for a wrong passphrase, a key that is not encrypted, and one of another kind.
    """
    try:
        key = serialization.load_pem_private_key(content, password=passphrase.encode())
    except TypeError as failure:
        raise InvalidSetting(
            "the authority's key is not encrypted",
            expected="a key under a passphrase",
            action="Run `fedminet server passphrase`",
        ) from failure
    except ValueError as failure:
        raise InvalidSetting(
            "the passphrase does not open the authority's key",
            action="Try again, or restore the key's back-up",
        ) from failure
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise InvalidSetting("the authority's key is of another kind", got=type(key).__name__, expected="EC")
    return key


def require_long_enough(passphrase: str) -> None:
    """Raises InvalidSetting (FM-C102) for a passphrase that is too short."""
    if len(passphrase) < MIN_PASSPHRASE_LENGTH:
        raise InvalidSetting(
            "the passphrase is too short",
            got=f"{len(passphrase)} characters",
            expected=f"{MIN_PASSPHRASE_LENGTH} or more",
            action="Take several words",
        )


def _element(tag: int, content: bytes) -> bytes:
    """One element of DER: tag, length, content."""
    length = len(content)
    if length < 0x80:
        return bytes([tag, length]) + content
    size = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(size)]) + size + content


def _sequence(*elements: bytes) -> bytes:
    return _element(0x30, b"".join(elements))


def _octets(content: bytes) -> bytes:
    return _element(0x04, content)


def _integer(value: int) -> bytes:
    return _element(0x02, value.to_bytes(value.bit_length() // 8 + 1, "big"))
