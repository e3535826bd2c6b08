"""The authority's key under its passphrase."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from minet_core.errors import InvalidSetting
from server.admission.encrypted_key import decrypt_key, encrypt_key

PASSPHRASE = "four words of a trial"


@pytest.fixture(scope="module")
def key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP384R1())


@pytest.fixture(scope="module")
def sealed(key: ec.EllipticCurvePrivateKey) -> bytes:
    return encrypt_key(key, PASSPHRASE)


def test_what_was_sealed_is_opened_by_the_same_passphrase(
    key: ec.EllipticCurvePrivateKey, sealed: bytes
) -> None:
    assert decrypt_key(sealed, PASSPHRASE).private_numbers() == key.private_numbers()


@pytest.mark.parametrize("passphrase", ["", "four words of a triaL", PASSPHRASE + " "])
def test_another_passphrase_opens_nothing(sealed: bytes, passphrase: str) -> None:
    with pytest.raises(InvalidSetting, match="FM-C102"):
        decrypt_key(sealed, passphrase)


def test_a_passphrase_of_letters_outside_ascii_works(key: ec.EllipticCurvePrivateKey) -> None:
    assert decrypt_key(encrypt_key(key, "fünf Wörter für die Probe"), "fünf Wörter für die Probe")


def test_a_short_passphrase_is_refused(key: ec.EllipticCurvePrivateKey) -> None:
    with pytest.raises(InvalidSetting, match="15 or more"):
        encrypt_key(key, "x" * 14)


def test_a_file_that_was_cut_off_is_refused(sealed: bytes) -> None:
    with pytest.raises(InvalidSetting):
        decrypt_key(sealed[:-120], PASSPHRASE)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="the oracle openssl is not installed")
def test_openssl_reads_it_and_names_scrypt(
    key: ec.EllipticCurvePrivateKey, sealed: bytes, tmp_path: Path
) -> None:
    (tmp_path / "ca.key").write_bytes(sealed)
    command = ["openssl", "pkey", "-in", str(tmp_path / "ca.key"), "-passin", f"pass:{PASSPHRASE}", "-pubout"]
    printed = subprocess.run(command, capture_output=True, check=True).stdout
    assert printed == key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    structure = subprocess.run(
        ["openssl", "asn1parse", "-in", str(tmp_path / "ca.key")], capture_output=True, text=True, check=True
    ).stdout
    assert re.search(r"OBJECT +:scrypt", structure)
    assert re.search(r"OBJECT +:aes-256-cbc", structure)
