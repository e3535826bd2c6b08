"""What keeps the machine's other users from the coordinator: its files, and its SuperLink's interfaces."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sqlite3
import ssl
import stat
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from typer.testing import CliRunner

from minet_core.errors import HostError, InvalidSetting, MachineShared, PortInUse
from minet_core.runtime.files.private_files import require_secret_file, tighten
from minet_core.runtime.processes.child_processes import ChildProcesses, free_port
from minet_core.runtime.processes.task_token import start_with_token, with_token_from
from server.admission.pki import ca_files, server_files
from server.commands import server_commands
from server.flower.control_credential import HEADER, make_credential
from server.flower.interface_guard import MAX_FLEET_BYTES, InterfaceGuard
from server.flower.programs import home_from_environment
from server.flower.superlink_control import SuperLinkControl
from server.processes import walls
from server.processes.server_processes import ServerProcesses
from server.processes.walls import (
    _addresses_of_this_machine,
    forget_deleted,
    hold_files,
    open_secrets,
    require_closed,
)
from server.server_home import ServerHome
from tests.support.admitted import make_coordinator

CREDENTIAL = "a" * 64


@pytest.fixture
def home(tmp_path: Path) -> ServerHome:
    return make_coordinator(tmp_path / "server", sites=("sms",), port=free_port()).home


@pytest.fixture(autouse=True)
def the_usual_umask() -> None:
    os.umask(0o022)


def test_a_new_folder_is_its_owners_alone(home: ServerHome) -> None:
    for path in (home.path, *home.path.rglob("*")):
        if path.name != "server.yaml":  # written by the test
            assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_a_folder_from_before_is_tightened_at_the_start_and_that_is_said(
    home: ServerHome, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    elsewhere = tmp_path / "other-disk"
    elsewhere.mkdir()
    (elsewhere / "checkpoint").write_text("weights")
    home.runs.rmdir()
    home.runs.symlink_to(elsewhere)
    theirs = tmp_path / "theirs"
    theirs.write_text("another's")
    (home.sites / "link").symlink_to(theirs)
    for path in (home.path, home.superlink, elsewhere, elsewhere / "checkpoint", home.pki / "ca.pem"):
        path.chmod(0o755)
    assert open_secrets(home)
    (said,) = hold_files(home)
    assert "were open to others" in said
    for path in (home.path, *home.path.rglob("*"), elsewhere, elsewhere / "checkpoint"):
        if not path.is_symlink():
            assert path.stat().st_mode & 0o077 == 0, path
    assert theirs.stat().st_mode & 0o044  # a link to somebody else's file is not followed
    assert hold_files(home) == []


def test_where_files_have_no_owners_the_server_starts_only_if_told(
    home: ServerHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.superlink.chmod(0o755)
    monkeypatch.setattr(Path, "chmod", lambda self, mode: None)  # as on such a file system
    with ChildProcesses() as children, pytest.raises(MachineShared, match="FM-S516"):
        ServerProcesses(home, children).start()
    answer = CliRunner().invoke(server_commands, ["check", str(home.path)])
    assert isinstance(answer.exception, MachineShared)
    settings = home.path / "server.yaml"
    settings.write_text(settings.read_text().replace("machine: false", "machine: true"))
    assert "accepts it" in hold_files(home)[-1]


def test_a_folder_that_others_can_exchange_is_refused(home: ServerHome) -> None:
    home.path.parent.chmod(0o777)
    with pytest.raises(MachineShared):
        hold_files(home)
    home.path.parent.chmod(0o1777)  # as /tmp is
    assert hold_files(home) == []


def test_check_says_what_it_tried(home: ServerHome) -> None:
    answer = CliRunner().invoke(server_commands, ["check", str(home.path)])
    assert answer.exit_code == 0, answer.output
    assert "its owner's alone" in answer.output
    assert "not tried" in answer.output


def test_a_child_and_its_log_are_private_whatever_the_umask(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "child.log"
    with ChildProcesses() as children:
        child = children.start(
            "child", [sys.executable, "-c", f"open({str(tmp_path / 'made')!r}, 'w')"], log_path=log
        )
        child.process.wait()
    for path in (log.parent, log, tmp_path / "made"):
        assert path.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o602, 0o660])
def test_a_secret_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "secret"
    path.write_text("secret")
    path.chmod(mode)
    with pytest.raises(InvalidSetting, match=f"{mode:04o}"):
        require_secret_file(path, what="the secret")
    for allowed in (0o600, 0o400):
        path.chmod(allowed)
        require_secret_file(path, what="the secret")


def test_tighten_takes_no_right_of_the_owner(tmp_path: Path) -> None:
    (tmp_path / "program").write_text("")
    (tmp_path / "program").chmod(0o755)
    tighten(tmp_path)
    assert stat.S_IMODE((tmp_path / "program").stat().st_mode) == 0o700


def _application(request: Request) -> PlainTextResponse:
    return PlainTextResponse("reached")


async def _reading(request: Request) -> PlainTextResponse:
    return PlainTextResponse(str(len(await request.body())))


@pytest.fixture(scope="module")
def superlink() -> httpx.AsyncClient:
    """The guard around an application that answers everything."""
    routes = [
        Route("/v1/fleet/push-object", _reading, methods=["POST"]),
        Route("/{path:path}", _application, methods=["GET", "POST", "PUT"]),
    ]
    transport = httpx.ASGITransport(InterfaceGuard(Starlette(routes=routes), CREDENTIAL))
    return httpx.AsyncClient(transport=transport, base_url="https://superlink")


def _ask(client: httpx.AsyncClient, method: str, path: str, **options: object) -> httpx.Response:
    import asyncio

    return asyncio.run(client.request(method, path, **options))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/v1/fleet/activate-node"), ("POST", "/v1/fleet/pull-messages"), ("GET", "/health")],
)
def test_what_a_site_needs_is_open(superlink: httpx.AsyncClient, method: str, path: str) -> None:
    assert _ask(superlink, method, path).text == "reached"


CLOSED = (
    *(
        "/v1/control/start-run",
        "/v1/control/list-nodes",
        "/v1/runtime/acquire-task",
        "/v1/runtime/pull-object",
    ),
    *("/docs", "/openapi.json", "/", "/v1", "/v1/fleet", "/v1/fleet/", "/v2/fleet/pull-messages"),
    *("/v1/fleet/register-node", "/v1/fleet/unregister-node", "/v1/fleet/%72egister-node"),
    *(
        "/v1/fleet/../control/start-run",
        "/v1/fleet/%2e%2e/control/start-run",
        "/v1/fleet/..%2fcontrol%2fstart-run",
    ),
    *(
        "//v1/control/start-run",
        "/V1/control/start-run",
        "/v1/fleet/pull-messages%0a",
        "/v1/fleet/pull/messages",
    ),
)


@pytest.mark.parametrize("path", CLOSED)
@pytest.mark.parametrize("method", ["GET", "POST", "PUT"])
def test_all_else_is_closed_but_for_the_credential(
    superlink: httpx.AsyncClient, method: str, path: str
) -> None:
    for headers in ([], [(HEADER, "")], [(HEADER, "0" * 64)], [(HEADER, CREDENTIAL), (HEADER, CREDENTIAL)]):
        assert _ask(superlink, method, path, headers=headers).status_code == 403
    assert _ask(superlink, method, path, headers=[(HEADER, CREDENTIAL)]).status_code != 403


@pytest.mark.parametrize(
    ("client", "server", "answered"),
    [
        (("127.0.0.1", 4), ("127.0.0.1", 9443), True),
        (("::1", 4), ("::1", 9443), True),
        (("10.0.0.5", 4), ("10.0.0.5", 9443), True),  # bound to one address: this machine's own
        (("10.0.0.6", 4), ("10.0.0.5", 9443), False),  # the proxy's container
        (("10.0.0.6", 4), ("127.0.0.1", 9443), False),
        (("unix", 0), ("127.0.0.1", 9443), False),
        (None, ("127.0.0.1", 9443), False),
    ],
)
def test_the_credential_counts_on_this_machine_alone(
    client: tuple[str, int] | None, server: tuple[str, int], answered: bool
) -> None:
    """Who took the credential and comes over a network is answered what a site is, and no more."""
    import asyncio

    said: list[int] = []

    async def application(scope: object, receive: object, send: object) -> None:
        said.append(200)

    async def send(message: dict[str, int]) -> None:
        said.append(message.get("status", 0))

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": b"", "more_body": False}

    def status(path: str) -> int:
        said.clear()
        scope = {"type": "http", "method": "POST", "path": path, "client": client, "server": server}
        scope["headers"] = [(HEADER.encode(), CREDENTIAL.encode())]
        asyncio.run(InterfaceGuard(application, CREDENTIAL)(scope, receive, send))  # type: ignore[arg-type]
        return said[0]

    assert status("/v1/control/start-run") == (200 if answered else 403)
    assert status("/v1/fleet/pull-messages") == 200  # the control


def test_a_server_that_takes_the_credential_from_elsewhere_does_not_pass(home: ServerHome) -> None:
    """As one of a release before this wall: it asks for the credential, and not where its bearer is."""
    if next(_addresses_of_this_machine(), None) is None:
        pytest.skip("this machine has no address besides loopback")

    class Former(BaseHTTPRequestHandler):
        here_alone = False

        def do_POST(self) -> None:
            here = self.client_address[0] == "127.0.0.1" or not self.here_alone
            self.send_response(200 if here and self.headers[HEADER] == CREDENTIAL else 403)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    home.control_credential.write_text(CREDENTIAL)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    files = server_files(home.pki)
    context.load_cert_chain(files.certificate, files.private_key)
    with ThreadingHTTPServer(("127.0.0.1", 0), Former) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}).start()
        control = SuperLinkControl(f"127.0.0.1:{server.server_address[1]}", ca_files(home.pki).certificate)
        try:
            with pytest.raises(MachineShared, match="another address that shows the credential"):
                require_closed(home, control)
            Former.here_alone = True
            assert require_closed(home, control)
        finally:
            server.shutdown()


def test_a_body_is_bounded_whatever_it_declares(superlink: httpx.AsyncClient) -> None:
    async def parts(n_bytes: int):  # type: ignore[no-untyped-def]
        for _ in range(n_bytes // 2**20):
            yield b"a" * 2**20

    path = "/v1/fleet/push-object"
    assert _ask(superlink, "POST", path, content=b"a" * MAX_FLEET_BYTES).text == str(MAX_FLEET_BYTES)
    assert _ask(superlink, "POST", path, content=b"a" * (MAX_FLEET_BYTES + 1)).status_code == 413
    assert _ask(superlink, "POST", path, content=parts(MAX_FLEET_BYTES)).text == str(MAX_FLEET_BYTES)
    assert _ask(superlink, "POST", path, content=parts(MAX_FLEET_BYTES + 2**20)).status_code == 413


def test_a_credential_is_new_at_each_start_and_private(home: ServerHome) -> None:
    made = []
    for _ in range(2):
        make_credential(home.control_credential)
        made.append(home.control_credential.read_bytes())
        assert stat.S_IMODE(home.control_credential.stat().st_mode) == 0o600
    assert len(set(made)) == 2


def test_a_token_is_handed_over_by_the_input(tmp_path: Path) -> None:
    program = (
        "import json, pathlib, sys; from minet_core.runtime.processes.task_token import with_token_from\n"
        "shown = pathlib.Path('/proc/self/cmdline').read_text()\n"
        f"pathlib.Path({str(tmp_path / 'out')!r}).write_text("
        "json.dumps([shown, *with_token_from(sys.argv[1:], sys.stdin)]))"
    )
    token = hashlib.sha256(b"a task").hexdigest()
    assert start_with_token([sys.executable, "-c", program, "--insecure"], token).wait(timeout=30) == 0
    shown, *taken = json.loads((tmp_path / "out").read_text())
    assert taken == ["--insecure", "--token", token]
    assert token not in shown
    with Path(os.devnull).open(encoding="utf-8") as nothing:
        assert with_token_from(["--token", "t"], nothing) == ["--token", "t"]


def test_what_was_deleted_is_gone_from_the_database_and_its_log(tmp_path: Path) -> None:
    """As Flower opens it, with what this server adds; and of a database from before."""
    from server.flower.programs import _SECURE_PRAGMAS

    pieces = [hashlib.sha256(bytes([number])).digest() for number in range(200)]
    for secure in (True, False):
        database = tmp_path / f"state-{secure}.db"
        with contextlib.closing(sqlite3.connect(database)) as connection:
            for pragma, value in (("journal_mode", "WAL"), *(_SECURE_PRAGMAS if secure else ())):
                connection.execute(f"PRAGMA {pragma} = {value}")
            connection.execute("CREATE TABLE object (content BLOB)")
            connection.execute("INSERT INTO object VALUES (?)", (b"".join(pieces) * 10,))
            connection.commit()
            connection.execute("DELETE FROM object")
            connection.commit()
            forget_deleted(database)
            if secure:  # while others have it open
                assert _found(database, pieces) == 0
        forget_deleted(database, at_rest=True)
        assert _found(database, pieces) == 0


def _found(database: Path, pieces: list[bytes]) -> int:
    kept = b"".join(path.read_bytes() for path in database.parent.glob(f"{database.name}*"))
    return sum(piece in kept for piece in pieces)


def test_a_program_of_flowers_does_not_start_without_the_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FEDMINET_SERVER", raising=False)
    with pytest.raises(HostError, match="FEDMINET_SERVER"):
        home_from_environment()


def test_the_port_is_looked_at_before_anything_is_changed(home: ServerHome) -> None:
    import socket

    listener = socket.create_server(("127.0.0.1", home.settings().port))
    with listener, ChildProcesses() as children, pytest.raises(PortInUse):
        ServerProcesses(home, children).start()
    assert not home.control_credential.exists()


@pytest.mark.parametrize(("address", "loopback"), [("127.0.0.1:9443", True), ("[::1]:9443", False)])
def test_an_address_in_brackets_is_not_asked_of_ipv4(address: str, loopback: bool) -> None:
    assert walls._is_on_loopback(address) is loopback
