"""What the commands that a person waits for load, and the processor time of their start."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from client.admission.declaration import declare
from client.admission.init_site import init_site
from client.site_home import SiteHome
from tests.faults.tiny_sites import make_tiny_sites
from tests.support.admitted import make_coordinator
from tests.support.repository import ROOT

HEAVY = {"torch", "flwr", "ray", "scipy", "skimage", "SimpleITK", "nibabel", "matplotlib", "grpc"}
"""Each takes longer to load than a command may take that reads a few small files."""

MEDIUM = {"numpy", "h5py", "pydantic", "cryptography", "yaml", "rich", "jinja2", "fastapi", "safetensors"}
"""A tenth of a second or less each: nothing that a page of help needs."""

HELP_S, STATUS_S = 0.3, 0.6
"""Processor time, user and system, that a page of help and the status of a site that does not run are to take."""

MARGIN = 2.5
"""Two cores that share one's units, on a machine that does other work, take up to twice as long."""

_THEN_LIST = "import sys; print('\\nloaded:' + ','.join({name.partition('.')[0] for name in sys.modules}))"


@pytest.fixture(scope="module")
def initialised(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that `fedminet site init` makes."""
    home = tmp_path_factory.mktemp("initialised") / "sms"
    init_site(home, chosen="sms", name=None)
    return home


@pytest.fixture(scope="module")
def admitted(tmp_path_factory: pytest.TempPathFactory) -> SiteHome:
    """A site that has ingested, and was admitted; its client does not run."""
    folder = tmp_path_factory.mktemp("admitted")
    site = make_tiny_sites(folder, names=("sms",))["sms"]
    declare(site)
    make_coordinator(folder / "coordinator").admitted(site)
    return site


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


def _processor_s(*arguments: str, bound: float) -> float:
    """The first of three starts that takes less than the bound, or the least, as a child's user and system time: the
    others were disturbed.
    """
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
        if taken[-1] < bound:
            break
    return min(taken)


@pytest.mark.parametrize("group", [(), ("server",), ("site",), ("bench",)])
def test_help_loads_nothing_but_the_command_line(group: tuple[str, ...]) -> None:
    loaded = _loaded_by(*group, "--help")
    assert {"typer", "fedminet"} <= loaded
    assert not loaded & (HEAVY | MEDIUM)


def test_the_help_of_a_command_loads_nothing_but_the_command_line() -> None:
    loaded = _loaded_by("site", "ingest", "--help")
    assert not loaded & (HEAVY | MEDIUM - {"rich"})  # typer writes the names of arguments with it


@pytest.mark.parametrize(
    "command",
    [("site", "status"), ("site", "status", "--json"), ("site", "request"), ("site", "audit", "show")],
    ids=" ".join,
)
def test_what_tells_of_an_initialised_site_loads_neither_torch_nor_flower(
    initialised: Path, command: tuple[str, ...]
) -> None:
    loaded = _loaded_by(*command, str(initialised))
    assert {"client", "pydantic"} <= loaded  # its settings were read
    assert not loaded & (HEAVY | {"h5py"})


def test_a_site_is_initialised_without_torch_and_flower(tmp_path: Path) -> None:
    assert not _loaded_by("site", "init", str(tmp_path / "umr"), "--definition", "umr") & (HEAVY | {"h5py"})
    assert (tmp_path / "umr" / "request.json").is_file()


def test_the_status_of_an_admitted_site_loads_neither_torch_nor_flower(admitted: SiteHome) -> None:
    """Its policy is held against the kit, its store is looked through: the model was counted at its admission."""
    loaded = _loaded_by("site", "status", str(admitted.path))
    assert {"cryptography", "h5py"} <= loaded  # its kit and its store were checked
    assert not loaded & HEAVY


def test_the_status_of_a_server_loads_no_torch(tmp_path: Path) -> None:
    """It asks the SuperLink, which takes Flower's client."""
    home = make_coordinator(tmp_path / "coordinator").home
    loaded = _loaded_by("server", "status", str(home.path))
    assert {"httpx", "cryptography"} <= loaded
    assert not loaded & (HEAVY - {"flwr", "grpc"})


def test_help_starts_quickly() -> None:
    assert _processor_s("--help", bound=MARGIN * HELP_S) < MARGIN * HELP_S


def test_the_status_of_an_initialised_site_starts_quickly(initialised: Path) -> None:
    bound = MARGIN * STATUS_S
    assert _processor_s("site", "status", str(initialised), bound=bound) < bound


def test_the_status_of_an_admitted_site_starts_quickly(admitted: SiteHome) -> None:
    bound = MARGIN * STATUS_S
    assert _processor_s("site", "status", str(admitted.path), bound=bound) < bound
