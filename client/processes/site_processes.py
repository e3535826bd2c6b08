"""The site's processes: Flower's SuperNode, which speaks with the server, SuperExec, and the host of its tasks.

The SuperNode opens connections and accepts none from outside: its own interface listens on loopback, and a task
is given to the SuperExec that proves it knows the secret. Where the site's data lie is told to the ClientApp's
process by its environment; neither that nor any other setting of the site is sent to the server.
"""

from __future__ import annotations

import logging
import os
import secrets
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from client.admission.keys import SiteKeys, read_site_keys
from client.admission.kit import Kit, kit_in_use
from client.admission.policy import require_policy
from client.admission.tls import CERTIFICATE_OPTION, KEY_OPTION, TlsFiles
from client.flower.task_host import PRELOADED, write_program
from client.preflight.preflight import LOOPBACK, checked_again, preflight, print_findings, require_ready
from client.preflight.server_reachability import REACH_DEADLINE_S
from client.site_home import SiteHome
from client.status.finding import Finding, Part
from client.status.node_activity import ADMISSION_FILE, NOTES_VARIABLE, read_admission
from client.status.status_file import Registration, StatusWriter, client_lock, status_writer
from minet_core.admission.kit import require_current
from minet_core.errors import FedminetError
from minet_core.runtime.files.atomic_write import status_of, write_private
from minet_core.runtime.processes.child_processes import Child, ChildProcesses, free_port, require_port_free
from minet_core.runtime.processes.flower_environment import SITE_VARIABLE, flower_environment
from minet_core.runtime.processes.proxy_variables import without_proxy
from minet_core.runtime.processes.supervisor import Supervisor, why_it_ended
from sites.settings.site_policy import require_bundle_allowed

TASK_POLL_INTERVAL_S = 0.02
"""Between an answer of the node and SuperExec's next question for a task; 1 s as shipped. The answer waits for a task
(client.flower.node_state), so that there is one question a second where there is nothing to do."""

_NOT_LET_IN = "Exit Code: 305"
"""What the SuperNode logs where the server does not let it in."""

_NO_SUCH_KEY = "[code: 2004]"
"""The server's one answer for a key it does not know and for a key whose node it has online."""

CHECK_INTERVAL_S = 300.0
"""How often a running client looks again at its kit, keys, policy, store and disk."""

_PROXY_ANSWERS = {
    "400 Bad Request": "the coordinator's proxy does not take this site's certificate, which has expired or was "
    "revoked: ask the coordinator",
    "403 Forbidden": "the coordinator's proxy has another node key for this site's certificate, or has not yet read "
    "that the site was admitted",
}
"""What nginx answers, and the SuperNode logs, where it lets a site not through."""

WARN_EVERY_S = 24 * 3600.0
"""How often a client that runs for months says again that its certificate expires."""

SECRET_BYTES = 32

_TEND_INTERVAL_S = 0.5

_LOG = logging.getLogger(__name__)


