"""The authority's private key on the disk: PKCS#8, encrypted under a passphrase by scrypt and AES-256-CBC.

`cryptography` reads this form and writes another one: PBKDF2 with 2048 rounds, which a graphics card tries a million
passphrases a second against. The form is that of RFC 8018 (PBES2) with the scrypt of RFC 7914; OpenSSL reads it too.
The classes below are its ASN.1, and `cryptography` writes them as DER.
"""

from __future__ import annotations

import base64
import os
import textwrap

from cryptography.hazmat import asn1
from cryptography.hazmat.primitives import padding, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from cryptography.x509 import ObjectIdentifier

from minet_core.errors import InvalidSetting

MIN_PASSPHRASE_LENGTH = 15
"""NIST SP 800-63B-4, 3.1.1.2: a passphrase that is the only factor."""

_COST, _BLOCK, _PARALLEL = 1 << 14, 8, 5
"""OWASP's Password Storage Cheat Sheet; of its equal choices the one within the 32 MB that OpenSSL allows itself."""

_PBES2 = ObjectIdentifier("1.2.840.113549.1.5.13")  # RFC 8018, appendix A.4
_SCRYPT = ObjectIdentifier("1.3.6.1.4.1.11591.4.11")  # RFC 7914, section 7
_AES_256_CBC = ObjectIdentifier("2.16.840.1.101.3.4.1.42")  # RFC 8018, appendix B.2.5


@asn1.sequence
class _ScryptParameters:
    salt: bytes
    cost: int
    block: int
    parallel: int


@asn1.sequence
class _KeyDerivation:
    algorithm: ObjectIdentifier
    parameters: _ScryptParameters


@asn1.sequence
class _Encryption:
    algorithm: ObjectIdentifier
    vector: bytes


@asn1.sequence
class _Pbes2Parameters:
    key_derivation: _KeyDerivation
    encryption: _Encryption


@asn1.sequence
class _Scheme:
    algorithm: ObjectIdentifier
    parameters: _Pbes2Parameters


@asn1.sequence
class _EncryptedPrivateKeyInfo:
    scheme: _Scheme
    encrypted: bytes


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
    derivation = _KeyDerivation(
        algorithm=_SCRYPT,
        parameters=_ScryptParameters(salt=salt, cost=_COST, block=_BLOCK, parallel=_PARALLEL),
    )
    encryption = _Encryption(algorithm=_AES_256_CBC, vector=vector)
    scheme = _Scheme(
        algorithm=_PBES2,
        parameters=_Pbes2Parameters(key_derivation=derivation, encryption=encryption),
    )
    content = asn1.encode_der(_EncryptedPrivateKeyInfo(scheme=scheme, encrypted=encrypted))
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
