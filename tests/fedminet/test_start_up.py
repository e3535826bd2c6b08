"""What a page of help loads, and the processor time that it takes."""

from __future__ import annotations

import os
import resource
import subprocess
import sys

import pytest

from tests.support.repository import ROOT

HEAVY = {"torch", "flwr", "ray", "scipy", "skimage", "SimpleITK", "nibabel", "matplotlib", "grpc"}
"""Each takes longer to load than a command may take that reads a few small files."""

MEDIUM = {"numpy", "h5py", "pydantic", "cryptography", "yaml", "rich", "jinja2", "fastapi", "safetensors"}
"""A tenth of a second or less each: nothing that a page of help needs."""

HELP_S = 0.3
"""Processor time, user and system, that a page of help is to take."""

MARGIN = 2.5
"""Two cores that share one's units, on a machine that does other work, take up to twice as long."""

_THEN_LIST = "import sys; print('\\nloaded:' + ','.join({name.partition('.')[0] for name in sys.modules}))"


def _loaded_by(*arguments: str) -> set[str]:
    """The top-level modules that `fedminet ARGUMENTS` loads."""
    code = (
        f"import atexit, sys; sys.argv = ['fedminet', *{list(arguments)!r}]\n"
        f"atexit.register(lambda: exec({_THEN_LIST!r}))\n"
        "from fedminet.main import run; run()"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr, done.stderr
    return set(done.stdout.rpartition("loaded:")[2].strip().split(","))


def _processor_s(*arguments: str) -> float:
    """The least of three starts, as a child's user and system time: the others were disturbed."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    taken = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(
            [sys.executable, "-m", "fedminet", *arguments],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            check=False,
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        taken.append(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
    return min(taken)


@pytest.mark.parametrize("group", [(), ("server",), ("site",), ("bench",)])
def test_help_loads_nothing_but_the_command_line(group: tuple[str, ...]) -> None:
    loaded = _loaded_by(*group, "--help")
    assert {"typer", "fedminet"} <= loaded
    assert not loaded & (HEAVY | MEDIUM)


def test_the_help_of_a_command_loads_nothing_but_the_command_line() -> None:
    loaded = _loaded_by("site", "ingest", "--help")
    assert not loaded & (HEAVY | MEDIUM - {"rich"})  # typer writes the names of arguments with it


def test_help_starts_quickly() -> None:
    assert _processor_s("--help") < MARGIN * HELP_S
