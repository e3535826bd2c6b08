"""The socket file between a site's node and its trainer: bytes go through as they are, both ways, none is lost."""

from __future__ import annotations

import errno
import socket
import socketserver
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from client.processes.socket_bridge import SOCKET, port_as_socket, socket_as_port

WITHIN_S = 60.0
"""For what takes moments: a busy machine has its time."""


class Echo(socketserver.BaseRequestHandler):
    """Sends back what it gets, until its end."""

    def handle(self) -> None:
        stream: socket.socket = self.request
        while part := stream.recv(65_536):
            stream.sendall(part)


@pytest.fixture
def echo_port() -> Iterator[int]:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Echo) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def sent_through(port: int, content: bytes) -> bytes:
    """What comes back of `content` by a connection whose sending end is closed after it."""
    with socket.create_connection(("127.0.0.1", port), timeout=WITHIN_S) as stream:
        sender = threading.Thread(target=lambda: (stream.sendall(content), stream.shutdown(socket.SHUT_WR)))
        sender.start()
        received = b"".join(iter(lambda: stream.recv(65_536), b""))
        sender.join()
    return received


def test_what_goes_in_comes_out_both_ways(tmp_path: Path, echo_port: int) -> None:
    content = bytes(range(256)) * 4096  # 1 MiB, in many parts
    with port_as_socket(tmp_path, echo_port), socket_as_port(tmp_path) as port:
        assert sent_through(port, content) == content
        assert sent_through(port, b"again") == b"again"


def test_many_connections_do_not_mix(tmp_path: Path, echo_port: int) -> None:
    with port_as_socket(tmp_path, echo_port), socket_as_port(tmp_path) as port:
        contents = [bytes([number]) * 100_000 for number in range(20)]
        received: dict[int, bytes] = {}
        threads = [
            threading.Thread(target=lambda n=n, c=c: received.update({n: sent_through(port, c)}))  # type: ignore[misc]
            for n, c in enumerate(contents)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [received[number] for number in range(20)] == contents


def test_only_its_owner_opens_the_socket_file(tmp_path: Path, echo_port: int) -> None:
    with port_as_socket(tmp_path, echo_port) as path:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not path.exists()


def test_a_node_that_is_away_closes_the_connection_and_one_that_is_back_takes_the_next(
    tmp_path: Path, echo_port: int
) -> None:
    with socket_as_port(tmp_path) as port:
        with socket.create_connection(("127.0.0.1", port), timeout=WITHIN_S) as stream:
            assert stream.recv(1) == b""
        with port_as_socket(tmp_path, echo_port):
            assert sent_through(port, b"there") == b"there"
        with socket.create_connection(("127.0.0.1", port), timeout=WITHIN_S) as stream:
            assert stream.recv(1) == b""
        with port_as_socket(tmp_path, echo_port):
            assert sent_through(port, b"again") == b"again"


def test_a_file_that_a_killed_node_left_is_replaced(tmp_path: Path, echo_port: int) -> None:
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(tmp_path / SOCKET))
    left.close()
    with port_as_socket(tmp_path, echo_port), socket_as_port(tmp_path) as port:
        assert sent_through(port, b"there") == b"there"


def test_a_moment_without_threads_or_descriptors_costs_a_connection_and_not_the_link(
    tmp_path: Path, echo_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container has a limit on both. The trainer tries again; nothing would start the link again."""
    start, accept = threading.Thread.start, socket.socket.accept
    out_of = {"threads": 1, "descriptors": 1}

    def is_out_of(what: str) -> bool:
        out_of[what] -= 1
        return out_of[what] >= 0

    def started(thread: threading.Thread) -> None:
        if thread.name == "runtime-link" and is_out_of("threads"):
            raise RuntimeError("can't start new thread")
        start(thread)

    def accepted(listener: socket.socket) -> tuple[socket.socket, Any]:
        if listener.family == socket.AF_UNIX and is_out_of("descriptors"):
            raise OSError(errno.EMFILE, "Too many open files")
        return accept(listener)

    monkeypatch.setattr(socket.socket, "accept", accepted)
    with port_as_socket(tmp_path, echo_port) as path:
        monkeypatch.setattr(threading.Thread, "start", started)
        with socket.socket(socket.AF_UNIX) as stream:
            stream.settimeout(WITHIN_S)
            stream.connect(str(path))
            assert stream.recv(1) == b""
        assert out_of["threads"] == 0
        assert out_of["descriptors"] < 0
        with socket.socket(socket.AF_UNIX) as stream:
            stream.settimeout(WITHIN_S)
            stream.connect(str(path))
            stream.sendall(b"again")
            assert stream.recv(5) == b"again"
