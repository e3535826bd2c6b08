"""A container engine for the tests: the one that answers, or one of their own, started here and ended with them."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

START_DEADLINE_S = 60.0
ENGINE_ROOT = Path(os.environ.get("FEDMINET_ENGINE_ROOT", "/var/lib/fedminet-engine"))
"""Where an engine of the tests keeps its images; what is built there is found again by the next run."""


class EngineMissing(Exception):
    """Why there is no engine."""


@dataclass(frozen=True)
class Engine:
    """A container engine, spoken to by its command line."""

    environment: Mapping[str, str] = field(default_factory=dict)

    def docker(self, *arguments: str | Path, stdin: str | None = None, timeout_s: float = 300.0) -> str:
        """What the command prints. Raises AssertionError with all that it said where it fails."""
        done = self.tried(*arguments, stdin=stdin, timeout_s=timeout_s)
        assert done.returncode == 0, f"docker {' '.join(map(str, arguments))}:\n{done.stdout}{done.stderr}"
        return done.stdout.strip()

    def tried(
        self, *arguments: str | Path, stdin: str | None = None, timeout_s: float = 300.0
    ) -> subprocess.CompletedProcess[str]:
        """The command, however it ended."""
        return subprocess.run(
            ["docker", *map(str, arguments)],
            env={**os.environ, **self.environment},
            input=stdin,
            text=True,
            capture_output=True,
            timeout=timeout_s,
            check=False,
        )


@contextmanager
def engine_here() -> Iterator[Engine]:
    """The engine that answers, else one of our own. Raises EngineMissing."""
    if shutil.which("docker") is None:
        raise EngineMissing("no docker command is installed: docker/install-engine.sh")
    engine = Engine()
    if engine.tried("info").returncode == 0:
        _require_compose(engine)
        yield engine
        return
    if shutil.which("dockerd") is None:
        raise EngineMissing("no container engine answers, and none is installed: docker/install-engine.sh")
    if os.geteuid() != 0:
        raise EngineMissing("no container engine answers, and only root can start one")
    with _own_engine() as engine:
        _require_compose(engine)
        yield engine


def _require_compose(engine: Engine) -> None:
    if engine.tried("compose", "version").returncode != 0:
        raise EngineMissing(
            "docker compose (version 2.24 or later) is not installed: docker/install-engine.sh"
        )


@contextmanager
def _own_engine() -> Iterator[Engine]:
    ENGINE_ROOT.mkdir(parents=True, exist_ok=True)
    run = ENGINE_ROOT / "run"
    run.mkdir(exist_ok=True)
    for left in run.glob("*.pid"):  # of an engine that was killed
        left.unlink()
    socket = run / "docker.sock"
    with (ENGINE_ROOT / "engine.log").open("ab") as log:
        process = subprocess.Popen(
            [
                "dockerd",
                *("--data-root", str(ENGINE_ROOT / "data"), "--exec-root", str(run / "exec")),
                *("--host", f"unix://{socket}", "--pidfile", str(run / "engine.pid"), "--log-level", "warn"),
            ],
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    engine = Engine({"DOCKER_HOST": f"unix://{socket}"})
    try:
        ends = time.monotonic() + START_DEADLINE_S
        while engine.tried("info").returncode != 0:
            if process.poll() is not None or time.monotonic() > ends:
                raise EngineMissing(f"the container engine does not start: see {ENGINE_ROOT / 'engine.log'}")
            time.sleep(0.2)
        yield engine
    finally:
        process.terminate()
        try:
            process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
