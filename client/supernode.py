"""The site's processes: Flower's SuperNode, which speaks with the server, SuperExec, and the host of its tasks.

The SuperNode opens connections and accepts none from outside: its own interface listens on loopback, and a task
is given to the SuperExec that proves it knows the secret. Where the site's data lie is told to the ClientApp's
process by its environment; neither that nor any other setting of the site is sent to the server.
"""

from __future__ import annotations

import os
import secrets
import socket
import ssl
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from client.kit import Kit, read_kit
from client.site_home import SiteHome
from client.site_keys import SiteKeys, read_site_keys
from client.task_host import PRELOADED, write_program
from minet_core.runtime.errors import AdmissionRefused, ServerUnreachable
from minet_core.runtime.flower_environment import SITE_VARIABLE, flower_environment
from minet_core.runtime.processes import Child, ChildProcesses, free_port, program, require_port_free

LOOPBACK = "127.0.0.1"
REACH_DEADLINE_S = 30.0
FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 15.0
SETTLED_S = 60.0
"""A node that ran this long counts as well started: the next pause is short again."""

TASK_POLL_INTERVAL_S = 0.25
"""How often SuperExec asks its node for a task; 1 s as shipped. Ten times a second costs 4% of a core."""

_NOT_LET_IN = "Exit Code: 305"
"""What the SuperNode logs where the server does not let it in. The server gives one answer (its code 2004) for a
key it does not know and for a key whose node it has online."""

_TEND_INTERVAL_S = 0.5


