"""What a site's start refuses before anything runs; the rest is in tests/e2e."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest

from client.reach import require_server
from client.site_home import SiteHome
from client.site_keys import make_site_keys
from client.supernode import site_processes
from minet_core.federation import FederationSettings
from minet_core.runtime.errors import AdmissionRefused, FileMissing, PortInUse, ServerUnreachable
from minet_core.runtime.processes import ChildProcesses, free_port
from server.enrolment import admit
from server.pki import ca_files
from server.server_home import ServerHome, ServerSettings, init_server


@pytest.fixture
def server(tmp_path: Path) -> ServerHome:
    federation = FederationSettings(name="trial", sites=("sms", "umr"), participation={"quorum": 1})
    return init_server(tmp_path / "server", federation, ServerSettings(port=free_port()))


def _site(server: ServerHome, path: Path, name: str) -> SiteHome:
    site = SiteHome(path)
    keys = make_site_keys(site.keys, name=name)
    admit(server, name, keys.public_key, kit=site.kit)
    return site


def test_an_unreachable_server_is_reported_within_the_deadline(server: ServerHome) -> None:
    started = time.monotonic()
    with pytest.raises(ServerUnreachable, match="FM-S502: the server at 127"):
        require_server(server.settings().address, ca=ca_files(server.pki).certificate, deadline_s=0.5)
    assert time.monotonic() - started < 2


def test_a_server_without_tls_is_not_taken_for_the_federations(server: ServerHome) -> None:
    with socket.create_server(("127.0.0.1", server.settings().port)) as listener:
        listener.settimeout(0.1)
        with pytest.raises(ServerUnreachable):
            require_server(server.settings().address, ca=ca_files(server.pki).certificate, deadline_s=0.1)


def test_a_port_in_use_is_refused(server: ServerHome, tmp_path: Path) -> None:
    site = _site(server, tmp_path / "sms", "sms")
    with socket.create_server(("127.0.0.1", 0)) as listener, ChildProcesses() as children:
        processes = site_processes(site, children, port=listener.getsockname()[1])
        with pytest.raises(PortInUse, match="FM-S501"):
            processes.start()
        assert list(children) == []


def test_the_kit_of_another_site_is_refused(server: ServerHome, tmp_path: Path) -> None:
    site = _site(server, tmp_path / "sms", "sms")
    other = _site(server, tmp_path / "umr", "umr")
    with ChildProcesses() as children, pytest.raises(AdmissionRefused, match="made for another key"):
        site_processes(SiteHome(_mixed(tmp_path / "mixed", keys=site, kit=other)), children)


def test_a_site_without_a_kit_is_told_what_to_ask_for(tmp_path: Path) -> None:
    make_site_keys(tmp_path / "keys", name="sms")
    with ChildProcesses() as children, pytest.raises(FileMissing, match="server admit"):
        site_processes(SiteHome(tmp_path), children)


def _mixed(path: Path, *, keys: SiteHome, kit: SiteHome) -> Path:
    path.mkdir()
    (path / "keys").symlink_to(keys.keys)
    (path / "kit").symlink_to(kit.kit)
    return path
