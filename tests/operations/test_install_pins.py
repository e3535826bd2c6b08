"""An environment is installed from the index that pip is set to, by the lists' digests; by pip where uv fails."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.support.repository import ROOT

SCRIPT = ROOT / "docker" / "install_pins.py"
INFO = "tiny-1.0.dist-info"


def _wheel(folder: Path) -> Path:
    path = folder / "tiny-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("tiny.py", "NUMBER = 1\n")
        archive.writestr(f"{INFO}/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
        archive.writestr(f"{INFO}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{INFO}/RECORD", "")
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A list of one pin, the wheel that it names, and an empty environment with uv in it."""
    digest = hashlib.sha256(_wheel(tmp_path).read_bytes()).hexdigest()
    (tmp_path / "list.txt").write_text(f"tiny==1.0 \\\n    --hash=sha256:{digest}\n")
    make = [sys.executable, "-m", "venv", "--without-pip", "--system-site-packages", str(tmp_path / "venv")]
    subprocess.run(make, check=True)
    (tmp_path / "venv" / "bin" / "uv").symlink_to(Path(sys.executable).with_name("uv"))
    return tmp_path


def _install(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [str(folder / "venv" / "bin" / "python"), str(SCRIPT), str(folder / "list.txt")]
    environment = {**os.environ, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(folder)}
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def _installer(folder: Path) -> str | None:
    found = list((folder / "venv" / "lib").glob(f"*/site-packages/{INFO}/INSTALLER"))
    return found[0].read_text().strip() if found else None


def test_uv_installs_from_where_pip_is_set_to(folder: Path) -> None:
    done = _install(folder)
    assert done.returncode == 0, done.stderr
    assert _installer(folder) == "uv"


def test_pip_installs_where_uv_fails(folder: Path) -> None:
    uv = folder / "venv" / "bin" / "uv"
    uv.unlink()
    uv.symlink_to("/bin/false")
    done = _install(folder)
    assert done.returncode == 0, done.stderr
    assert _installer(folder) == "pip"
    assert "pip, which takes a minute more" in done.stderr


def test_another_file_under_the_same_name_is_installed_by_neither(folder: Path) -> None:
    (folder / "list.txt").write_text(f"tiny==1.0 \\\n    --hash=sha256:{'0' * 64}\n")
    assert _install(folder).returncode != 0
    assert _installer(folder) is None


def test_what_is_not_listed_is_not_installed(folder: Path) -> None:
    with zipfile.ZipFile(folder / "tiny-1.0-py3-none-any.whl", "w") as archive:
        archive.writestr("tiny.py", "")
        metadata = "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\nRequires-Dist: unlisted\n"
        archive.writestr(f"{INFO}/METADATA", metadata)
        archive.writestr(f"{INFO}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{INFO}/RECORD", "")
    digest = hashlib.sha256((folder / "tiny-1.0-py3-none-any.whl").read_bytes()).hexdigest()
    (folder / "list.txt").write_text(f"tiny==1.0 --hash=sha256:{digest}\n")
    done = _install(folder)
    assert done.returncode == 0, done.stderr
    assert _installer(folder) == "uv"
