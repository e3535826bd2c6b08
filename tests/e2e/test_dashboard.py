"""The coordinator's screen beside a started server: what the SuperLink sees, a run resumed, and the command itself."""

from __future__ import annotations

import io
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from fedminet.main import run
from minet_core.runtime.processes.child_processes import ChildProcesses, free_port
from server.dashboard.control_routes import Access
from server.dashboard.password import Password, set_password
from server.flower.bundle import build_bundle, write_bundle
from server.processes.server_processes import ServerProcesses
from tests.support.repository import ROOT
from tests.support.screen import created, made_home, served, wait_until

pytestmark = pytest.mark.e2e

PASSWORD = "a horse, a battery and a staple"
SLOW_S = 240.0
"""What a process may take to start on a machine that does much else."""

ENDS_WITHIN_S = 30.0
"""A stream looks every half second whether it should end; what else the machine does takes the rest."""


def test_a_run_is_resumed_at_the_screen_and_sites_are_seen_as_the_superlink_sees_them(tmp_path: Path) -> None:
    home = made_home(tmp_path)
    set_password(home, PASSWORD)
    write_bundle(home.superlink, build_bundle())
    key = ec.generate_private_key(ec.SECP384R1()).public_key()
    line = key.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    (home.sites / "sms.pub").write_bytes(line + b"\n")
    run = created(home, "waits")
    with ChildProcesses() as children:
        ServerProcesses(home, children).start()
        with served(home, access=Access(Password.of(home))) as client:
            wait_until(lambda: "never: registered, has not connected" in client.get("/runs/waits").text)
            text = client.get("/runs/waits").text
            assert text.count("the SuperLink knows no such site") == 2
            assert "fedminet_superlink_answers 1.0" in client.get("/metrics").text
            assert client.post("/runs/waits/resume", data={"csrf": ""}).status_code == 401
            assert run.events_recorded() == []
            assert client.post("/login", data={"password": PASSWORD}).status_code == 303
            form = client.get("/runs/waits/control").text
            found = re.search(r'name="csrf" value="([^"]+)"', form)
            assert found is not None
            answer = client.post("/runs/waits/resume", data={"csrf": found.group(1)})
            assert answer.status_code == 200, answer.text
            assert [event["event"] for event in run.events_recorded()][:1] == ["run-submitted"]
            wait_until(lambda: run.state.status == "running", deadline_s=SLOW_S)
            wait_until(lambda: "waits for its sites to be online" in client.get("/runs/waits").text)


def test_the_command_serves_until_a_signal_and_ends_open_pages_at_once(tmp_path: Path) -> None:
    home = made_home(tmp_path)
    created(home, "waits")
    port = free_port()
    command = [sys.executable, "-m", "fedminet", "server", "dashboard", str(home.path), "--port", str(port)]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            url = f"http://127.0.0.1:{port}"
            wait_until(lambda: _answers(url), deadline_s=SLOW_S)
            with httpx.stream("GET", f"{url}/runs/waits/stream", trust_env=False, timeout=SLOW_S) as answer:
                lines = answer.iter_lines()
                assert next(lines).startswith("retry: ")
                began = time.monotonic()
                process.send_signal(signal.SIGTERM)
                for _ in lines:
                    pass
                ended = time.monotonic()
            said, complained = process.communicate(timeout=SLOW_S)
        finally:
            process.kill()
    assert ended - began < ENDS_WITHIN_S
    assert f"The screen is at {url}/, read-only." in said
    assert complained == ""
    assert process.returncode == -signal.SIGTERM


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (["--bind", "0.0.0.0"], "FM-C102"),
        (["--allow-control"], "FM-C103"),
    ],
)
def test_the_command_refuses_what_would_be_unsafe(
    tmp_path: Path,
    options: list[str],
    code: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    home = made_home(tmp_path)
    status, _, err = _called(monkeypatch, capsys, "dashboard", home.path, *options)
    assert status == 2
    assert f" {code}: " in err


def test_the_password_is_set_from_a_pipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home = made_home(tmp_path)
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{PASSWORD}\n"))
    status, out, err = _called(monkeypatch, capsys, "dashboard-password", home.path, "--stdin")
    assert status == 0, err
    assert Password.of(home).matches(PASSWORD)
    assert PASSWORD not in out + err


def _called(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: object
) -> tuple[int, str, str]:
    """`fedminet server ...` in this process: its exit status and what it printed."""
    monkeypatch.setattr(sys, "argv", ["fedminet", "server", *map(str, arguments)])
    with pytest.raises(SystemExit) as ending:
        run()
    printed = capsys.readouterr()
    return int(ending.value.code or 0), printed.out, printed.err


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", trust_env=False).text == "ok\n"
    except httpx.TransportError:
        return False
