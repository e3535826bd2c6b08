"""The server's processes: Flower's SuperLink, and the SuperExec that runs the ServerApp.

The SuperLink authenticates sites by their registered keys over TLS and starts no process of its own
(`--isolation process`): an app is started by the SuperExec that proves it knows the secret, and by nobody else
who reaches the port.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from minet_core.errors import FedminetError
from minet_core.runtime.files.atomic_write import write_private
from minet_core.runtime.files.private_files import stay_private
from minet_core.runtime.processes.child_processes import Child, ChildProcesses, require_port_free
from minet_core.runtime.processes.flower_environment import RUNS_VARIABLE, SERVER_VARIABLE, flower_environment
from minet_core.runtime.processes.supervisor import Supervisor
from server.admission.enrolment import node_keys
from server.admission.expiry import warnings
from server.admission.pki import ca_files, server_files, settle_server_key
from server.admission.revocation import revocations
from server.admission.sync_registered_nodes import sync_registered_nodes
from server.flower import programs
from server.flower.control_credential import make_credential
from server.flower.programs import program_arguments
from server.flower.superlink_control import SuperLinkControl
from server.processes.node_snapshot import ScreenFiles
from server.processes.proxy_files import update_proxy_files
from server.processes.walls import forget_deleted, hold_files, require_closed
from server.processes.warn_once import WarnOnce
from server.server_home import ServerHome, local_address

START_DEADLINE_S = 180.0
"""A SuperLink that cannot start ends, which is seen at once; this is for a machine that has much else to do."""
APPLICATION_ENDS_IN_S = 10.0
"""What an application needs to say that it failed: 4 s measured, and Flower's own limit is 5 s. A signal meanwhile
would cut it short, and the SuperLink would take its run for a running one for a minute."""

SUPERLINK = "superlink"
SUPEREXEC = "superexec-server"

ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "131072", "GLIBC_TUNABLES": "glibc.malloc.hugetlb=0"}
"""glibc's own first value, which holds still when it is set. Else the threshold grows with what is freed, up to 32 MB,
and the server application keeps the tensors that it has let go of: two or three models more. Its pages are the small
ones, of which none is larger than what it holds."""

WARN_EVERY_S = 24 * 3600.0
"""How often a server that runs for months says again what expires."""

FORGET_EVERY_S = 10.0
"""How soon a site's update that was aggregated is gone from the database's log too."""

_WATCH_INTERVAL_S = 1.0

_LOG = logging.getLogger(__name__)


@dataclass
class ServerProcesses:
    """The two processes of the server; `tend` starts again what has ended.

    The SuperLink keeps its state in a database: sites stay registered, runs stay listed, and an application that
    runs goes on once it is back. An application whose SuperExec has ended ends too: it looks for the process that
    started it 5 times a second (flwr.supercore.app_utils), and says to the SuperLink that it failed. One that does
    not end by itself is ended before SuperExec is started again, so that no run ever has two.
    """

    home: ServerHome
    children: ChildProcesses
    environment: dict[str, str] = field(default_factory=dict)
    _supervisor: Supervisor = field(default_factory=Supervisor)
    _certificate: bytes | None = None
    _forgot_at: float = 0.0

    def start(self, *, deadline_s: float = START_DEADLINE_S) -> SuperLinkControl:
        """Start them, wait until the SuperLink answers, and register the admitted sites.

        Raises PortInUse (FM-S501), ProcessDied (FM-S503) with the end of the log, DeadlinePassed (FM-S505),
        MachineShared (FM-S516) where the machine's other users are not kept out (server.processes.walls).
        """
        settings = self.home.settings()
        stay_private()
        require_port_free(settings.bind, settings.port)
        for line in hold_files(self.home):
            _LOG.warning("%s", line)
        self._flower_home.mkdir(parents=True, exist_ok=True)
        if not self._secret.exists():
            write_private(self._secret, secrets.token_bytes(32))
        make_credential(self.home.control_credential)
        forget_deleted(self._database, at_rest=True)
        address = local_address(self.home)
        control = SuperLinkControl(address, ca=ca_files(self.home.pki).certificate)
        superlink = self._supervisor.keep(self._start_superlink)
        superlink.needed = True  # one that cannot start at all is not tried again
        self.children.wait_until(
            control.answers, deadline_s=deadline_s, what=f"the SuperLink answers at {address}"
        )
        superlink.needed = False
        require_closed(self.home, control)
        self._supervisor.keep(self._start_superexec, orphans_end_in_s=APPLICATION_ENDS_IN_S)
        sync_registered_nodes(self.home, control)
        return control

    def renew_server_certificate(self) -> bool:
        """End the SuperLink where its certificate was renewed: `tend` starts it again with the new one. Whether it was.

        What runs goes on: see the class.
        """
        certificate = _content(server_files(self.home.pki).certificate)
        if self._certificate in (None, certificate):
            return False
        self._certificate = certificate
        for child in self.children:
            if child.name == SUPERLINK and child.lives:
                child.process.terminate()
        return True

    def tend(self, *, answered: bool) -> list[str]:
        """Start again what has ended and whose pause is over; say why it had ended, each reason once.

        answered: whether the SuperLink has answered since the last call. Raises ProcessDied (FM-S503) where it or
        SuperExec keeps ending.
        """
        if answered:
            self._supervisor.works(SUPERLINK)
        if time.monotonic() - self._forgot_at > FORGET_EVERY_S:
            self._forgot_at = time.monotonic()
            forget_deleted(self._database)
        return self._supervisor.tend()

    @property
    def _flower_home(self) -> Path:
        return self.home.superlink / "flwr"

    @property
    def _database(self) -> Path:
        return self.home.superlink / "state.db"

    @property
    def _server(self) -> dict[str, str]:
        return {SERVER_VARIABLE: str(self.home.path)}

    @property
    def _secret(self) -> Path:
        return self.home.superlink / "superexec.secret"

    def _start_superlink(self) -> Child:
        settle_server_key(self.home.pki)
        self._certificate = _content(server_files(self.home.pki).certificate)
        return self.children.start(
            SUPERLINK,
            _superlink_command(self.home, secret=self._secret),
            env=flower_environment(self._flower_home, **self._server),
            log_path=self.home.logs / "superlink.log",
        )

    def _start_superexec(self) -> Child:
        runs = {RUNS_VARIABLE: str(self.home.runs), **self._server, **ALLOCATOR}
        return self.children.start(
            SUPEREXEC,
            [
                *program_arguments(programs.SUPEREXEC),
                *("--runtime-api-address", local_address(self.home)),
                *("--root-certificates", str(ca_files(self.home.pki).certificate)),
                *("--superexec-auth-secret-file", str(self._secret)),
            ],
            env=flower_environment(self._flower_home, **{**runs, **self.environment}),
            log_path=self.home.logs / "server-app.log",
        )


def serve(home: ServerHome, *, tend: Callable[[SuperLinkControl], None] = lambda _control: None) -> None:
    """Keep the server running until a signal ends it; sites admitted meanwhile are registered, revoked ones
    unregistered, a renewed certificate is taken into use, and the proxy's files are kept.

    tend: called about once a second while the SuperLink answers. What it raises of fedminet's own failures, and of the
    file system's, is logged once and does not end the server: a full disk waits for room, and one run's folder that
    cannot be read holds up no other.

    Raises as `ServerProcesses.start` at the start, and ProcessDied (FM-S503) where a process keeps ending.
    """
    with ChildProcesses() as children:
        processes = ServerProcesses(home, children)
        screen = ScreenFiles(home)
        failures = WarnOnce()
        with failures.of("proxy"):
            update_proxy_files(home)
        members = _members(home)  # before the start brings them in line: what changes meanwhile is seen
        control = processes.start()
        _LOG.info("The server of %s listens at %s; Ctrl-C ends it.", home.federation().name, control.address)
        warned_at = -WARN_EVERY_S
        while True:
            if time.monotonic() - warned_at > WARN_EVERY_S:
                warned_at = time.monotonic()
                with failures.of("expiry"):
                    for warning in warnings(home):
                        _LOG.warning("%s", warning)
            time.sleep(_WATCH_INTERVAL_S)
            if processes.renew_server_certificate():
                _LOG.info("The server's certificate was renewed; the SuperLink starts again with it.")
            with failures.of("proxy"):
                update_proxy_files(home)
            answered = _listens(control.address)
            with contextlib.suppress(
                OSError, FedminetError
            ):  # nor does it answer: the page of nodes grows old
                screen.update(control.nodes if answered else None)
            for reason in processes.tend(answered=answered):
                _LOG.warning("%s", reason)
            if not answered:
                continue
            with failures.of("sites"):
                if (present := _members(home)) != members:
                    for name in sync_registered_nodes(home, control):
                        _LOG.info("%s is revoked: its node is unregistered.", name)
                    members = present
            with failures.of("runs"):
                tend(control)


def _members(home: ServerHome) -> tuple[tuple[str, ...], int]:
    """What changes where a site is admitted or revoked."""
    return tuple(node_keys(home).values()), len(revocations(home.pki))


def _content(path: Path) -> bytes:
    return path.read_bytes() if path.is_file() else b""


def _listens(address: str) -> bool:
    """Whether anybody listens there: asking the SuperLink itself costs a TLS handshake each time."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=5.0).close()
    except OSError:
        return False
    return True


def _superlink_command(home: ServerHome, *, secret: Path) -> list[str]:
    settings = home.settings()
    server = server_files(home.pki)
    return [
        *program_arguments(programs.SUPERLINK),
        *("--host", settings.bind, "--port", str(settings.port)),
        *("--ssl-ca-certfile", str(ca_files(home.pki).certificate)),
        *("--ssl-certfile", str(server.certificate), "--ssl-keyfile", str(server.private_key)),
        "--enable-supernode-auth",
        *("--isolation", "process", "--superexec-auth-secret-file", str(secret)),
        *("--database", str(home.superlink / "state.db")),
        "--disable-runtime-dependency-installation",
    ]
