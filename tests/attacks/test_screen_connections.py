"""Who opens connections to the coordinator's screen and says half of something keeps nobody else out."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from minet_core.runtime.processes.child_processes import free_port
from server.dashboard.request_timeouts import LIMIT, MAX_HEAD_BYTES, MAX_WAITING
from server.dashboard.serve import Binding, server_of
from server.server_home import ServerHome
from tests.support.screen import STARTS_WITHIN_S, created, made_home, wait_until

N_SOCKETS = LIMIT + 14
REQUEST_S = 1.0
"""What the screen waits for a request here; ten seconds as shipped."""

PATIENT_S = 60.0
"""The same for who is slow: no machine stalls so long."""

PAUSE_S = 0.2
"""Between the parts of a request, which come one by one."""

HALVES = {
    "nothing": b"",
    "half a line": b"GET /hea",
    "half a head": b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nX: ",
    "half a body": b"POST /login HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n\r\npassword=",
    "a body that none asked for": b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n\r\n",
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> ServerHome:
    home = made_home(tmp_path_factory.mktemp("screen"))
    created(home, "waits", rounds=5)
    return home


@pytest.fixture(scope="module")
def port(home: ServerHome) -> Iterator[int]:
    with served(home, request_s=REQUEST_S) as port:
        yield port


@contextlib.contextmanager
def served(home: ServerHome, *, request_s: float) -> Iterator[int]:
    """The port of a screen that gives a request so long."""
    server = server_of(home, Binding(port=(port := free_port())), access=None, request_s=request_s)
    thread = threading.Thread(target=server.run, name="screen")
    thread.start()
    try:
        wait_until(lambda: server.started, deadline_s=STARTS_WITHIN_S)
        yield port
    finally:
        server.should_exit = True
        thread.join()


@contextlib.contextmanager
def many(port: int, said: bytes) -> Iterator[list[socket.socket]]:
    held = []
    try:
        for _ in range(N_SOCKETS):
            stream = socket.create_connection(("127.0.0.1", port), 5.0)
            held.append(stream)
            with contextlib.suppress(OSError):
                stream.sendall(said)
        yield held
    finally:
        for stream in held:
            stream.close()


def is_open(stream: socket.socket) -> bool:
    stream.setblocking(False)
    try:
        while part := stream.recv(65536):
            del part
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def ask(port: int, path: str = "/health") -> int:
    return httpx.get(f"http://127.0.0.1:{port}{path}", trust_env=False, timeout=60.0).status_code


@pytest.mark.parametrize("said", HALVES.values(), ids=list(HALVES))
def test_half_requests_keep_no_reader_out_and_are_let_go_of(port: int, said: bytes) -> None:
    with many(port, said) as held:
        for _ in range(3):
            assert ask(port) == 200
        assert sum(map(is_open, held)) <= MAX_WAITING + 1
        ends = time.monotonic() + 9 * REQUEST_S  # sooner than the ten seconds that are shipped
        while any(map(is_open, held)):
            assert time.monotonic() < ends
            time.sleep(0.05)


def test_streams_that_nobody_needs_keep_no_reader_out(home: ServerHome) -> None:
    watched = b"GET /runs/waits/stream HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    with served(home, request_s=PATIENT_S) as port, many(port, watched) as held:
        assert ask(port) == 200
        assert ask(port, "/runs/waits") == 200
        assert (
            sum(map(is_open, held)) > LIMIT // 2
        )  # it is the oldest ones that give way, and no more than are needed


def test_a_reader_who_is_slow_to_say_all_of_it_is_answered(home: ServerHome) -> None:
    with (
        served(home, request_s=PATIENT_S) as port,
        socket.create_connection(("127.0.0.1", port), 30.0) as stream,
    ):
        for part in (b"GET /health HT", b"TP/1.1\r\nHost: 127.0.0.1\r\n", b"\r\n"):
            stream.sendall(part)
            time.sleep(PAUSE_S)
        assert stream.recv(4096).startswith(b"HTTP/1.1 200")
        stream.sendall(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")  # and again by the same connection
        assert stream.recv(4096).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    "before", [b"GET /health HTTP/1.1\r\nX: ", b"GET /", b""], ids=["header", "path", "method"]
)
def test_a_head_without_end_is_refused_early(port: int, before: bytes) -> None:
    sent = 0
    with socket.create_connection(("127.0.0.1", port), 5.0) as stream, contextlib.suppress(OSError):
        stream.sendall(before)
        while sent < 64 * 2**20:
            sent += stream.send(b"a" * 65536)
    assert (
        sent < 16 * 2**20
    )  # what the two ends' kernels hold, of which the screen reads little more than its bound
    assert ask(port) == 200


def test_a_head_of_a_browsers_size_is_taken(port: int) -> None:
    headers = {"cookie": "a" * (MAX_HEAD_BYTES // 2)}
    answer = httpx.get(f"http://127.0.0.1:{port}/health", headers=headers, trust_env=False)
    assert answer.status_code == 200


def test_the_password_is_as_long_as_the_guide_says(home: ServerHome) -> None:
    from minet_core.errors import InvalidSetting
    from server.dashboard.password import MIN_CHARACTERS, set_password

    guide = Path("docs/operations/coordinator.md").read_text(encoding="utf-8")
    assert f"{MIN_CHARACTERS} characters or more" in guide
    set_password(home, "a" * MIN_CHARACTERS)
    with pytest.raises(InvalidSetting, match="FM-C102"):
        set_password(home, "a" * (MIN_CHARACTERS - 1))
