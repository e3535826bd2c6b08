"""The link of one site to the coordinator, which a trial can cut and heal: a network namespace, or a relay."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, Literal

from minet_core.errors import HostError

LinkKind = Literal["namespace", "relay"]


class Link(ABC):
    """The wire between the coordinator and one site. `host`: where the coordinator listens."""

    kind: LinkKind
    host: str
    argv_prefix: tuple[str, ...] = ()

    def address(self, port: int) -> str:
        """How the site reaches the coordinator that listens on `port`."""
        return f"{self.host}:{port}"

    @abstractmethod
    def cut(self) -> None:
        """From now on nothing arrives, and neither end is told."""

    @abstractmethod
    def heal(self) -> None:
        """Let everything through again."""

    @abstractmethod
    def close(self) -> None:
        """Leave the machine as it was."""


@contextlib.contextmanager
def opened_link(kind: LinkKind | None) -> Iterator[Link]:
    """A link of this kind, or of the best that the machine gives. Raises HostError (FM-S500)."""
    link: Link
    try:
        link = RelayLink() if kind == "relay" else NamespaceLink()
    except HostError:
        if kind == "namespace":
            raise
        link = RelayLink()
    try:
        yield link
    finally:
        link.close()


class NamespaceLink(Link):
    """A network namespace on a bridge of its own. Needs root and `ip`; raises HostError (FM-S500) without."""

    kind = "namespace"

    def __init__(self) -> None:
        number = os.getpid()
        self._name, self._bridge, self._port = f"fedminet-{number}", f"fmb{number}", f"fmp{number}"
        subnet = f"198.18.{number % 254}"  # 198.18.0.0/15 is set aside for benchmarks, RFC 2544
        self.host = f"{subnet}.1"
        ip = shutil.which("ip")
        if ip is None or os.geteuid() != 0:
            raise HostError("no network namespace can be made", got="no root" if ip else "no program `ip`")
        self._ip = ip
        self.argv_prefix = (ip, "netns", "exec", self._name)
        inside = ("-n", self._name)
        try:
            self._run("netns", "add", self._name)
            self._run("link", "add", self._bridge, "type", "bridge")
            self._run("address", "add", f"{self.host}/30", "dev", self._bridge)
            self._run("link", "set", self._bridge, "up")
            self._run("link", "add", self._port, "type", "veth", "peer", "name", "eth0", "netns", self._name)
            self._run("link", "set", self._port, "master", self._bridge, "up")
            self._run(*inside, "address", "add", f"{subnet}.2/30", "dev", "eth0")
            for device in ("lo", "eth0"):
                self._run(*inside, "link", "set", device, "up")
        except HostError:
            self.close()
            raise

    def cut(self) -> None:
        """Take the site's end of the wire off the bridge."""
        self._run("link", "set", self._port, "nomaster")

    def heal(self) -> None:
        """Put it back."""
        self._run("link", "set", self._port, "master", self._bridge)

    def close(self) -> None:
        """Remove what was made, as far as it was."""
        for arguments in (
            ("link", "delete", self._port),
            ("link", "delete", self._bridge),
            ("netns", "delete", self._name),
        ):
            with contextlib.suppress(HostError):
                self._run(*arguments)

    def _run(self, *arguments: str) -> None:
        ended = subprocess.run([self._ip, *arguments], capture_output=True, text=True, check=False)
        if ended.returncode != 0:
            raise HostError(f"`ip {' '.join(arguments)}` failed", got=ended.stderr.strip())


class RelayLink(Link):
    """A relay on loopback that can stop forwarding: connections stay open, and new ones are taken and not served."""

    kind = "relay"
    host = "127.0.0.1"

    def __init__(self) -> None:
        self._flows = threading.Event()
        self._flows.set()
        self._questions = threading.Event()
        self._questions.set()
        self._answering: set[socket.socket] = set()
        self._unanswered: set[socket.socket] = set()
        self._asked: set[socket.socket] = set()  # ends of which the last that went through was a question
        self._held: set[socket.socket] = set()
        self._gate = threading.Lock()
        self._listener = socket.create_server((self.host, 0))
        self._sockets: list[socket.socket] = [self._listener]
        self._target: int | None = None
        self._closed = False
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def address(self, port: int) -> str:
        """The relay's own address; it forwards to `port`."""
        self._target = port
        return f"{self.host}:{self._listener.getsockname()[1]}"

    def cut(self) -> None:
        """Stop forwarding."""
        self._flows.clear()

    def cut_questions(self) -> None:
        """Stop forwarding what the site says; what it is told goes through."""
        with self._gate:
            self._questions.clear()

    @property
    def holds_every_question(self) -> bool:
        """Whether all that went through was answered, and the site asks on: after `cut_questions`."""
        with self._gate:
            return not self._asked and bool(self._held)

    def heal(self) -> None:
        """Go on, with what was waiting first."""
        self._flows.set()
        self._questions.set()

    def heal_without_answers(self) -> None:
        """Go on; but of the connections that are open each one breaks in place of its next answer."""
        self._unanswered = set(self._sockets)
        self.heal()

    def close(self) -> None:
        """End every connection."""
        self._closed = True
        self.heal()
        for open_socket in list(self._sockets):
            with contextlib.suppress(OSError):
                open_socket.shutdown(socket.SHUT_RDWR)
        for thread in list(self._threads):
            thread.join()
        for open_socket in self._sockets:
            open_socket.close()

    def _accept(self) -> None:
        while not self._closed:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            self._sockets.append(near)
            self._start(self._serve, near)

    def _serve(self, near: socket.socket) -> None:
        self._flows.wait()
        try:
            far = socket.create_connection((self.host, self._target or 0))
        except OSError:
            with contextlib.suppress(OSError):
                near.shutdown(socket.SHUT_RDWR)
            return
        self._sockets.append(far)
        self._answering.add(far)
        self._start(self._pump, far, near)
        self._pump(near, far)

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                self._flows.wait()
                if source not in self._answering:
                    self._let_ask(source)
                elif source in self._unanswered:
                    break
                else:
                    self._asked.discard(sink)
                sink.sendall(data)
        for end in (source, sink):
            self._asked.discard(end)
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _let_ask(self, near: socket.socket) -> None:
        """Wait until questions go through, and count this one among those that did."""
        while True:
            with self._gate:
                if self._questions.is_set():
                    self._held.discard(near)
                    self._asked.add(near)
                    return
                self._held.add(near)
            self._questions.wait()

    def _start(self, task: Callable[..., None], *arguments: Any) -> None:
        thread = threading.Thread(target=task, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()
