"""An admitted site with its scans ingested, and the server that it looks for."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from client.admission.declaration import declare
from client.site_home import SiteHome
from fedminet.single_machine.admission import make_coordinator_here
from minet_core.runtime.processes.child_processes import free_port
from server.server_home import ServerSettings
from tests.faults.tiny_sites import make_tiny_sites, tiny_federation
from tests.support.admitted import Coordinator
from tests.support.trial_network import Server, serving


@pytest.fixture(scope="module")
def coordinator(tmp_path_factory: pytest.TempPathFactory) -> Coordinator:
    home, authority = make_coordinator_here(
        tmp_path_factory.mktemp("made") / "server", tiny_federation(), ServerSettings(port=free_port())
    )
    return Coordinator(home, authority)


@pytest.fixture(scope="module")
def admitted(coordinator: Coordinator, tmp_path_factory: pytest.TempPathFactory) -> SiteHome:
    """A site that has ingested, and was admitted."""
    site = make_tiny_sites(tmp_path_factory.mktemp("made"), names=("sms",))["sms"]
    declare(site)
    coordinator.admitted(site)
    return site


@pytest.fixture
def home(admitted: SiteHome, tmp_path: Path) -> SiteHome:
    """Its folder, a copy of its own for every test."""
    shutil.copytree(admitted.path, tmp_path / "sms", symlinks=True)  # `kit` is a link
    return SiteHome.at(tmp_path / "sms")


@pytest.fixture
def server(coordinator: Coordinator) -> Iterator[Server]:
    with serving(coordinator.authority, port=coordinator.home.settings().port) as running:
        yield running
