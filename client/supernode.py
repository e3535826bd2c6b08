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

from client.kit import Kit, kit_in_use
from client.site_home import SiteHome
from client.site_keys import SiteKeys, read_site_keys
from client.site_tls import CERTIFICATE_OPTION, KEY_OPTION
from client.task_host import PRELOADED, write_program
from minet_core.kit import require_current
from minet_core.runtime.errors import FedminetError, ServerUnreachable
from minet_core.runtime.flower_environment import SITE_VARIABLE, flower_environment
from minet_core.runtime.processes import Child, ChildProcesses, free_port, require_port_free
from minet_core.runtime.supervision import Supervisor, why_it_ended

LOOPBACK = "127.0.0.1"
REACH_DEADLINE_S = 30.0
TASK_POLL_INTERVAL_S = 0.25
"""How often SuperExec asks its node for a task; 1 s as shipped. Ten times a second costs 4% of a core."""

_NOT_LET_IN = "Exit Code: 305"
"""What the SuperNode logs where the server does not let it in. The server gives one answer (its code 2004) for a
key it does not know and for a key whose node it has online."""

_PROXY_ANSWERS = {
    "400 Bad Request": "the coordinator's proxy does not take this site's certificate, which has expired or was "
    "revoked: ask the coordinator",
    "403 Forbidden": "the coordinator's proxy has another node key for this site's certificate, or has not yet read "
    "that the site was admitted",
}
"""What nginx answers, and the SuperNode logs, where it lets a site not through."""

WARN_EVERY_S = 24 * 3600.0
"""How often a client that runs for months says again that its certificate expires."""

_TEND_INTERVAL_S = 0.5


