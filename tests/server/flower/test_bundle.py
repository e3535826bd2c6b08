"""What a run ships to the sites holds no code."""

from __future__ import annotations

import hashlib
import io
import zipfile
from pathlib import Path

import pytest
import tomli
from flwr.cli.build import build_fab_from_disk

from minet_core.errors import ConfigurationError, FileMissing
from server.flower.bundle import BUNDLE_FILE, CONTENT, build_bundle, read_bundle, write_bundle


def _names(content: bytes) -> set[str]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return set(archive.namelist())


def test_the_bundle_holds_its_description_and_nothing_else() -> None:
    assert _names(build_bundle().content) == CONTENT


def test_the_bundle_names_the_installed_apps() -> None:
    with zipfile.ZipFile(io.BytesIO(build_bundle().content)) as archive:
        description = tomli.loads(archive.read("pyproject.toml").decode())
    assert description["tool"]["flwr"]["app"]["components"] == {
        "serverapp": "server.app:app",
        "clientapp": "client.app:app",
    }
    assert description["project"]["dependencies"] == []


def test_the_digest_is_of_the_bytes_and_the_same_each_time() -> None:
    first, second = build_bundle(), build_bundle()
    assert first.digest == hashlib.sha256(first.content).hexdigest() == second.digest


def test_a_written_bundle_is_read_as_it_was(tmp_path: Path) -> None:
    write_bundle(tmp_path, build_bundle())
    assert read_bundle(tmp_path) == build_bundle()


def test_stray_files_beside_the_description_are_not_packed_even_by_flower(tmp_path: Path) -> None:
    """The folder in which the description lies is packed by Flower's own rules; `fab-include` holds."""
    with zipfile.ZipFile(io.BytesIO(build_bundle().content)) as archive:
        (tmp_path / "pyproject.toml").write_bytes(archive.read("pyproject.toml"))
    (tmp_path / "client").mkdir()
    (tmp_path / "client" / "app.py").write_text("raise SystemExit('shadowed')")
    (tmp_path / "patients.json").write_text("{}")
    assert _names(build_fab_from_disk(tmp_path)) == CONTENT


def test_a_bundle_with_code_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / BUNDLE_FILE, "w") as archive:
        for name in (*CONTENT, "client/app.py"):
            archive.writestr(name, "")
    with pytest.raises(ConfigurationError, match=r"client/app\.py"):
        read_bundle(tmp_path)


def test_another_bundle_does_not_replace_the_one_that_sites_expect(tmp_path: Path) -> None:
    write_bundle(tmp_path, build_bundle())
    with pytest.raises(ConfigurationError, match="already here"):
        write_bundle(tmp_path, build_bundle(client_app="other.app:app"))


def test_a_missing_bundle_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileMissing, match=BUNDLE_FILE):
        read_bundle(tmp_path)
