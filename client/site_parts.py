"""A site in two parts that share no network: the node, which speaks with the server, and the trainer, which sees scans.

| part | has | has not |
|---|---|---|
| node | the site's keys, the kit, the way to the server | the store, the kept rounds, the results |
| trainer | the store, the kept rounds, the results | a network, the site's keys |

Both have the folder `link`: the socket file through which the trainer takes tasks and gives answers, and the secret
with which it proves to be the site's trainer. The node makes the secret at its first start and keeps it, so that either
part can be started again without the other.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from client.check_machine import check_disk_and_device
from client.check_server import check_server
from client.finding import Finding
from client.kit import pinned_kit
from client.preflight import print_findings, require_ready
from client.reach import REACH_DEADLINE_S
from client.runtime_link import SOCKET, port_as_socket, socket_as_port
from client.site_home import SiteHome
from client.site_keys import SiteKeys
from client.supernode import SiteProcesses, site_processes
from minet_core.runtime.errors import InvalidSetting
from minet_core.runtime.processes import ChildProcesses

PARTS = ("all", "node", "trainer")

_TEND_INTERVAL_S = 0.5


def require_part(part: str) -> str:
    """`part`. Raises InvalidSetting (FM-C102) where there is no such part."""
    if part not in PARTS:
        raise InvalidSetting("no such part of a site", got=part, expected=", ".join(PARTS))
    return part


def run_node(home: SiteHome, *, port: int = 0, reach_deadline_s: float = REACH_DEADLINE_S) -> None:
    """Check the way to the server, then run the site's node until a signal ends it.

    Raises as `site_processes`, and the first refusal of the checks with its own code.
    """
    with ChildProcesses() as children:
        processes = site_processes(home, children, port=port)
        processes.link = link_folder(home)
        _require(check_server(home, processes.kit, deadline_s=reach_deadline_s))
        processes.start_node()
        with port_as_socket(processes.link, processes.port):
            print(f"The node of {processes.kit.settings.site} runs; Ctrl-C ends it.", flush=True)
            _tend(processes)


def run_trainer(home: SiteHome) -> None:
    """Check disk and device, then run the site's trainer until a signal ends it; for the node it waits without end.

    Raises the first refusal of the checks with its own code, ProcessDied (FM-S503) where one of its processes keeps
    ending, PolicyRefused (FM-F420), and as `pinned_kit`.
    """
    link = link_folder(home)
    with ChildProcesses() as children, socket_as_port(link) as port:
        kit = pinned_kit(home)  # that it was made for the site's keys, the node sees, who has them
        _require(check_disk_and_device(home, kit))
        absent = SiteKeys.of(home.keys)  # the node's alone; here they are no files
        processes = SiteProcesses(home, kit, absent, children, port, link=link)
        _wait_for_node(link)
        processes.start_trainer()
        print(f"The trainer of {kit.settings.site} runs; Ctrl-C ends it.", flush=True)
        _tend(processes)


def _require(findings: Sequence[Finding]) -> None:
    """Show what the checks of a part have found; raises the first refusal with its own code."""
    print_findings(findings)
    require_ready(findings)


def link_folder(home: SiteHome) -> Path:
    """The folder that the two parts share."""
    folder = home.path.resolve() / "link"
    folder.mkdir(exist_ok=True, mode=0o700)
    return folder


def _wait_for_node(link: Path) -> None:
    said = False
    while not ((link / SOCKET).exists() and (link / "superexec.secret").exists()):
        if not said:
            print("Waiting for the node of this site.", flush=True)
            said = True
        time.sleep(_TEND_INTERVAL_S)


def _tend(processes: SiteProcesses) -> None:
    while True:
        for reason in processes.tend():
            print(reason, flush=True)
        time.sleep(_TEND_INTERVAL_S)
