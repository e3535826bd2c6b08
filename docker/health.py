"""Whether the container's service does its work: exit status 0 or 1, with the reason. Standard library alone.

    python -I -S health.py coordinator    the SuperLink answers over TLS, with the federation's own certificate
    python -I -S health.py screen         the coordinator's screen answers
    python -I -S health.py site           node and trainer in one container
    python -I -S health.py node           the SuperNode answers through the socket that the trainer uses
    python -I -S health.py trainer        the host of tasks is there, and the node answers

Whether the coordinator has let the site in is another question, which `fedminet site status` answers: a site that waits
for it is healthy, and starting it again would help nobody.
"""

from __future__ import annotations

import http.client
import re
import socket
import ssl
import sys
from pathlib import Path

COORDINATOR = Path("/coordinator")
SITE = Path("/site")
TIMEOUT_S = 8.0


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a socket file."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(TIMEOUT_S)
        self.sock.connect(str(self._path))


def coordinator() -> None:
    """Raise unless the SuperLink answers."""
    settings = (COORDINATOR / "server.yaml").read_text(encoding="utf-8")
    port = re.search(r"^port: *([0-9]+)", settings, re.MULTILINE)
    context = ssl.create_default_context(cafile=str(COORDINATOR / "pki" / "ca.pem"))
    require_ok(
        http.client.HTTPSConnection(
            "localhost", int(port.group(1)) if port else 9443, timeout=TIMEOUT_S, context=context
        )
    )


def screen() -> None:
    """Raise unless the coordinator's screen answers."""
    require_ok(http.client.HTTPConnection("127.0.0.1", 9480, timeout=TIMEOUT_S))


def node() -> None:
    """Raise unless the SuperNode answers."""
    require_ok(UnixConnection(SITE / "link" / "runtime.sock"))


def trainer() -> None:
    """Raise unless a task could be taken and its answer be given."""
    node()
    task_host()


def site() -> None:
    """Raise unless the one container has its host of tasks."""
    task_host()


def task_host() -> None:
    """Raise unless the host of tasks takes connections."""
    with socket.socket(socket.AF_UNIX) as host:
        host.settimeout(TIMEOUT_S)
        host.connect(str(SITE / "flower" / "task-host.sock"))


def require_ok(connection: http.client.HTTPConnection) -> None:
    """Raise unless GET /health is answered with 200."""
    connection.request("GET", "/health")
    answer = connection.getresponse()
    connection.close()
    if answer.status != 200:
        raise OSError(f"GET /health was answered with {answer.status}")


CHECKS = {"coordinator": coordinator, "screen": screen, "site": site, "node": node, "trainer": trainer}

if __name__ == "__main__":
    try:
        CHECKS[sys.argv[1]]()
    except (OSError, ssl.SSLError, http.client.HTTPException) as failure:
        sys.exit(f"{sys.argv[1]}: {failure}")
