"""What a site's start refuses before anything runs; the rest is in tests/e2e."""

from __future__ import annotations

import datetime
import socket
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from client.admission.kit import accept_kit
from client.preflight import server_reachability
from client.preflight.server_reachability import require_server
from client.processes.site_processes import expiry_warning, site_processes
from client.site_home import SiteHome
from minet_core.errors import AdmissionRefused, FileMissing, PolicyRefused, PortInUse, ServerUnreachable
from minet_core.runtime.processes.child_processes import ChildProcesses, free_port
from tests.support.admitted import Coordinator, make_coordinator, make_site
from tests.support.trial_network import site_tls


@pytest.fixture
def coordinator(tmp_path: Path) -> Coordinator:
    return make_coordinator(tmp_path / "server", port=free_port())


def _site(coordinator: Coordinator, path: Path, name: str) -> SiteHome:
    site = make_site(path, name)
    coordinator.admitted(site)
    return site


def test_an_unreachable_server_is_reported_within_the_deadline(
    coordinator: Coordinator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tls = site_tls(coordinator.authority, tmp_path, name="sms")
    pauses = [0.0]
    clock = SimpleNamespace(time=time.time, monotonic=lambda: sum(pauses), sleep=pauses.append)
    monkeypatch.setattr(server_reachability, "time", clock)
    with pytest.raises(ServerUnreachable, match="FM-S502: the server at 127"):
        require_server(coordinator.home.settings().address, tls=tls, deadline_s=0.5)
    assert 0.5 < sum(pauses) < 2


def test_a_server_without_tls_is_not_taken_for_the_federations(
    coordinator: Coordinator, tmp_path: Path
) -> None:
    tls, settings = site_tls(coordinator.authority, tmp_path, name="sms"), coordinator.home.settings()
    with socket.create_server(("127.0.0.1", settings.port)) as listener:
        listener.settimeout(0.1)
        with pytest.raises(ServerUnreachable):
            require_server(settings.address, tls=tls, deadline_s=0.1)


def test_a_port_in_use_is_refused(coordinator: Coordinator, tmp_path: Path) -> None:
    site = _site(coordinator, tmp_path / "sms", "sms")
    with socket.create_server(("127.0.0.1", 0)) as listener, ChildProcesses() as children:
        processes = site_processes(site, children, port=listener.getsockname()[1])
        with pytest.raises(PortInUse, match="FM-S501"):
            processes.start()
        assert list(children) == []


@pytest.mark.parametrize("part", ["start", "start_node", "start_trainer"])
def test_no_part_of_a_site_starts_for_a_bundle_that_is_not_on_its_list(
    coordinator: Coordinator, tmp_path: Path, part: str
) -> None:
    site = _site(coordinator, tmp_path / "sms", "sms")
    settings = yaml.safe_load((site.path / "site.yaml").read_text())

    def list_bundles(*digests: str) -> None:
        (site.path / "site.yaml").write_text(
            yaml.safe_dump({**settings, "policy": {"bundles": list(digests)}})
        )

    with ChildProcesses() as children:
        processes = site_processes(site, children)
        list_bundles("0" * 64)
        with pytest.raises(PolicyRefused, match="FM-F420"):
            getattr(processes, part)()
        assert list(children) == []
        list_bundles("0" * 64, processes.kit.settings.bundle_digest)
        getattr(processes, part)()
        assert list(children) != []


def test_the_kit_of_another_site_is_refused(coordinator: Coordinator, tmp_path: Path) -> None:
    site = _site(coordinator, tmp_path / "sms", "sms")
    other = _site(coordinator, tmp_path / "umr", "umr")
    site.kit.unlink()
    site.kit.symlink_to(other.kit)
    with ChildProcesses() as children, pytest.raises(AdmissionRefused, match="for another site"):
        site_processes(site, children)


def test_a_site_whose_kit_has_expired_does_not_start(coordinator: Coordinator, tmp_path: Path) -> None:
    site = make_site(tmp_path / "sms")
    long_ago = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=91)
    coordinator.admit(site, tmp_path / "kit", now=long_ago)
    accept_kit(site, tmp_path / "kit", fingerprint=coordinator.authority.fingerprint, now=long_ago)
    with ChildProcesses() as children, pytest.raises(AdmissionRefused, match="has expired"):
        site_processes(site, children)
    assert "has expired" in str(expiry_warning(site))


def test_a_site_without_a_kit_is_told_what_to_ask_for(tmp_path: Path) -> None:
    site = make_site(tmp_path / "sms")
    with ChildProcesses() as children, pytest.raises(FileMissing, match="server admit"):
        site_processes(site, children)
