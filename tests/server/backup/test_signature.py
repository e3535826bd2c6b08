"""A back-up that somebody else has made or changed is not restored, and what one changes is said before."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from fedminet.main import run
from minet_core.errors import BackupDamaged, ConfigurationError
from server.admission.pki import backup_files, server_files
from server.backup.create import CONTENTS_FILE, back_up
from server.backup.restore import restore
from server.backup.signature import SIGNATURE_FILE, ensure_backup_key
from server.server_home import ServerHome
from tests.support.admitted import PASSPHRASE, Coordinator, make_coordinator, make_site

OPENED = b"hosts: [localhost]\nbind: 0.0.0.0\nport: 9443\naccept_shared_machine: true\n"

Forged = Callable[..., Path]


@pytest.fixture(scope="module")
def coordinator(tmp_path_factory: pytest.TempPathFactory) -> Coordinator:
    folder = tmp_path_factory.mktemp("coordinator")
    made = make_coordinator(folder / "server", sites=("sms",))
    made.admitted(make_site(folder / "sms"))
    back_up(made.home, folder / "backup.tar")
    return made


@pytest.fixture
def forged(coordinator: Coordinator, tmp_path: Path) -> Forged:
    """A back-up whose files were changed and whose list was made to fit them, by who can write to its disk."""

    def forge(
        changes: dict[str, bytes], sign: Callable[[bytes], bytes] | None = None, *, unsigned: bool = False
    ) -> Path:
        with tarfile.open(coordinator.home.path.parent / "backup.tar") as tar:
            members = [(member, _content(tar, member)) for member in tar]
        files = {member.name: changes.get(member.name, content) for member, content in members}
        listed = json.loads(files[CONTENTS_FILE])
        for name in changes:
            digest = hashlib.sha256(files[name]).hexdigest()
            listed["files"][name] = {"sha256": digest, "n_bytes": len(files[name])}
        files[CONTENTS_FILE] = json.dumps(listed).encode()
        if sign is not None:
            files[SIGNATURE_FILE] = sign(files[CONTENTS_FILE])
        path = tmp_path / "forged.tar"
        with tarfile.open(path, "w") as tar:
            for member, _ in members:
                if member.name == SIGNATURE_FILE and unsigned:
                    continue
                member.size = len(files[member.name])
                tar.addfile(member, io.BytesIO(files[member.name]))
        return path

    return forge


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    stream = tar.extractfile(member)
    return b"" if stream is None else stream.read()


def _by(path: Path) -> Callable[[bytes], bytes]:
    key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return lambda content: key.sign(content, ec.ECDSA(hashes.SHA384()))


def test_its_own_is_restored(coordinator: Coordinator, forged: Forged, tmp_path: Path) -> None:
    again, _ = restore(coordinator.home.path.parent / "backup.tar", tmp_path / "again")
    assert not backup_files(again.pki).private_key.exists()
    restore(forged({}, _by(backup_files(coordinator.home.pki).private_key)), tmp_path / "by the key itself")


def test_one_that_was_changed_is_refused_whoever_signs_it(
    coordinator: Coordinator, forged: Forged, tmp_path: Path
) -> None:
    """With the keys that are in a back-up, and with a hospital's, whose certificate is the authority's too."""
    home, site = coordinator.home, coordinator.home.path.parent / "sms"
    changed = {"server.yaml": OPENED}
    server = server_files(home.pki)
    own = ec.generate_private_key(ec.SECP384R1())
    attempts = {
        "the former signature": forged(changed),
        "nobody": forged(changed, lambda _: b""),
    }
    for path in attempts.values():
        with pytest.raises(BackupDamaged, match="has not signed"):
            restore(path, tmp_path / "again")
    for certificate, sign in (
        (server.certificate.read_bytes(), _by(server.private_key)),
        ((site / "kit" / "site.pem").read_bytes(), _by(site / "keys" / "tls.key")),
        ((home.pki / "ca.pem").read_bytes(), lambda content: own.sign(content, ec.ECDSA(hashes.SHA384()))),
        (b"no certificate", lambda content: own.sign(content, ec.ECDSA(hashes.SHA384()))),
    ):
        path = forged({**changed, "pki/back-up.pem": certificate}, sign)
        with pytest.raises(BackupDamaged, match="has not signed"):
            restore(path, tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_one_without_a_signature_is_taken_only_where_that_is_said(forged: Forged, tmp_path: Path) -> None:
    path = forged({}, unsigned=True)
    with pytest.raises(BackupDamaged, match="not signed"):
        restore(path, tmp_path / "again")
    restore(path, tmp_path / "again", accept_unsigned=True)
    with pytest.raises(BackupDamaged, match="has not signed"):  # one that is signed is held to it
        restore(forged({"server.yaml": OPENED}), tmp_path / "another", accept_unsigned=True)


def test_a_restored_folder_signs_again_once_the_authority_was_opened(
    coordinator: Coordinator, tmp_path: Path
) -> None:
    again, _ = restore(coordinator.home.path.parent / "backup.tar", tmp_path / "again")
    with pytest.raises(ConfigurationError, match="passphrase"):
        back_up(again, tmp_path / "second.tar")
    authority = coordinator.authority
    ensure_backup_key(type(authority)(again.pki, authority.certificate, authority.key))
    back_up(again, tmp_path / "second.tar")
    restore(tmp_path / "second.tar", tmp_path / "third")


@pytest.fixture
def fedminet(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    def call(*arguments: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["fedminet", *map(str, arguments)])
        with pytest.raises(SystemExit) as ending:
            run()
        return int(ending.value.code or 0), capsys.readouterr().err

    return call


def test_what_a_back_up_opens_is_shown_and_asked_for_before_it_is_restored(
    coordinator: Coordinator, forged: Forged, fedminet: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    opened = forged({"server.yaml": OPENED}, _by(backup_files(coordinator.home.pki).private_key))
    status, said = fedminet("server", "restore", opened, tmp_path / "again")
    assert status != 0
    assert "bind: 0.0.0.0 (as shipped: 127.0.0.1)" in said
    assert "accept_shared_machine: True (as shipped: False)" in said
    assert "the server's private key" in said
    assert coordinator.authority.fingerprint in said
    assert not (tmp_path / "again").exists()
    assert fedminet("server", "restore", opened, tmp_path / "again", "--yes")[0] == 0
    plain = coordinator.home.path.parent / "backup.tar"
    assert fedminet("server", "restore", plain, tmp_path / "plain")[0] == 0  # nothing to be asked for


def test_what_a_back_up_changes_of_the_present_folder_is_shown(
    coordinator: Coordinator, fedminet: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    present = tmp_path / "present"
    shutil.copytree(coordinator.home.path, present)
    ServerHome.at(present)
    file, compared = coordinator.home.path.parent / "backup.tar", ("--compare", present)
    assert fedminet("server", "restore", file, tmp_path / "same", *compared)[0] == 0
    (present / "server.yaml").write_text(
        (present / "server.yaml").read_text().replace("port: 9443", "port: 9555")
    )
    (present / "pki" / "server.key").write_bytes(b"another")
    status, said = fedminet("server", "restore", file, tmp_path / "other", *compared)
    assert status != 0
    assert "port: 9443 (now: 9555)" in said
    assert "another one of the server's private key" in said
    assert not (tmp_path / "other").exists()


def test_a_back_up_of_another_authority_is_refused(
    coordinator: Coordinator, fedminet: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    file = coordinator.home.path.parent / "backup.tar"
    right = coordinator.authority.fingerprint
    wrong = right.replace(right[0], str((int(right[0]) + 1) % 10))
    status, said = fedminet("server", "restore", file, tmp_path / "again", "--authority", wrong)
    assert (status, "FM-F404" in said) == (5, True)
    assert fedminet("server", "restore", file, tmp_path / "again", "--authority", right)[0] == 0


def test_backup_makes_its_key_with_the_passphrase_where_there_is_none(
    coordinator: Coordinator, fedminet: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    home, _ = restore(coordinator.home.path.parent / "backup.tar", tmp_path / "again")
    (tmp_path / "passphrase").write_text(PASSPHRASE)
    asked = (
        "server",
        "backup",
        home.path,
        tmp_path / "new.tar",
        "--passphrase-file",
        tmp_path / "passphrase",
    )
    (tmp_path / "passphrase").chmod(0o644)
    status, said = fedminet(*asked)
    assert (status != 0, "FM-C102" in said, "chmod 600" in said) == (True, True, True)
    (tmp_path / "passphrase").chmod(0o600)
    assert fedminet(*asked)[0] == 0
    restore(tmp_path / "new.tar", tmp_path / "third")