@dataclass
class SiteProcesses:
    """The processes of one site; `tend` starts again what has ended.

    The node has to be let in by the server, however long that takes. SuperExec and the host of the tasks depend on
    this machine alone: if they cannot stay up, that is a failure to be seen. argv_prefix: see `site_processes`.
    link: the folder that node and trainer share where they are two parts (client.processes.node_and_trainer); None in
    one.
    """

    home: SiteHome
    kit: Kit
    keys: SiteKeys
    children: ChildProcesses
    port: int
    environment: dict[str, str] = field(default_factory=dict)
    preloaded: tuple[str, ...] = PRELOADED
    argv_prefix: tuple[str, ...] = ()
    link: Path | None = None
    _supervisor: Supervisor = field(default_factory=Supervisor)
    _node: Child | None = None
    _refusal: str | None = None
    _next_try: float | None = None

    @property
    def tls(self) -> TlsFiles:
        """Through the link `kit`, so that a kit taken meanwhile is used: not resolved."""
        return TlsFiles(self.kit.ca.absolute(), self.kit.certificate.absolute(), self.keys.tls_key.resolve())

    @property
    def node_log(self) -> Path:
        return self.home.logs / "supernode.log"

    def start(self) -> None:
        """Start them. Raises as the two parts do."""
        self.start_node()
        self.start_trainer()

    def start_node(self) -> None:
        """Start what speaks with the server. Raises PortInUse (FM-S501), PolicyRefused (FM-F420)."""
        self._hold_files()
        self._require_bundle_allowed()
        require_port_free(LOOPBACK, self.port)
        self._write_secret()
        self._supervisor.keep(self._start_node, why=self._why_node, gives_up=False)

    def start_trainer(self) -> None:
        """Start what runs the tasks. Raises PolicyRefused (FM-F420)."""
        self._hold_files()
        self._require_bundle_allowed()
        self._flower_home.mkdir(parents=True, exist_ok=True)
        self._supervisor.keep(self._start_task_host)
        self._supervisor.keep(self._start_superexec)

    def _hold_files(self) -> None:
        for line in self.home.hold_files():
            _LOG.warning("%s", line)

    def _require_bundle_allowed(self) -> None:
        """Whatever was checked before: no part starts for a bundle or a federation that the policy does not allow."""
        settings = self.home.settings()
        require_bundle_allowed(settings.policy, digest=self.kit.settings.bundle_digest)
        require_policy(settings, self.kit.federation)

    def tend(self) -> list[str]:
        """Start again what has ended and whose pause is over; say why it had ended, each reason once.

        Raises ProcessDied (FM-S503) where SuperExec or the host of the tasks keeps ending.
        """
        return self._supervisor.tend()

    def registration(self) -> Registration:
        """Whether the server let the present node in, as that node noted it; since when, or why not."""
        admission = read_admission(self.home.node_notes)
        node = self._node
        if (
            node is not None
            and admission is not None
            and node.lives
            and admission.process == node.process.pid
        ):
            self._refusal = None
            return Registration(True, admission.since, node_id=admission.node_id)
        reason = self._refusal or "the node has started, and the server has not let it in yet"
        return Registration(False, time.time(), reason=reason, next_try=self._next_try)

    @property
    def _flower_home(self) -> Path:
        return self.home.path.resolve() / "flower"

    @property
    def _secret(self) -> Path:
        return (self.link or self._flower_home) / "superexec.secret"

    def _write_secret(self) -> None:
        """A new secret at every start of the site: the ends that know it are started here. In two parts it is kept."""
        self._flower_home.mkdir(parents=True, exist_ok=True)
        former = status_of(self._secret)
        if self.link is not None and former is not None and former.st_size == SECRET_BYTES:
            return
        write_private(self._secret, secrets.token_bytes(SECRET_BYTES))

    @property
    def _node_name(self) -> str:
        return f"supernode-{self.kit.settings.site}"

    def _start_node(self) -> Child:
        self._flower_home.mkdir(parents=True, exist_ok=True)
        notes = self.home.node_notes.resolve()
        notes.mkdir(parents=True, exist_ok=True)
        (notes / ADMISSION_FILE).unlink(missing_ok=True)  # process numbers come again
        self._next_try = None
        self._node = self.children.start(
            self._node_name,
            [
                *self.argv_prefix,
                *(sys.executable, "-m", "client.flower.programs", "supernode"),
                *("--superlink", self.kit.settings.address),
                *("--root-certificates", str(self.tls.authority)),
                *(CERTIFICATE_OPTION, str(self.tls.certificate)),
                *(KEY_OPTION, str(self.tls.private_key)),
                *("--auth-supernode-private-key", str(self.keys.private_key.resolve())),
                *("--isolation", "process", "--superexec-auth-secret-file", str(self._secret)),
                *("--host", LOOPBACK, "--port", str(self.port)),
            ],
            env=flower_environment(self._flower_home, **{NOTES_VARIABLE: str(notes)}),
            log_path=self.node_log,
        )
        return self._node

    def _start_task_host(self) -> Child:
        bundle = self.kit.settings.bundle_digest
        return self.children.start(
            f"task-host-{self.kit.settings.site}",
            [
                *self.argv_prefix,
                *(
                    sys.executable,
                    "-m",
                    "client.flower.task_host",
                    str(self._flower_home),
                    bundle,
                    *self.preloaded,
                ),
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
                *(sys.executable, "-m", "client.flower.programs", "superexec"),
                *("--runtime-api-address", f"{LOOPBACK}:{self.port}", "--insecure"),
                *("--superexec-auth-secret-file", str(self._secret)),
            ],
            env={**environment, "PATH": os.pathsep.join([str(programs), environment["PATH"]])},
            log_path=self.home.logs / "client-app.log",
        )

    def _task_environment(self) -> dict[str, str]:
        return without_proxy(
            flower_environment(
                self._flower_home,
                FLWR_SUPEREXEC_TASK_POLL_INTERVAL=str(TASK_POLL_INTERVAL_S),
                **{SITE_VARIABLE: str(self.home.path.resolve()), **self.environment},
            )
        )

    def _why_node(self, node: Child) -> str:
        self._refusal = self._why_node_ended(node)
        pause_s = self._supervisor.starts_again_in_s(self._node_name)
        self._next_try = None if pause_s is None else time.time() + pause_s
        return self._refusal

    def _why_node_ended(self, node: Child) -> str:
        tail = node.log_tail()
        if _NOT_LET_IN in tail and _NO_SUCH_KEY in tail:
            return (
                f"the server did not let the node in: it does not know this site's key {self.keys.fingerprint}, or "
                "it has a node of this key online (one that was killed counts for 20 s after its last sign of "
                "life; after that the key is in use elsewhere); trying again"
            )
        for answer, reason in _PROXY_ANSWERS.items():
            if answer in tail:
                return f"{reason}; trying again"
        if _NOT_LET_IN in tail:
            return f"the server did not let the node in (see {node.log_path}); trying again"
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