@dataclass
class SiteProcesses:
    """The processes of one site; `tend` restarts the node when it has ended."""

    home: SiteHome
    kit: Kit
    keys: SiteKeys
    children: ChildProcesses
    port: int
    environment: dict[str, str] = field(default_factory=dict)
    preloaded: tuple[str, ...] = PRELOADED
    _pause_s: float = FIRST_PAUSE_S
    _started_at: float = 0.0
    _start_again_at: float | None = None

    @property
    def node_log(self) -> Path:
        return self.home.logs / "supernode.log"

    def start(self) -> None:
        """Start them. Raises PortInUse (FM-S501)."""
        require_port_free(LOOPBACK, self.port)
        self._write_secret()
        self._start_node()
        programs = write_program(self._flower_home)
        environment = flower_environment(
            self._flower_home,
            FLWR_SUPEREXEC_TASK_POLL_INTERVAL=str(TASK_POLL_INTERVAL_S),
            **{SITE_VARIABLE: str(self.home.path.resolve()), **self.environment},
        )
        log_path = self.home.logs / "client-app.log"
        bundle = self.kit.settings.bundle_digest
        self.children.start(
            f"task-host-{self.kit.settings.site}",
            [sys.executable, "-m", "client.task_host", str(self._flower_home), bundle, *self.preloaded],
            env=environment,
            log_path=log_path,
        )
        self.children.start(
            f"superexec-{self.kit.settings.site}",
            [
                *(
                    program("flower-superexec"),
                    "--runtime-api-address",
                    f"{LOOPBACK}:{self.port}",
                    "--insecure",
                ),
                *("--superexec-auth-secret-file", str(self._secret)),
            ],
            env={**environment, "PATH": os.pathsep.join([str(programs), environment["PATH"]])},
            log_path=log_path,
        )

    def tend(self) -> str | None:
        """Restart the node if it has ended and its pause is over; say why it had ended, once."""
        node = self._node
        if node is None or node.lives:
            return None
        now = time.monotonic()
        if self._start_again_at is None:
            if now - self._started_at > SETTLED_S:
                self._pause_s = FIRST_PAUSE_S
            self._start_again_at = now + self._pause_s
            self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
            return self._why(node)
        if now >= self._start_again_at:
            self._start_again_at = None
            self._start_node()
        return None

    @property
    def _node(self) -> Child | None:
        name = self._node_name
        return next((child for child in self.children if child.name == name), None)

    @property
    def _node_name(self) -> str:
        return f"supernode-{self.kit.settings.site}"

    @property
    def _flower_home(self) -> Path:
        return self.home.path.resolve() / "flower"

    @property
    def _secret(self) -> Path:
        return self._flower_home / "superexec.secret"

    def _write_secret(self) -> None:
        """A new secret at every start: both ends that know it are started here."""
        self._flower_home.mkdir(parents=True, exist_ok=True)
        self._secret.unlink(missing_ok=True)
        descriptor = os.open(self._secret, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(secrets.token_bytes(32))

    def _start_node(self) -> None:
        self._started_at = time.monotonic()
        self.children.start(
            self._node_name,
            [
                program("flower-supernode"),
                *("--superlink", self.kit.settings.address),
                *("--root-certificates", str(self.kit.ca.resolve())),
                *("--auth-supernode-private-key", str(self.keys.private_key.resolve())),
                *("--isolation", "process", "--superexec-auth-secret-file", str(self._secret)),
                *("--host", LOOPBACK, "--port", str(self.port)),
            ],
            env=flower_environment(self._flower_home),
            log_path=self.node_log,
            needed=False,
        )

    def _why(self, node: Child) -> str:
        if _NOT_LET_IN in node.log_tail():
            return (
                f"the server did not let the node in: it does not know this site's key {self.keys.fingerprint}, or "
                "it has a node of this key online (one that was killed counts for 60 s after its last sign of "
                "life; after that the key is in use elsewhere); trying again"
            )
        return (
            f"the node ended with status {node.process.returncode}; starting it again (see {self.node_log})"
        )


def site_processes(
    home: SiteHome,
    children: ChildProcesses,
    *,
    port: int = 0,
    environment: dict[str, str] | None = None,
    preloaded: tuple[str, ...] = PRELOADED,
) -> SiteProcesses:
    """The processes of the site at `home`, not yet started; `port` 0 takes any free loopback port.

    Raises AdmissionRefused (FM-F404) where the kit is another site's, and as `read_kit` and `read_site_keys`.
    """
    kit = read_kit(home.kit)
    keys = read_site_keys(home.keys)
    if kit.settings.key_fingerprint != keys.fingerprint:
        raise AdmissionRefused(
            "the kit was made for another key",
            got=keys.fingerprint,
            expected=kit.settings.key_fingerprint,
            action="Send the coordinator this site's public key, or use the kit that belongs to it",
        )
    return SiteProcesses(home, kit, keys, children, port or free_port(LOOPBACK), environment or {}, preloaded)


def run_site(home: SiteHome, *, port: int = 0, reach_deadline_s: float = REACH_DEADLINE_S) -> None:
    """Run the site's client until a signal ends it.

    Raises ServerUnreachable (FM-S502) where the server does not answer at the start, PortInUse (FM-S501),
    ProcessDied (FM-S503) where the executor ends. Later the node waits for a server that is away.
    """
    with ChildProcesses() as children:
        processes = site_processes(home, children, port=port)
        require_server(processes.kit.settings.address, ca=processes.kit.ca, deadline_s=reach_deadline_s)
        processes.start()
        print(f"The client of {processes.kit.settings.site} runs; Ctrl-C ends it.", flush=True)
        while True:
            children.check()
            if reason := processes.tend():
                print(reason, flush=True)
            time.sleep(_TEND_INTERVAL_S)


def require_server(address: str, *, ca: Path, deadline_s: float = REACH_DEADLINE_S) -> None:
    """Wait until the server at `address` answers with a certificate of the federation's authority.

    Raises ServerUnreachable (FM-S502) after `deadline_s`, and at once for a certificate that does not verify.
    """
    host, _, port = address.rpartition(":")
    context = ssl.create_default_context(cafile=str(ca))
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    ends = time.monotonic() + deadline_s
    while True:
        try:
            with socket.create_connection((host, int(port)), timeout=min(5.0, deadline_s)) as raw:
                context.wrap_socket(raw, server_hostname=host).close()
            return
        except ssl.SSLCertVerificationError as failure:
            raise ServerUnreachable(
                f"the server at {address} does not prove to be the federation's",
                got=failure.verify_message,
                expected="a valid certificate of the kit's authority",
                action="Ask the coordinator; do not go on",
            ) from failure
        except OSError as failure:
            if time.monotonic() > ends:
                raise ServerUnreachable(
                    f"the server at {address} does not answer",
                    got=failure.strerror or str(failure) or type(failure).__name__,
                    action="Check that the coordinator has started it and that the hospital's firewall lets you out",
                ) from failure
            time.sleep(min(1.0, deadline_s / 10))
