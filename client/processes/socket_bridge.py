"""A socket file in place of a network between a site's node and its trainer.

In two containers the trainer has no network at all: what it needs of the node, the runtime interface of Flower, comes
through a socket file in a folder that both have. Flower's programs know TCP alone, so each end forwards bytes: the
node's from the socket file to the SuperNode's loopback port, the trainer's from a loopback port of its own to the
socket file. What goes through it is Flower's own, with the secret and the tokens that its processes hold each other to.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

SOCKET = "runtime.sock"

_LOOPBACK = "127.0.0.1"
_PART_BYTES = 65_536
_CONNECT_S = 10.0
_OUT_OF_RESOURCES_S = 0.1

Connect = Callable[[], socket.socket]


@contextlib.contextmanager
def port_as_socket(folder: Path, port: int) -> Iterator[Path]:
    """The loopback port `port` as the socket file `runtime.sock` in `folder`, until the context is left.

    Only this user can open it. A file that a killed process left is replaced.
    """
    path = folder / SOCKET
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    path.chmod(0o600)  # before anybody can connect: it does not listen yet
    listener.listen()
    try:
        with _forwarding(listener, lambda: socket.create_connection((_LOOPBACK, port), _CONNECT_S)):
            yield path
    finally:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def socket_as_port(folder: Path) -> Iterator[int]:
    """The socket file `runtime.sock` in `folder` as a free loopback port, until the context is left.

    The file may come, go and be another one meanwhile: it is opened anew for each connection.
    """

    def connect() -> socket.socket:
        stream = socket.socket(socket.AF_UNIX)
        try:
            stream.settimeout(_CONNECT_S)
            stream.connect(str(folder / SOCKET))
        except OSError:
            stream.close()
            raise
        return stream

    listener = socket.create_server((_LOOPBACK, 0))
    with _forwarding(listener, connect):
        yield int(listener.getsockname()[1])


@contextlib.contextmanager
def _forwarding(listener: socket.socket, connect: Connect) -> Iterator[None]:
    """Connect whoever comes to `listener` by `connect`, each in threads of its own, until the context is left."""
    open_streams: set[socket.socket] = set()
    guard = threading.Lock()
    closing = threading.Event()

    def accept() -> None:
        while not closing.is_set():
            try:
                near, _ = listener.accept()
            except OSError:  # it was shut down; or there is no free descriptor for a moment
                closing.wait(_OUT_OF_RESOURCES_S)
                continue
            try:
                threading.Thread(target=join, args=(near,), name="runtime-link", daemon=True).start()
            except RuntimeError:  # nor a thread: the caller sees a closed connection, and tries again
                near.close()

    def join(near: socket.socket) -> None:
        with near:
            try:
                far = connect()
            except OSError:
                return  # nobody is there: the caller sees a closed connection, and tries again
            with far:
                far.settimeout(None)
                with guard:
                    open_streams.update((near, far))
                try:
                    back = threading.Thread(target=_pump, args=(far, near), name="runtime-link", daemon=True)
                    with contextlib.suppress(RuntimeError):  # no thread for the way back, as below
                        back.start()
                        _pump(near, far)
                        back.join()
                finally:
                    with guard:
                        open_streams.difference_update((near, far))

    thread = threading.Thread(target=accept, name="runtime-link", daemon=True)
    thread.start()
    try:
        yield
    finally:
        closing.set()
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
        listener.close()
        with guard:
            for stream in open_streams:
                _shut(stream, socket.SHUT_RDWR)


def _pump(source: socket.socket, target: socket.socket) -> None:
    """Pass on what comes until its end, and then the end; the other direction may go on."""
    try:
        while part := source.recv(_PART_BYTES):
            target.sendall(part)
    except OSError:  # one side was cut off: so is the other
        _shut(source, socket.SHUT_RDWR)
        _shut(target, socket.SHUT_RDWR)
    else:
        _shut(target, socket.SHUT_WR)


def _shut(stream: socket.socket, how: int) -> None:
    with contextlib.suppress(OSError):  # it is shut already
        stream.shutdown(how)
