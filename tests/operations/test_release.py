"""A release as a hospital verifies it, by the commands of docs/operations/verify-a-release.md, and what they refuse."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from tests.operations.pages import RELEASE as PAGE
from tests.operations.pages import blocks

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {
    **os.environ,
    **{f"GIT_{who}_{what}": "test" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
    **{f"GIT_{who}_DATE": "2026-01-02T03:04:05Z" for who in ("AUTHOR", "COMMITTER")},
    "PYTHON": sys.executable,
}


def _key(path: Path) -> Path:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
    return path


def _source(folder: Path) -> Path:
    """What git knows of this tree, as the only commit of a repository of its own."""
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, text=True, stdout=subprocess.PIPE)
    for name in filter(None, names.stdout.split("\0")):
        if (ROOT / name).is_file() and not name.startswith(("tests/", "docs/", "findings/")):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    for command in (["init", "-q"], ["add", "--all"], ["commit", "-q", "-m", "one"]):
        subprocess.run(["git", *command], cwd=folder, env=ENVIRONMENT, check=True)
    return folder


def _make(source: Path, folder: Path, key: Path, *, umask: int = 0o022) -> subprocess.CompletedProcess[str]:
    command = [source / "docker" / "release.sh", folder, key]
    return subprocess.run(command, env=ENVIRONMENT, umask=umask, capture_output=True, text=True)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sources, a key, and the release that was made of them."""
    folder = tmp_path_factory.mktemp("release")
    done = _make(_source(folder / "source"), folder / "release", _key(folder / "fedminet-release"))
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def hospital(made: Path, tmp_path: Path) -> Path:
    """What lies at the hospital: the release, and the public key that came by another way."""
    shutil.copytree(made / "release", tmp_path / "release")
    shutil.copy2(made / "fedminet-release.pub", tmp_path)
    return tmp_path


def _verify(hospital: Path) -> str:
    """Give the page's commands, in order; the first that fails, or nothing."""
    for block in blocks(PAGE):
        if block.not_run is None:
            command = ["bash", "-e", "-o", "pipefail", "-c", block.script]
            done = subprocess.run(command, cwd=hospital, capture_output=True, text=True)
            if done.returncode != 0:
                return block.script
    return ""


def test_a_release_as_it_was_made_is_verified(hospital: Path) -> None:
    assert sum(block.not_run is None for block in blocks(PAGE)) == 5
    assert _verify(hospital) == ""


def _changed_wheel(hospital: Path) -> None:
    (wheel,) = (hospital / "release").glob("*.whl")
    with zipfile.ZipFile(wheel, "a") as archive:
        archive.writestr("fedminet/more.py", "")


def _changed_wheel_and_sums(hospital: Path) -> None:
    _changed_wheel(hospital)
    (wheel,) = (hospital / "release").glob("*.whl")
    sums = hospital / "release" / "SHA256SUMS"
    lines = [line for line in sums.read_text().splitlines() if not line.endswith(".whl")]
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    sums.write_text("\n".join([*lines, f"{digest}  {wheel.name}"]) + "\n")


def _signed_by_another(hospital: Path) -> None:
    _changed_wheel_and_sums(hospital)
    (hospital / "release" / "SHA256SUMS.sig").unlink()
    _sign(hospital, _key(hospital / "another"), "fedminet-release")


def _signed_for_something_else(hospital: Path) -> None:
    key = hospital / "own"
    _key(key).with_suffix(".pub").replace(hospital / "fedminet-release.pub")
    (hospital / "release" / "SHA256SUMS.sig").unlink()
    _sign(hospital, key, "fedminet-bundle")


def _one_more_file(hospital: Path) -> None:
    (hospital / "release" / "fedminet-9.9-py3-none-any.whl").write_bytes(b"")


def _not_signed(hospital: Path) -> None:
    (hospital / "release" / "SHA256SUMS.sig").unlink()


def _sign(hospital: Path, key: Path, namespace: str) -> None:
    command = [
        "ssh-keygen",
        "-q",
        "-Y",
        "sign",
        "-n",
        namespace,
        "-f",
        key,
        hospital / "release" / "SHA256SUMS",
    ]
    subprocess.run(command, check=True, capture_output=True)


@pytest.mark.parametrize(
    ("change", "refused_by"),
    [
        (_changed_wheel, "sha256sum"),
        (_changed_wheel_and_sums, "ssh-keygen -Y verify"),
        (_signed_by_another, "ssh-keygen -Y verify"),
        (_signed_for_something_else, "ssh-keygen -Y verify"),
        (_not_signed, "ssh-keygen -Y verify"),
        (_one_more_file, "ls -A"),
    ],
)
def test_what_is_not_as_it_was_signed_is_refused(
    hospital: Path, change: Callable[[Path], None], refused_by: str
) -> None:
    change(hospital)
    assert refused_by in _verify(hospital)


@pytest.mark.parametrize(
    ("written", "instead"),
    [("now + 1 year", "now - 1 day"), ("'releases@fedminet", "'somebody@else")],
    ids=["expired", "foreign"],
)
def test_an_identity_that_is_expired_or_another_is_refused(
    hospital: Path, written: str, instead: str
) -> None:
    trust, verify = [block.script for block in blocks(PAGE) if "allowed_signers" in block.script]
    assert written in trust
    for script, fails in (
        (trust, False),
        (verify, False),
        (trust.replace(written, instead), False),
        (verify, True),
    ):
        done = subprocess.run(["bash", "-e", "-c", script], cwd=hospital, capture_output=True, text=True)
        assert (done.returncode != 0) == fails, done.stderr


def test_two_builds_of_a_commit_are_the_same_bytes(made: Path, tmp_path: Path) -> None:
    source = _source(tmp_path / "elsewhere" / "source")
    done = _make(source, tmp_path / "release", _key(tmp_path / "another-key"), umask=0o077)
    assert done.returncode == 0, done.stderr
    first, second = ((folder / "release" / "SHA256SUMS").read_text() for folder in (made, tmp_path))
    assert first == second
    assert ".whl" in first


def test_what_is_not_committed_is_in_no_release(made: Path, tmp_path: Path) -> None:
    stray = made / "source" / "stray.py"
    stray.write_text("")
    try:
        done = _make(made / "source", tmp_path / "release", made / "fedminet-release")
    finally:
        stray.unlink()
    assert done.returncode == 2
    assert "not committed" in done.stderr
    assert not (tmp_path / "release").exists()


def test_the_bill_of_materials_is_valid_and_names_every_pin(made: Path) -> None:
    text = (made / "release" / "sbom.cdx.json").read_text(encoding="utf-8")
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    content = json.loads(text)
    pinned = [
        line.split(" ")[0]
        for name in ("run.txt", "torch.txt", "torch-cpu.txt", "cuda.txt")
        for line in (made / "release" / name).read_text().splitlines()
        if "==" in line
    ]
    assert [f"{part['name']}=={part['version']}" for part in content["components"]] == pinned
    assert all(part["hashes"] for part in content["components"])
    (wheel,) = (made / "release").glob("*.whl")
    (own,) = content["metadata"]["component"]["hashes"]
    assert own["content"] == hashlib.sha256(wheel.read_bytes()).hexdigest()
