"""What the server's start refuses before anything runs; the rest is in tests/e2e."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
from typer.testing import CliRunner

from minet_core.errors import DiskFull, PortInUse, ProcessDied, ServerUnreachable
from minet_core.runtime.processes.child_processes import ChildProcesses, free_port
from server.admission.pki import ca_files, server_files
from server.commands import server_commands
from server.flower.superlink_control import SuperLinkControl
from server.processes.server_processes import ServerProcesses
from server.processes.warn_once import WarnOnce
from server.server_home import ServerHome, local_address
from tests.support.admitted import make_coordinator


def _home(tmp_path: Path, **settings: object) -> ServerHome:
    return make_coordinator(tmp_path / "server", sites=("sms",), **settings).home


def test_a_port_in_use_is_refused_before_anything_starts(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        home = _home(tmp_path, port=listener.getsockname()[1])
        with ChildProcesses() as children, pytest.raises(PortInUse, match="FM-S501"):
            ServerProcesses(home, children).start()
    assert not (home.logs / "superlink.log").exists()


def test_a_superlink_that_cannot_start_is_named_with_its_log(tmp_path: Path) -> None:
    home = _home(tmp_path, port=free_port())
    server_files(home.pki).certificate.write_text("no certificate")
    with ChildProcesses() as children, pytest.raises(ProcessDied, match="superlink ended"):
        ServerProcesses(home, children).start()


def test_a_server_that_does_not_run_is_unreachable(tmp_path: Path) -> None:
    home = _home(tmp_path, port=free_port())
    control = SuperLinkControl(local_address(home), ca=ca_files(home.pki).certificate)
    assert not control.answers()
    with pytest.raises(ServerUnreachable, match="FM-S502"):
        control.nodes()


def test_a_machines_web_proxy_is_not_asked_for_its_own_superlink(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The proxy is one that httpx has no way to: whoever looked at it would end."""
    home = _home(tmp_path, port=free_port())
    monkeypatch.setenv("HTTPS_PROXY", "nonsense://127.0.0.1:1")
    with pytest.raises(ValueError, match="nonsense"):
        SuperLinkControl(local_address(home), ca=ca_files(home.pki).certificate).answers()
    asked = CliRunner().invoke(server_commands, ["status", str(home.path), "--json"])
    assert (asked.exit_code, json.loads(asked.stdout)["healthy"]) == (
        1,
        False,
    )  # no server runs: asked, not ended


@pytest.mark.parametrize(
    ("bind", "hosts", "expected"),
    [
        ("127.0.0.1", ("127.0.0.1", "localhost"), "127.0.0.1"),
        ("127.0.0.1", ("coordinator.example.org", "localhost"), "localhost"),
        ("0.0.0.0", ("coordinator.example.org",), "coordinator.example.org"),
    ],
)
def test_the_local_address_is_one_that_the_certificate_holds(
    tmp_path: Path, bind: str, hosts: tuple[str, ...], expected: str
) -> None:
    assert local_address(_home(tmp_path, bind=bind, hosts=hosts, port=9443)) == f"{expected}:9443"


def test_a_failure_that_does_not_end_the_server_is_said_when_it_begins(
    caplog: pytest.LogCaptureFixture,
) -> None:
    failures = WarnOnce()

    def look(part: str, failure: Exception | None) -> None:
        with failures.of(part):
            if failure is not None:
                raise failure

    full, denied = DiskFull("no room", got="ENOSPC"), PermissionError(13, "Permission denied", "state.lock")
    for failure in (full, full, denied, denied, None, full):
        look("proxy", failure)
        look("runs", failure)
    assert [line.partition(":")[0] for line in caplog.messages] == ["FM-S504", "FM-S510", "FM-S504"]
    with pytest.raises(ValueError, match="a fault"):
        look("proxy", ValueError("a fault of ours"))
