"""What the proxy gets of the coordinator's folder: what it needs, nothing else, and always whole."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from server.processes.proxy_files import PROXY_FILES, update_proxy_files
from server.server_home import ServerHome


@pytest.fixture
def home(tmp_path: Path) -> ServerHome:
    pki = tmp_path / "pki"
    pki.mkdir()
    for name in (*PROXY_FILES, "ca.key", "issued.jsonl", "revoked.jsonl"):
        (pki / name).write_text(f"{name}, first\n")
    return ServerHome(tmp_path)


def test_the_proxy_gets_what_it_needs_and_not_the_authoritys_key(home: ServerHome) -> None:
    assert update_proxy_files(home) == PROXY_FILES
    assert {path.name for path in home.proxy.iterdir()} == set(PROXY_FILES)
    for name in PROXY_FILES:
        assert (home.proxy / name).read_bytes() == (home.pki / name).read_bytes()
        assert stat.S_IMODE((home.proxy / name).stat().st_mode) == 0o600


def test_what_has_changed_is_replaced_and_the_rest_is_left(home: ServerHome) -> None:
    update_proxy_files(home)
    assert update_proxy_files(home) == ()
    (home.pki / "crl.pem").write_text("another\n")
    assert update_proxy_files(home) == ("crl.pem",)
    assert (home.proxy / "crl.pem").read_text() == "another\n"


def test_a_file_that_is_not_there_yet_is_waited_for(home: ServerHome) -> None:
    (home.pki / "nodes.map").unlink()
    assert "nodes.map" not in update_proxy_files(home)
    (home.pki / "nodes.map").write_text("")
    assert update_proxy_files(home) == ("nodes.map",)