@dataclass
class SiteProcesses:
    """The processes of one site; `tend` starts again what has ended.

    The node has to be let in by the server, however long that takes. SuperExec and the host of the tasks depend on
    this machine alone: if they cannot stay up, that is a failure to be seen. argv_prefix: see `site_processes`.
    """

    home: SiteHome
    kit: Kit
    keys: SiteKeys
    children: ChildProcesses
    port: int
    environment: dict[str, str] = field(default_factory=dict)
    preloaded: tuple[str, ...] = PRELOADED
    argv_prefix: tuple[str, ...] = ()
    _supervisor: Supervisor = field(default_factory=Supervisor)

    @property
    def node_log(self) -> Path:
        return self.home.logs / "supernode.log"

    def start(self) -> None:
        """Start them. Raises PortInUse (FM-S501)."""
        require_port_free(LOOPBACK, self.port)
        self._write_secret()
        self._supervisor.keep(self._start_node, why=self._why_node, gives_up=False)
        self._supervisor.keep(self._start_task_host)
        self._supervisor.keep(self._start_superexec)

    def tend(self) -> list[str]:
        """Start again what has ended and whose pause is over; say why it had ended, each reason once.

        Raises ProcessDied (FM-S503) where SuperExec or the host of the tasks keeps ending.
        """
        return self._supervisor.tend()

    @property
    def _flower_home(self) -> Path:
        return self.home.path.resolve() / "flower"

    @property
    def _secret(self) -> Path:
        return self._flower_home / "superexec.secret"

    def _write_secret(self) -> None:
        """A new secret at every start of the site: the ends that know it are started here."""
        self._flower_home.mkdir(parents=True, exist_ok=True)
        self._secret.unlink(missing_ok=True)
        descriptor = os.open(self._secret, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(secrets.token_bytes(32))

    def _start_node(self) -> Child:
        return self.children.start(
            f"supernode-{self.kit.settings.site}",
            [
                *self.argv_prefix,
                *(sys.executable, "-m", "client.flower_program", "supernode"),
                *("--superlink", self.kit.settings.address),
                # through the link `kit`, so that a kit taken meanwhile is used: not resolved
                *("--root-certificates", str(self.kit.ca.absolute())),
                *(CERTIFICATE_OPTION, str(self.kit.certificate.absolute())),
                *(KEY_OPTION, str(self.keys.tls_key.resolve())),
                *("--auth-supernode-private-key", str(self.keys.private_key.resolve())),
                *("--isolation", "process", "--superexec-auth-secret-file", str(self._secret)),
                *("--host", LOOPBACK, "--port", str(self.port)),
            ],
            env=flower_environment(self._flower_home),
            log_path=self.node_log,
        )

    def _start_task_host(self) -> Child:
        bundle = self.kit.settings.bundle_digest
        return self.children.start(
            f"task-host-{self.kit.settings.site}",
            [
                *self.argv_prefix,
                *(sys.executable, "-m", "client.task_host", str(self._flower_home), bundle, *self.preloaded),
            ],
            env=self._task_environment(),
            log_path=self.home.logs / "client-app.log",
        )

    def _start_superexec(self) -> Child:
        environment = self._task_environment()
        programs = write_program(self._flower_home)
        return self.children.start(
            f"superexec-{self.kit.settings.site}",
            [
                *self.argv_prefix,
                *(sys.executable, "-m", "client.flower_program", "superexec"),
                *("--runtime-api-address", f"{LOOPBACK}:{self.port}", "--insecure"),
                *("--superexec-auth-secret-file", str(self._secret)),
            ],
            env={**environment, "PATH": os.pathsep.join([str(programs), environment["PATH"]])},
            log_path=self.home.logs / "client-app.log",
        )

    def _task_environment(self) -> dict[str, str]:
        return flower_environment(
            self._flower_home,
            FLWR_SUPEREXEC_TASK_POLL_INTERVAL=str(TASK_POLL_INTERVAL_S),
            **{SITE_VARIABLE: str(self.home.path.resolve()), **self.environment},
        )

    def _why_node(self, node: Child) -> str:
        if _NOT_LET_IN in node.log_tail():
            return (
                f"the server did not let the node in: it does not know this site's key {self.keys.fingerprint}, or "
                "it has a node of this key online (one that was killed counts for 20 s after its last sign of "
                "life; after that the key is in use elsewhere); trying again"
            )
        for answer, reason in _PROXY_ANSWERS.items():
            if answer in node.log_tail():
                return f"{reason}; trying again"
        return why_it_ended(node)


def site_processes(
    home: SiteHome,
    children: ChildProcesses,
    *,
    port: int = 0,
    environment: dict[str, str] | None = None,
    preloaded: tuple[str, ...] = PRELOADED,
    argv_prefix: tuple[str, ...] = (),
) -> SiteProcesses:
    """The processes of the site at `home`, not yet started; `port` 0 takes any free loopback port.

    argv_prefix: a program that becomes each of them, such as `ip netns exec NAME`; it must keep its process number.

    Raises AdmissionRefused (FM-F404) where the kit is another site's or has expired, and as `kit_in_use`.
    """
    kit = kit_in_use(home)
    require_current(kit.settings)
    keys = read_site_keys(home.keys)
    return SiteProcesses(
        home, kit, keys, children, port or free_port(LOOPBACK), environment or {}, preloaded, argv_prefix
    )


def run_site(home: SiteHome, *, port: int = 0, reach_deadline_s: float = REACH_DEADLINE_S) -> None:
    """Run the site's client until a signal ends it.

    Raises ServerUnreachable (FM-S502) where the server does not answer at the start, PortInUse (FM-S501),
    ProcessDied (FM-S503) where a process of the site keeps ending. Later the node waits for a server that is away.
    """
    with ChildProcesses() as children:
        processes = site_processes(home, children, port=port)
        require_server(processes.kit.settings.address, ca=processes.kit.ca, deadline_s=reach_deadline_s)
        processes.start()
        print(f"The client of {processes.kit.settings.site} runs; Ctrl-C ends it.", flush=True)
        warned_at = -WARN_EVERY_S
        while True:
            if time.monotonic() - warned_at > WARN_EVERY_S:
                warned_at = time.monotonic()
                if (warning := expiry_warning(home)) is not None:
                    print(warning, flush=True)
            for reason in processes.tend():
                print(reason, flush=True)
            time.sleep(_TEND_INTERVAL_S)


def expiry_warning(home: SiteHome) -> str | None:
    """What the site is to be told of the certificate in use now; None while it is valid for long."""
    try:
        return kit_in_use(home).expiry().warning()
    except FedminetError as failure:  # a kit that was damaged meanwhile ends no client that runs
        return f"Warning: {failure}"


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
