"""A wheel that is another one under the same version is not built into an image."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path("docker/wheel_hashes.py")
WHEELS = ("some_project-1.0-py3-none-any.whl", "torch-2.0+cpu-cp311-cp311-linux_x86_64.whl")


def _call(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", "-S", str(SCRIPT), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    folder = tmp_path / "wheels"
    folder.mkdir()
    for name in WHEELS:
        (folder / name).write_bytes(name.encode())
    (tmp_path / "list").write_text(_call("write", folder).stdout)
    return folder


def test_what_was_listed_passes(wheels: Path) -> None:
    text = (wheels.parent / "list").read_text()
    assert "some-project==1.0 --hash=sha256:" in text
    assert "torch==2.0+cpu --hash=sha256:" in text
    assert _call("check", wheels, wheels.parent / "list").returncode == 0


@pytest.mark.parametrize("change", ["another file", "not listed", "not there", "no digest"])
def test_what_was_not_is_refused_by_name(wheels: Path, change: str) -> None:
    listed = wheels.parent / "list"
    if change == "another file":
        (wheels / WHEELS[0]).write_bytes(b"another")
    elif change == "not listed":
        (wheels / "more-1.0-py3-none-any.whl").write_bytes(b"more")
    elif change == "not there":
        (wheels / WHEELS[0]).unlink()
    else:
        listed.write_text("some-project==1.0\n")
    done = _call("check", wheels, listed)
    assert done.returncode == 1
    assert ("more" if change == "not listed" else "some-project") in done.stderr


def test_every_pin_of_the_images_wheels_is_in_constraints() -> None:
    pins = {
        line.split(" ")[0].replace("+cpu", "").lower()
        for line in Path("docker/wheels-cpu.txt").read_text().splitlines()
        if not line.startswith("#")
    }
    constraints = {
        line.replace("_", "-").replace(".", "-", 0).lower()
        for line in Path("constraints.txt").read_text().splitlines()
        if not line.startswith("#")
    }
    assert len(pins) > 30
    assert pins - constraints == set()
