"""The real deployment engine: TLS, node authentication, process isolation, a bundle without code.

One server and two sites are started once, with two small apps in place of ours.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import shutil
import signal
import ssl
import stat
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from flwr.cli.build import build_fab_from_files
from flwr.proto.runtime_pb2 import AcquireTaskRequest
from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor
from flwr.supercore.runtime import RuntimeHttpClient

from client.admission.keys import SiteKeys, make_site_keys
from client.processes.site_processes import SiteProcesses
from client.site_home import SiteHome
from minet_core.errors import AdmissionRefused, HostError, MachineShared
from minet_core.runtime.processes.child_processes import ChildProcesses, free_port
from server.admission.enrolment import admitted_sites
from server.admission.pki import ca_files, server_files
from server.flower.bundle import Bundle, read_bundle
from server.flower.superlink_control import Node, SuperLinkControl
from server.processes.walls import forget_deleted, require_closed
from tests.support.trial_deployment import (
    CANARY,
    CLIENT_APP,
    SERVER_APP,
    SITES,
    WITHIN_S,
    Deployment,
    trial_deployment,
)

pytestmark = [pytest.mark.e2e, pytest.mark.long]


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with trial_deployment(tmp_path_factory.mktemp("deployment")) as started:
        yield started


@pytest.fixture(scope="module")
def found(deployment: Deployment) -> dict[str, Any]:
    began = time.monotonic()
    answer = deployment.run("two-rounds")
    deployment.seconds["run of two rounds"] = time.monotonic() - began
    deployment.seconds["its last round"] = answer["rounds_s"][-1]
    return answer


def test_the_server_sees_the_registered_names(found: dict[str, Any]) -> None:
    assert found["names"] == list(SITES)


def test_every_site_answers_from_its_own_folder(found: dict[str, Any]) -> None:
    assert found["errors"] == {}
    for name in SITES:
        assert found["answers"][name]["site"] == name
        assert found["answers"][name]["number"] == 1
        assert found["answers"][name]["gradient"] == 4 * 62 * 62  # one for each output pixel of the layer


def test_the_server_app_sees_the_coordinators_environment_and_no_sites(found: dict[str, Any]) -> None:
    assert "FEDMINET_RUNS" in found["environment"]
    assert not {"FEDMINET_SITE", "CANARY"} & set(found["environment"])
    assert all(not answer["has_runs"] for answer in found["answers"].values())
    assert all(answer["node_config"] == "{}" for answer in found["answers"].values())


def test_no_text_of_a_sites_exception_reaches_the_server(deployment: Deployment) -> None:
    answer = deployment.run("raising")
    assert answer["errors"] == dict.fromkeys(SITES, "FM-S900")
    log = deployment.sites["sms"].home.logs / "client-app.log"
    assert CANARY in log.read_text()  # the site itself can read what happened
    found = files_below(deployment.server.path)
    assert len(found) > 20
    for path, content in found.items():
        assert CANARY.encode() not in content, path
        assert str(deployment.sites["sms"].home.path / "store").encode() not in content, path


def files_below(folder: Path) -> dict[Path, bytes]:
    """What every file holds; the processes at work may remove one meanwhile."""
    found = {}
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            if path.is_file():
                found[path] = path.read_bytes()
    return found


def _bundle_with_code(proof: Path) -> Bundle:
    """One whose two apps would leave a file, and do nothing else."""
    description = (
        '[project]\nname = "fedminet-bundle"\nversion = "1.0.0"\nlicense = "Apache-2.0"\ndependencies = []\n'
        '[tool.flwr.app]\npublisher = "fedminet"\n'
        '[tool.flwr.app.components]\nserverapp = "trial_server:app"\nclientapp = "trial_client:app"\n'
        '[tool.flwr.app.config]\nrun = ""\n'
    )
    mark = f"open({str(proof)!r} + '-' + __name__, 'w').close()\n"
    files = {
        "pyproject.toml": description,
        "trial_server.py": mark + SERVER_APP,
        "trial_client.py": mark + CLIENT_APP,
    }
    content, _ = build_fab_from_files({name: text.encode() for name, text in files.items()})
    return Bundle(content, hashlib.sha256(content).hexdigest())


def test_a_bundle_with_code_is_not_run_by_the_server(deployment: Deployment, tmp_path: Path) -> None:
    ended = deployment.ended("shadowing-server", bundle=_bundle_with_code(tmp_path / "was-run"))
    assert (ended.sub_status, "FM-F404" in ended.details) == ("failed", True)
    assert not list(tmp_path.iterdir())


def test_a_bundle_with_code_is_not_run_by_any_site(deployment: Deployment, tmp_path: Path) -> None:
    """Of a coordinator that wants it run: it has put another one in the place of the federation's own."""
    own, foreign = read_bundle(deployment.server.superlink), _bundle_with_code(tmp_path / "was-run")
    deployment.server.bundle.write_bytes(foreign.content)
    try:
        answer = deployment.run("shadowing", bundle=foreign)
    finally:
        deployment.server.bundle.write_bytes(own.content)
    assert answer["errors"] == dict.fromkeys(SITES, "FM-F404")
    assert answer["answers"] == {}
    assert [path.name for path in tmp_path.iterdir()] == ["was-run-trial_server"]  # where it was accepted


