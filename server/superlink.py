"""The server's processes: Flower's SuperLink, and the SuperExec that runs the ServerApp.

The SuperLink authenticates sites by their registered keys over TLS and starts no process of its own
(`--isolation process`): an app is started by the SuperExec that proves it knows the secret, and by nobody else
who reaches the port.
"""

from __future__ import annotations

import secrets
import time
from pathlib import Path

from minet_core.runtime.errors import HostError
from minet_core.runtime.flower_environment import RUNS_VARIABLE, flower_environment
from minet_core.runtime.processes import ChildProcesses, program, require_port_free
from server.control import SuperLinkControl
from server.enrolment import admitted_sites
from server.pki import ca_files, server_files, write_private
from server.server_home import ServerHome

START_DEADLINE_S = 60.0
SUPERLINK = "superlink"
SUPEREXEC = "superexec-server"

_WATCH_INTERVAL_S = 1.0


def start_superlink(
    home: ServerHome, children: ChildProcesses, *, deadline_s: float = START_DEADLINE_S, **environment: str
) -> SuperLinkControl:
    """Start the SuperLink of `home` and its SuperExec, wait until it answers, and register the admitted sites.

    `environment` is added to that of the ServerApp's process. Raises PortInUse (FM-S501), ProcessDied (FM-S503)
    with the end of the log, DeadlinePassed (FM-S505).
    """
    settings = home.settings()
    require_port_free(settings.bind, settings.port)
    flower_home = home.superlink / "flwr"
    flower_home.mkdir(parents=True, exist_ok=True)
    secret = home.superlink / "superexec.secret"
    if not secret.exists():
        write_private(secret, secrets.token_bytes(32))
    address = local_address(home)
    children.start(
        SUPERLINK,
        _superlink_command(home, secret=secret),
        env=flower_environment(flower_home),
        log_path=home.logs / "superlink.log",
    )
    control = SuperLinkControl(address, ca=ca_files(home.pki).certificate)
    children.wait_until(control.answers, deadline_s=deadline_s, what=f"the SuperLink answers at {address}")
    children.start(
        SUPEREXEC,
        [
            *(program("flower-superexec"), "--runtime-api-address", address),
            *("--root-certificates", str(ca_files(home.pki).certificate)),
            *("--superexec-auth-secret-file", str(secret)),
        ],
        env=flower_environment(flower_home, **{RUNS_VARIABLE: str(home.runs), **environment}),
        log_path=home.logs / "server-app.log",
    )
    control.register(admitted_sites(home))
    return control


def serve(home: ServerHome) -> None:
    """Keep the server running until a signal ends it; sites admitted meanwhile are registered.

    Raises as `start_superlink`, and ProcessDied (FM-S503) where one of the two processes ends.
    """
    with ChildProcesses() as children:
        control = start_superlink(home, children)
        registered = set(admitted_sites(home))
        while True:
            children.check()
            admitted = admitted_sites(home)
            if set(admitted) - registered:
                control.register(admitted)
                registered = set(admitted)
            time.sleep(_WATCH_INTERVAL_S)


def local_address(home: ServerHome) -> str:
    """How a process on the coordinator's machine reaches the SuperLink: a name that its certificate holds.

    Raises HostError (FM-S500) where the certificate is for none that leads here.
    """
    settings = home.settings()
    local = ("127.0.0.1", "localhost") if settings.bind in ("127.0.0.1", "0.0.0.0") else (settings.bind,)  # noqa: S104
    for host in (*local, *settings.hosts):
        if host in settings.hosts:
            return f"{host}:{settings.port}"
    raise HostError("the server's certificate names no host", got=settings.hosts)


def _superlink_command(home: ServerHome, *, secret: Path) -> list[str]:
    settings = home.settings()
    server = server_files(home.pki)
    return [
        program("flower-superlink"),
        *("--host", settings.bind, "--port", str(settings.port)),
        *("--ssl-ca-certfile", str(ca_files(home.pki).certificate)),
        *("--ssl-certfile", str(server.certificate), "--ssl-keyfile", str(server.private_key)),
        "--enable-supernode-auth",
        *("--isolation", "process", "--superexec-auth-secret-file", str(secret)),
        *("--database", str(home.superlink / "state.db")),
        "--disable-runtime-dependency-installation",
    ]
