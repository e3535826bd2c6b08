"""Admission on the real engine: a coordinator behind nginx, two sites with certificates, one of which is revoked."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from client.admission.kit import accept_kit
from client.processes.site_processes import SiteProcesses, site_processes
from client.site_home import SiteHome
from fedminet.single_machine.admission import admit_here
from minet_core.runtime.processes.child_processes import ChildProcesses, child_environment, free_port
from server.admission.enrolment import KitTerms, admitted_sites, renew, revoke
from server.admission.pki import ca_files, issue_server_certificate
from server.flower.superlink_control import SuperLinkControl
from server.server_home import local_address
from tests.support.admitted import Coordinator, make_coordinator, make_site
from tests.support.proxy_front import Front, nginx_front

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.long,
    pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed"),
]

DEAD_PROXY = "http://127.0.0.1:1"


@dataclass
class Deployment:
    """What was started."""

    coordinator: Coordinator
    control: SuperLinkControl
    children: ChildProcesses
    nginx: Front
    sites: dict[str, SiteProcesses]
    homes: dict[str, SiteHome]
    said: list[str] = field(default_factory=list)
    """What the sites said of their processes."""

    def states(self) -> dict[str, str]:
        """Each registered node's state; empty while the SuperLink does not answer."""
        if not self.control.answers():
            return {}
        return {node.name: node.status for node in self.control.nodes()}

    def wait_for(self, states: dict[str, str], *, deadline_s: float) -> None:
        """Wait until the nodes stand like this."""
        self.wait_until(lambda: self.states() == states, deadline_s=deadline_s, what=f"nodes {states}")

    def wait_until(self, reached: Callable[[], bool], *, deadline_s: float, what: str) -> None:
        """Wait, and start again meanwhile what has ended at the sites."""

        def tended() -> bool:
            for site in self.sites.values():
                self.said.extend(site.tend())
            return reached()

        self.children.wait_until(tended, deadline_s=deadline_s, what=what, interval_s=0.3)

    def start_server(self) -> None:
        """`fedminet server start`, on a machine whose web proxy leads nowhere."""
        home = self.coordinator.home
        self.children.start(
            "the server",
            [sys.executable, "-m", "fedminet", "server", "start", str(home.path)],
            env=child_environment(HTTPS_PROXY=DEAD_PROXY, https_proxy=DEAD_PROXY),
            log_path=home.logs / "start.log",
        )


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    folder = tmp_path_factory.mktemp("admission")
    port, front_port = free_port(), free_port()
    coordinator = make_coordinator(folder / "server", port=port, public_port=front_port)
    homes = {name: make_site(folder / "sites" / name, name) for name in ("sms", "umr")}
    admit_here(coordinator.home, coordinator.authority, homes)
    pki = coordinator.home.pki
    upstream = f"https://127.0.0.1:{port}"
    with (
        nginx_front(pki, folder / "nginx", upstream=upstream, port=front_port) as nginx,
        ChildProcesses() as children,
    ):
        control = SuperLinkControl(local_address(coordinator.home), ca=ca_files(pki).certificate)
        sites = {name: site_processes(home, children, preloaded=()) for name, home in homes.items()}
        deployment = Deployment(coordinator, control, children, nginx, sites, homes)
        deployment.start_server()
        children.wait_until(control.answers, deadline_s=180, what="the server answers", interval_s=0.3)
        for site in sites.values():
            site.start()
        deployment.wait_for({"sms": "online", "umr": "online"}, deadline_s=180)
        yield deployment


def test_both_sites_are_online_through_the_proxy(deployment: Deployment) -> None:
    for site in deployment.sites.values():
        assert f":{deployment.nginx.port}" in site.kit.settings.address
    assert deployment.states() == {"sms": "online", "umr": "online"}


def test_a_renewed_certificate_is_used_without_a_restart(deployment: Deployment, tmp_path: Path) -> None:
    coordinator, home = deployment.coordinator, deployment.homes["umr"]
    node = deployment.sites["umr"].node_log.read_text().count("SuperNode ID")
    renewed = renew(coordinator.home, coordinator.authority, "umr", KitTerms(tmp_path / "kit"))
    accepted = accept_kit(home, renewed.kit)
    assert accepted.restart is None
    deployment.nginx.reload()  # every connection is opened anew
    serial = f"{renewed.certificate.serial_number:X}"
    log = deployment.nginx.log
    deployment.children.wait_until(
        lambda: serial in log.read_text(), deadline_s=180, what="the new certificate is shown", interval_s=0.2
    )
    assert deployment.states()["umr"] == "online"
    assert deployment.sites["umr"].node_log.read_text().count("SuperNode ID") == node  # the same process


def test_a_renewed_server_certificate_is_used_without_a_restart_of_the_server(deployment: Deployment) -> None:
    coordinator = deployment.coordinator
    issue_server_certificate(coordinator.authority, hosts=coordinator.home.settings().hosts)
    log = coordinator.home.logs / "start.log"
    deployment.children.wait_until(
        lambda: "certificate was renewed" in log.read_text(), deadline_s=180, what="the server has noticed"
    )
    deployment.nginx.reload()
    deployment.wait_for({"sms": "online", "umr": "online"}, deadline_s=180)


def test_a_revoked_site_is_gone_within_a_minute_and_stays_so_after_a_restart(deployment: Deployment) -> None:
    coordinator = deployment.coordinator
    revoke(coordinator.home, coordinator.authority, "sms", reason="a laptop was lost")
    deployment.nginx.reload()  # what the proxy's container does every few seconds
    deployment.wait_for({"umr": "online"}, deadline_s=60)
    assert deployment.nginx.ask(deployment.homes["sms"], deployment.homes["sms"]) == 400
    log = coordinator.home.logs / "start.log"
    deployment.children.wait_until(
        lambda: "sms is revoked" in log.read_text(), deadline_s=180, what="the server has said so"
    )
    (server,) = [child for child in deployment.children if child.name == "the server"]
    server.process.terminate()
    server.process.wait()
    deployment.start_server()
    deployment.wait_until(
        lambda: any("expired or was revoked: ask the coordinator" in reason for reason in deployment.said),
        deadline_s=180,
        what="the revoked site is told why",
    )
    deployment.wait_for({"umr": "online"}, deadline_s=180)
    assert admitted_sites(coordinator.home).keys() == {"umr"}


def test_the_revoked_name_is_registered_again_with_new_keys(deployment: Deployment, tmp_path: Path) -> None:
    assert "sms" not in deployment.states()
    kit = deployment.coordinator.admitted(make_site(tmp_path / "sms", "sms"))
    deployment.wait_until(
        lambda: "sms" in deployment.states(), deadline_s=180, what="the server registers it"
    )
    (node,) = [node for node in deployment.control.nodes() if node.name == "sms"]
    assert node.key_fingerprint == kit.settings.key_fingerprint