def test_a_user_without_the_credential_is_answered_nothing(deployment: Deployment, tmp_path: Path) -> None:
    """What any user of the coordinator's machine has: the port, and the authority's certificate, which is public."""
    stranger = SuperLinkControl(deployment.control.address, ca=tmp_path / "ca.pem")
    shutil.copyfile(deployment.control.ca, stranger.ca)
    bundle = read_bundle(deployment.server.superlink)
    for wrong in (None, "", "0" * 64):
        if wrong is not None:
            (tmp_path / "control.secret").write_text(wrong)
        for ask in (
            stranger.nodes,
            lambda: stranger.submit_run(bundle, run_config={"run": "theirs"}),
            lambda: stranger.stop_run(1),
            lambda: stranger.register({"theirs": deployment.sites["sms"].keys.public_key}),
        ):
            with pytest.raises(HostError, match="credential"):
                ask()
    require_closed(deployment.server, deployment.control)


def test_the_wall_is_tried_and_not_believed(deployment: Deployment, tmp_path: Path) -> None:
    """Against a SuperLink that answers everybody, as Flower's own does."""

    class Everybody(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_response(200)
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    files = server_files(deployment.server.pki)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate, files.private_key)
    with ThreadingHTTPServer(("127.0.0.1", 0), Everybody) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}).start()
        try:
            with pytest.raises(MachineShared, match="FM-S516"):
                require_closed(
                    deployment.server,
                    SuperLinkControl(f"127.0.0.1:{server.server_address[1]}", deployment.control.ca),
                )
        finally:
            server.shutdown()


def test_no_token_of_a_task_stands_in_the_arguments_of_a_process(
    deployment: Deployment, found: dict[str, Any]
) -> None:
    shown = " ".join(deployment.commands)
    assert "flwr-serverapp" in shown
    assert "--token-stdin" in shown
    assert not re.search(r"--token[ =][^ ]|[0-9a-f]{64} --token-stdin", shown)


def test_nothing_is_open_to_other_users(deployment: Deployment, found: dict[str, Any]) -> None:
    for home in (deployment.server.path, *(site.home.path for site in deployment.sites.values())):
        modes = {home: home.stat().st_mode}
        for path in home.rglob("*"):
            with contextlib.suppress(FileNotFoundError):  # the processes at work may remove one
                modes[path] = path.lstat().st_mode
        assert len(modes) > 20
        assert [path for path, mode in modes.items() if mode & 0o077 and not stat.S_ISLNK(mode)] == []


def test_no_update_of_a_site_is_left_in_the_superlinks_database(
    deployment: Deployment, found: dict[str, Any]
) -> None:
    """The pieces of an answer are looked for as a thief of the disk would."""
    forget_deleted(deployment.server.superlink / "state.db")  # as a server does every ten seconds
    kept = b"".join(files_below(deployment.server.superlink).values())
    assert len(kept) > 10_000
    for name in SITES:
        pieces = [hashlib.sha256(f"{name} {number}".encode()).digest() for number in range(4096)]
        assert found["answers"][name]["n_pieces"] == len(pieces)
        assert sum(piece in kept for piece in pieces[::16]) == 0


def test_registering_again_changes_nothing(deployment: Deployment) -> None:
    before = deployment.control.nodes()
    deployment.control.register(admitted_sites(deployment.server))
    assert [node.node_id for node in deployment.control.nodes()] == [node.node_id for node in before]


@dataclass(frozen=True)
class Late(SuperLinkControl):
    """Its first look at the nodes is from before another process did the same."""

    first_look: list[list[Node]]

    def nodes(self) -> list[Node]:
        return self.first_look.pop() if self.first_look else super().nodes()


def test_two_processes_may_register_and_unregister_a_site_at_the_same_moment(
    deployment: Deployment, tmp_path: Path
) -> None:
    """A started server does it by itself, within a second of the command that does it too."""
    control, key = deployment.control, make_site_keys(tmp_path, name="late").public_key

    def late(seen: list[Node]) -> Late:
        return Late(control.address, control.ca, [seen])

    before = control.nodes()
    control.register({"late": key})
    (node,) = (node for node in control.nodes() if node.name == "late")
    late(before).register({"late": key})
    with pytest.raises(AdmissionRefused, match="already in use"):
        late(before).register({"another": key})
    registered = control.nodes()
    assert [one.node_id for one in registered if one.name in ("late", "another")] == [node.node_id]
    for asked in (control, late(registered)):
        assert asked.unregister({node.key_fingerprint}) == ["late"]
    assert [one.node_id for one in control.nodes()] == [one.node_id for one in before]


