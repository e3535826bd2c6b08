"""A site in two parts that share no network: the node, which speaks with the server, and the trainer, which sees scans.

| part | has | has not |
|---|---|---|
| node | the site's keys, the kit, the way to the server | the store, the kept rounds, the results |
| trainer | the store, the kept rounds, the results | a network, the site's keys |

Both have the folder `link`: the socket file through which the trainer takes tasks and gives answers, and the secret
with which it proves to be the site's trainer. The node makes the secret at its first start and keeps it, so that either
part can be started again without the other. Each keeps a page of its own (client.status.status_file), which the other
reads.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from client.admission.keys import SiteKeys
from client.admission.kit import pinned_kit
from client.preflight.preflight import preflight, print_findings, require_ready
from client.preflight.server_reachability import REACH_DEADLINE_S
from client.processes.site_processes import SiteProcesses, site_processes, watch
from client.processes.socket_bridge import SOCKET, port_as_socket, socket_as_port
from client.site_home import SiteHome
from client.status.finding import CHECKS_OF_PART, Finding, Part
from client.status.status_file import StatusWriter, client_lock, status_writer
from minet_core.errors import InvalidSetting
from minet_core.runtime.processes.child_processes import ChildProcesses

_LOOK_INTERVAL_S = 0.5

_LOG = logging.getLogger(__name__)


def require_part(part: str) -> Part:
    """`part`. Raises InvalidSetting (FM-C102) where there is no such part."""
    for known in CHECKS_OF_PART:
        if part == known:
            return known
    raise InvalidSetting("no such part of a site", got=part, expected=", ".join(CHECKS_OF_PART))


def run_node(
    home: SiteHome,
    *,
    port: int = 0,
    reach_deadline_s: float = REACH_DEADLINE_S,
    show: Callable[[Sequence[Finding]], None] = print_findings,
) -> None:
    """Check what the node sees, and the way to the server, then run the site's node until a signal ends it.

    Raises the first refusal of the checks with its own code, SiteAlreadyRunning (FM-S522), and as `site_processes`.
    """
    with (
        client_lock(home.node_notes, beside=(home.path,)),
        ChildProcesses() as children,
        status_writer(home.node_notes, site=home.settings().name) as page,
    ):
        findings = preflight(home, port=port, reach_deadline_s=reach_deadline_s, part="node")
        page.record_findings(findings, kit=home.kit)
        show(findings)
        require_ready(findings)
        processes = site_processes(home, children, port=port)
        processes.link = link_folder(home)
        processes.start_node()
        with port_as_socket(processes.link, processes.port):
            _LOG.info("The node of %s runs; Ctrl-C ends it.", processes.kit.settings.site)
            watch(processes, page, findings, part="node")


def run_trainer(
    home: SiteHome,
    *,
    thorough: bool = False,
    show: Callable[[Sequence[Finding]], None] = print_findings,
) -> None:
    """Check what the trainer sees, then run the site's trainer until a signal; for the node it waits without end.

    Raises the first refusal of the checks with its own code, SiteAlreadyRunning (FM-S522), ProcessDied (FM-S503) where
    one of its processes keeps ending, PolicyRefused (FM-F420).
    """
    link = link_folder(home)
    with (
        client_lock(home.trainer_notes, beside=(home.path,)),
        ChildProcesses() as children,
        status_writer(home.trainer_notes, site=home.settings().name) as page,
        socket_as_port(link) as port,
    ):
        findings = preflight(home, thorough=thorough, part="trainer")
        page.record_findings(findings, kit=home.kit)
        show(findings)
        require_ready(findings)
        kit = pinned_kit(home)  # that it was made for the site's keys, the node sees, who has them
        absent = SiteKeys.of(home.keys)  # the node's alone; here they are no files
        processes = SiteProcesses(home, kit, absent, children, port, link=link)
        _wait_for_node(link, page)
        processes.start_trainer()
        _LOG.info("The trainer of %s runs; Ctrl-C ends it.", kit.settings.site)
        watch(processes, page, findings, part="trainer")


def link_folder(home: SiteHome) -> Path:
    """The folder that the two parts share."""
    folder = home.path.resolve() / "link"
    folder.mkdir(exist_ok=True, mode=0o700)
    return folder


def _wait_for_node(link: Path, page: StatusWriter) -> None:
    said = False
    while not ((link / SOCKET).exists() and (link / "superexec.secret").exists()):
        if not said:
            _LOG.info("Waiting for the node of this site.")
            said = True
        page.heartbeat()
        time.sleep(_LOOK_INTERVAL_S)
