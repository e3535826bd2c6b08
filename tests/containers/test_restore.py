"""The back-up of a running coordinator's container, restored into an empty volume from which another one starts."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from server.backup.create import LEFT_OUT, NEVER_LEAVE
from tests.containers.engine import Engine
from tests.containers.federation import COORDINATOR_OFTEN_LOOKED_AT, USER, Federation
from tests.containers.reference_run import SITES
from tests.support.repository import ROOT

pytestmark = [pytest.mark.containers, pytest.mark.timeout(2400)]

PROJECT = "fedminet-restored"
HEALTHY_WITHIN_S = 300.0


@dataclass(frozen=True)
class Coordinator:
    """A coordinator's folder and the commands of docs/containers.md for it."""

    engine: Engine
    folder: Path

    def command(self, *arguments: str) -> list[str]:
        file = ROOT / "docker" / "compose.coordinator.yaml"
        often = ("--file", str(COORDINATOR_OFTEN_LOOKED_AT))
        return ["docker", "compose", "--project-name", PROJECT, "--file", str(file), *often, *arguments]

    def compose(self, *arguments: str) -> str:
        return self.engine.docker(*self.command(*arguments)[1:])


@pytest.fixture
def restored(federation: Federation, tmp_path: Path) -> Iterator[Coordinator]:
    """An empty volume for the container's user, and an engine that knows it."""
    folder = tmp_path / "coordinator"
    folder.mkdir(mode=0o700)
    os.chown(folder, USER, USER)
    environment = {**federation.engine.environment, "FEDMINET_COORDINATOR": str(folder)}
    coordinator = Coordinator(Engine(environment), folder)
    try:
        yield coordinator
    finally:
        coordinator.compose("down", "--remove-orphans", "--timeout", "10")


WRITTEN_MEANWHILE = (*LEFT_OUT, "superlink/state.db", "screen")


def contents(folder: Path) -> dict[str, bytes]:
    """Every file by its path, but for those that a running server writes."""
    files = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in files.items() if not name.startswith(WRITTEN_MEANWHILE)}


def test_a_back_up_by_stream_comes_back_in_an_empty_volume_and_serves(
    federation: Federation, restored: Coordinator, tmp_path: Path
) -> None:
    saved = tmp_path / "backup.tar"
    environment = {**os.environ, **restored.engine.environment}
    back_up = ["docker", "exec", federation.container("coordinator")]
    back_up += ["fedminet", "server", "backup", "/coordinator", "-"]
    with saved.open("wb") as stream:
        done = subprocess.run(
            back_up, env=environment, stdout=stream, stderr=subprocess.PIPE, timeout=120, check=False
        )
    assert done.returncode == 0, done.stderr
    command = restored.command(
        "run", "--rm", "-T", "coordinator", "server", "restore", "-", "/coordinator", "--yes"
    )
    with saved.open("rb") as stream:
        done = subprocess.run(
            command, env=environment, stdin=stream, capture_output=True, timeout=300, check=False
        )
    assert done.returncode == 0, done.stderr
    live, again = contents(federation.made / "coordinator"), contents(restored.folder)
    assert {"server.yaml", "federation.yaml", "pki/ca.key"} <= again.keys()
    assert again == {name: live[name] for name in again}
    assert {name for name in live.keys() - again.keys() if not name.endswith("lock")} == NEVER_LEAVE

    restored.compose(
        "up", "--detach", "--no-deps", "--wait", "--wait-timeout", f"{HEALTHY_WITHIN_S:g}", "coordinator"
    )

    def states() -> dict[str, str]:
        command = ("fedminet", "server", "status", "/coordinator", "--json")
        said = json.loads(restored.compose("exec", "-T", "coordinator", *command))
        return dict(said["sites"])

    assert set(states()) == set(SITES)  # registered, by the database that came back
    federation.wait(
        lambda: "online" not in states().values(),
        deadline_s=60,
        what="the other server has no site online, since none reaches it",
    )
    assert federation.sites_online() == set(SITES)  # the control