def run_site(
    home: SiteHome,
    *,
    port: int = 0,
    thorough: bool = False,
    reach_deadline_s: float = REACH_DEADLINE_S,
    show: Callable[[Sequence[Finding]], None] = print_findings,
) -> None:
    """Check the site, then run its client until a signal ends it, and keep the page of its status true meanwhile.

    show: is given what the checks found. What happens later is logged.

    Raises the first refusal of the checks with its own code (see client.preflight.preflight); SiteAlreadyRunning
    (FM-S522); ProcessDied (FM-S503) where a process of the site keeps ending. Later the node waits for a server that
    is away.
    """
    with (
        client_lock(home.path, beside=(home.node_notes, home.trainer_notes)),
        ChildProcesses() as children,
        status_writer(home.path, site=home.settings().name) as page,
    ):
        findings = preflight(home, port=port, thorough=thorough, reach_deadline_s=reach_deadline_s)
        page.record_findings(findings, kit=home.kit)
        show(findings)
        require_ready(findings)
        processes = site_processes(home, children, port=port)
        processes.start()
        _LOG.info("The client of %s runs; Ctrl-C ends it.", processes.kit.settings.site)
        watch(processes, page, findings)


def watch(
    processes: SiteProcesses,
    page: StatusWriter,
    findings: Sequence[Finding],
    *,
    part: Part = "all",
) -> NoReturn:
    """Keep the started processes running and their page true, until a signal. Raises as `tend`."""
    checked = warned = time.monotonic()  # the checks before the start have said what expires
    while True:
        if part != "trainer" and time.monotonic() - warned >= WARN_EVERY_S:
            warned = time.monotonic()
            if (warning := expiry_warning(processes.home)) is not None:
                _LOG.warning("%s", warning)
        for reason in processes.tend():
            _LOG.warning("%s", reason)
        if part == "trainer":
            page.heartbeat()
        else:
            page.record_registration(processes.registration())
        if time.monotonic() - checked >= CHECK_INTERVAL_S:
            checked = time.monotonic()
            findings = checked_again(processes.home, findings, part=part)
            page.record_findings(findings, kit=processes.home.kit)
        time.sleep(_TEND_INTERVAL_S)


def expiry_warning(home: SiteHome) -> str | None:
    """What the site is to be told of the certificate in use now; None while it is valid for long."""
    try:
        return kit_in_use(home).expiry().warning()
    except FedminetError as failure:  # a kit that was damaged meanwhile ends no client that runs
        return f"Warning: {failure}"