def test_a_registered_key_gets_no_second_name(deployment: Deployment) -> None:
    with pytest.raises(AdmissionRefused, match="FM-F404"):
        deployment.control.register({"impostor": deployment.sites["sms"].keys.public_key})


def test_a_registered_name_gets_no_second_key(deployment: Deployment, tmp_path: Path) -> None:
    with pytest.raises(AdmissionRefused, match="FM-F404"):
        deployment.control.register({"sms": make_site_keys(tmp_path, name="sms").public_key})


def test_neither_an_unregistered_key_nor_a_copy_of_a_key_in_use_is_let_in(
    deployment: Deployment, tmp_path: Path
) -> None:
    honest = deployment.sites["sms"]
    impostor, thief = SiteHome(tmp_path / "impostor"), SiteHome(tmp_path / "thief")
    keys = make_site_keys(impostor.keys, name="sms")  # and what its own end would check it passes over
    shutil.copytree(honest.home.keys, thief.keys)
    for other in (impostor, thief):
        shutil.copyfile(honest.home.path / "site.yaml", other.path / "site.yaml")
    before = deployment.control.nodes()
    reasons: dict[str, str] = {}
    with ChildProcesses() as children, ChildProcesses() as others:
        processes = {
            "impostor": SiteProcesses(
                impostor,
                honest.kit,
                replace(keys, tls_key=honest.keys.tls_key),
                children,
                free_port(),
                preloaded=(),
            ),
            "thief": SiteProcesses(
                thief, honest.kit, SiteKeys.of(thief.keys), others, free_port(), preloaded=()
            ),
        }
        for site in processes.values():
            site.start()

        def refused() -> bool:
            for name, site in processes.items():
                for reason in site.tend():
                    reasons.setdefault(name, reason)
            return len(reasons) == len(processes)

        children.wait_until(refused, deadline_s=WITHIN_S, what="both are refused")
    assert keys.fingerprint in reasons["impostor"]
    assert "in use elsewhere" in reasons["thief"]  # the server has one answer for both
    after = deployment.control.nodes()
    assert [_but_for_signs_of_life(node) for node in after] == [
        _but_for_signs_of_life(node) for node in before
    ]


def _but_for_signs_of_life(node: Node) -> Node:
    return replace(node, online_until=None)  # each sign of life of the honest ones moves it


def test_a_node_that_ended_comes_back(deployment: Deployment) -> None:
    site = deployment.sites["umr"]
    (node,) = [child for child in deployment.children if child.name == "supernode-umr"]
    admissions = site.node_log.read_text().count("SuperNode ID")
    node.process.send_signal(signal.SIGTERM)
    node.process.wait()
    reasons: list[str] = []

    def back() -> bool:
        reasons.extend(site.tend())
        return site.node_log.read_text().count("SuperNode ID") > admissions

    deployment.children.wait_until(back, deadline_s=WITHIN_S, what="the node is back")
    assert any("starting it again" in reason for reason in reasons)


def test_a_sites_own_interface_listens_on_loopback_alone(deployment: Deployment) -> None:
    listening = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    for site in deployment.sites.values():
        hosts = {
            local.split(":")[0]
            for _, local, _, state, *_ in listening
            if state == "0A" and int(local.split(":")[1], 16) == site.port
        }
        assert hosts == {"0100007F"}  # 127.0.0.1
    assert not _listens_on_ipv6({site.port for site in deployment.sites.values()})


def _listens_on_ipv6(ports: set[int]) -> bool:
    path = Path("/proc/net/tcp6")
    lines = path.read_text().splitlines()[1:] if path.exists() else []
    return any(line.split()[3] == "0A" and int(line.split()[1].split(":")[1], 16) in ports for line in lines)


def test_nobody_gets_a_task_without_the_secret(deployment: Deployment) -> None:
    server = deployment.server.settings()
    for address, authority in [
        (server.address, ca_files(deployment.server.pki).certificate.read_bytes()),
        *((f"127.0.0.1:{site.port}", None) for site in deployment.sites.values()),
    ]:
        client = RuntimeHttpClient.from_server_address(
            server_address=address,
            insecure=authority is None,
            root_certificates=authority,
            interceptors=[RuntimeVersionHttpInterceptor(component_name="SuperExec")],
        )
        with pytest.raises(httpx.HTTPStatusError) as caught:
            client.AcquireTask(AcquireTaskRequest(supported_task_types=["flwr-serverapp", "flwr-clientapp"]))
        assert caught.value.response.status_code in (401, 403)
        client.close()


def test_the_superlink_says_why_it_refuses_a_run(deployment: Deployment) -> None:
    with pytest.raises(HostError, match="refused to ask for run 7"):
        deployment.control.run_status(7)
