"""The key pair a site is known by."""

from __future__ import annotations

import shutil
import stat
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from client.admission.keys import make_site_keys, read_site_keys
from client.admission.request import make_request
from minet_core.admission.fingerprints import key_fingerprint
from minet_core.errors import AdmissionRefused, ConfigurationError, FileMissing, InvalidSetting
from tests.support.admitted import make_site


def test_the_key_is_p384_in_openssh_form(tmp_path: Path) -> None:
    keys = make_site_keys(tmp_path, name="sms")
    private = serialization.load_ssh_private_key(keys.private_key.read_bytes(), password=None)
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    assert private.curve.name == "secp384r1"
    assert keys.public_key.read_text().startswith("ecdsa-sha2-nistp384 ")


def test_the_private_key_is_readable_by_its_owner_alone(tmp_path: Path) -> None:
    keys = make_site_keys(tmp_path / "keys", name="sms")
    for path in (keys.private_key, keys.tls_key):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "keys").stat().st_mode) == 0o700


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    keys = make_site_keys(tmp_path, name="sms")
    before = keys.private_key.read_bytes()
    with pytest.raises(ConfigurationError, match="has a key already"):
        make_site_keys(tmp_path, name="sms")
    assert keys.private_key.read_bytes() == before


def test_the_keys_are_read_as_they_were_made(tmp_path: Path) -> None:
    made = make_site_keys(tmp_path, name="sms")
    assert read_site_keys(tmp_path) == made


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="the oracle ssh-keygen is not installed")
def test_the_fingerprint_is_that_of_ssh_keygen(tmp_path: Path) -> None:
    keys = make_site_keys(tmp_path, name="sms")
    printed = subprocess.run(
        ["ssh-keygen", "-l", "-f", str(keys.public_key)], capture_output=True, text=True, check=True
    ).stdout
    assert printed.split()[1] == keys.fingerprint


def test_missing_keys_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileMissing, match="site init"):
        read_site_keys(tmp_path)


def test_a_site_of_an_earlier_version_gets_its_tls_key_with_its_request(tmp_path: Path) -> None:
    home = make_site(tmp_path / "sms")
    before = read_site_keys(home.keys)
    (home.keys / "tls.key").unlink()
    with pytest.raises(FileMissing, match="site request"):
        read_site_keys(home.keys)
    make_request(home)
    assert read_site_keys(home.keys).fingerprint == before.fingerprint


@pytest.mark.parametrize("name", ["node", "tls.key"])
def test_a_private_key_that_others_can_read_is_refused(tmp_path: Path, name: str) -> None:
    make_site_keys(tmp_path, name="sms")
    (tmp_path / name).chmod(0o640)
    with pytest.raises(InvalidSetting, match="read by others"):
        read_site_keys(tmp_path)


def test_a_public_key_of_another_pair_is_refused(tmp_path: Path) -> None:
    keys = make_site_keys(tmp_path / "one", name="sms")
    other = make_site_keys(tmp_path / "two", name="sms")
    keys.public_key.write_bytes(other.public_key.read_bytes())
    with pytest.raises(AdmissionRefused, match="not its private key's"):
        read_site_keys(tmp_path / "one")


@pytest.mark.parametrize(
    "content", ["", "ssh-ed25519 AAAA x", "ecdsa-sha2-nistp384 ???", "ecdsa-sha2-nistp384"]
)
def test_a_file_that_is_no_p384_key_has_no_fingerprint(tmp_path: Path, content: str) -> None:
    (tmp_path / "key.pub").write_text(content)
    with pytest.raises(AdmissionRefused, match="FM-F404"):
        key_fingerprint(tmp_path / "key.pub")
