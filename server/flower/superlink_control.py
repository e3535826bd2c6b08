"""What the coordinator asks of its running SuperLink: register a site, list the nodes, start and stop a run.

The requests are those of the `flwr` command (1.42), sent from this process: a command costs 1.5 s of processor
time each time a status is asked for, and it rebuilds the bundle, whose digest the sites were given.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import httpx
from cryptography.hazmat.primitives import serialization
from flwr.common.serde import fab_to_proto, user_config_to_proto
from flwr.proto.control_pb2 import (
    ListNodesRequest,
    ListRunsRequest,
    RegisterNodeRequest,
    StartRunRequest,
    StopRunRequest,
    UnregisterNodeRequest,
)
from flwr.supercore.control import ControlHttpClient
from flwr.supercore.error import ApiErrorCode, FlowerError
from flwr.supercore.fab import Fab
from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor

from minet_core.admission.kit import read_authority
from minet_core.errors import AdmissionRefused, HostError, ServerUnreachable
from server.flower.bundle import Bundle
from server.flower.control_credential import CredentialInterceptor
from server.flower.file_names import CREDENTIAL_FILE

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Node:
    """A registered node: the name the coordinator gave it, `online` or otherwise, and its key.

    online_until: until when its last sign of life keeps it online, seconds of the clock; None before the first.
    """

    node_id: int
    name: str
    status: str
    key_fingerprint: str
    online_until: float | None = None


@dataclass(frozen=True)
class RunStatus:
    """Flower's view of a run: `pending`, `starting`, `running`, `finished`, and how it finished."""

    status: str
    sub_status: str
    details: str
    bytes_sent: int
    bytes_received: int

    @property
    def finished(self) -> bool:
        return self.status == "finished"

    @property
    def completed(self) -> bool:
        return self.finished and self.sub_status == "completed"


@dataclass(frozen=True)
class SuperLinkControl:
    """The control interface of the SuperLink at `address`, whose certificate `ca` must have issued.

    The SuperLink's credential is looked for beside that certificate (server.flower.control_credential).

    Each request has a connection of its own: a SuperLink that is to end waits for the open ones.

    Each method raises ServerUnreachable (FM-S502) where nobody answers, and HostError (FM-S500) where the
    SuperLink refuses, with its reason.
    """

    address: str
    ca: Path

    def answers(self) -> bool:
        """Whether the SuperLink answers."""
        try:
            self.nodes()
        except ServerUnreachable:
            return False
        return True

    def nodes(self) -> list[Node]:
        """Every registered node, by name."""
        with self._asking("list the nodes") as client:
            found = client.ListNodes(ListNodesRequest()).nodes_info
        nodes = [
            Node(
                node.node_id,
                node.name,
                node.status,
                _fingerprint(node.public_key),
                node.online_until if node.HasField("online_until") else None,
            )
            for node in found
        ]
        return sorted((node for node in nodes if node.status != "unregistered"), key=lambda node: node.name)

    def register(self, sites: Mapping[str, Path]) -> None:
        """Register the key of every site under its name; one that is registered already is left as it is, and so is
        one that another process, a started server or a command, registers at the same moment.

        Raises AdmissionRefused (FM-F404) where the SuperLink knows a name or a key otherwise.
        """
        known = self.nodes()
        for name, path in sites.items():
            content = _key_bytes(path)
            fingerprint = _fingerprint(content)
            same = [node for node in known if node.name == name or node.key_fingerprint == fingerprint]
            if any((node.name, node.key_fingerprint) != (name, fingerprint) for node in same):
                raise AdmissionRefused(
                    f"the SuperLink knows {name} by another key, or the key by another name",
                    got=fingerprint,
                    action="Unregister the former node first",
                )
            if not same:
                try:
                    with self._asking(f"register {name}") as client:
                        client.RegisterNode(RegisterNodeRequest(public_key=content, name=name))
                except AdmissionRefused:
                    if (name, fingerprint) not in {
                        (node.name, node.key_fingerprint) for node in self.nodes()
                    }:
                        raise

    def unregister(self, key_fingerprints: Collection[str]) -> list[str]:
        """Unregister every node with one of these keys; its process ends at its next sign of life. Their names.

        One that another process unregisters at the same moment counts too.
        """
        found = [node for node in self.nodes() if node.key_fingerprint in key_fingerprints]
        for node in found:
            try:
                with self._asking(f"unregister {node.name}") as client:
                    client.UnregisterNode(UnregisterNodeRequest(node_id=node.node_id))
            except HostError:
                if node.node_id in {one.node_id for one in self.nodes()}:
                    raise
        return [node.name for node in found]

    def submit_run(self, bundle: Bundle, *, run_config: Mapping[str, str | int | float | bool]) -> int:
        """Start a run of the bundle's apps; the keys of `run_config` must be in the bundle."""
        fab = Fab(bundle.digest, bundle.content, {})
        request = StartRunRequest(
            fab=fab_to_proto(fab), override_config=user_config_to_proto(dict(run_config)), federation=""
        )
        with self._asking("start a run") as client:
            answer = client.StartRun(request)
        if not answer.HasField("run_id"):
            raise HostError("the SuperLink started no run", got=answer.note or "no reason")
        return int(answer.run_id)

    def run_status(self, run_id: int) -> RunStatus:
        """How a run stands. What it says is Flower's word: whether a round was aggregated is not in it."""
        with self._asking(f"ask for run {run_id}") as client:
            run = client.ListRuns(ListRunsRequest(run_id=run_id)).run_dict[run_id]
        status = run.status
        return RunStatus(status.status, status.sub_status, status.details, run.bytes_sent, run.bytes_recv)

    def stop_run(self, run_id: int) -> None:
        """Stop a run; one that has finished, or finishes at the same moment, is left as it is."""
        if self.run_status(run_id).finished:
            return
        try:
            with self._asking(f"stop run {run_id}") as client:
                client.StopRun(StopRunRequest(run_id=run_id))
        except ServerUnreachable:
            raise
        except HostError:
            if not self.run_status(run_id).finished:
                raise

    @contextlib.contextmanager
    def _asking(self, task: str) -> Iterator[ControlHttpClient]:
        read_authority(self.ca)  # a damaged one is named; of Flower comes what OpenSSL says
        client = ControlHttpClient.from_server_address(
            server_address=self.address,
            insecure=False,
            root_certificates=self.ca.read_bytes(),
            interceptors=[
                RuntimeVersionHttpInterceptor(component_name="flwr CLI"),
                CredentialInterceptor(self.ca.with_name(CREDENTIAL_FILE)),
            ],
        )
        try:
            yield client
        except httpx.TransportError as failure:
            raise ServerUnreachable(
                f"the SuperLink at {self.address} does not answer",
                got=str(failure) or type(failure).__name__,
                action="Start it with `fedminet server start`",
            ) from failure
        except httpx.HTTPStatusError as failure:
            if failure.response.status_code == httpx.codes.FORBIDDEN:
                raise HostError(
                    f"the SuperLink refused to {task}: it was not shown its credential",
                    action="Give the command as the user who started the server, on its machine and in its folder",
                ) from failure
            error = FlowerError.from_json(failure.response.text)
            reason = f"{error.message} {error.public_details or ''}".strip() if error else str(failure)
            if error is not None and error.code == ApiErrorCode.PUBLIC_KEY_ALREADY_IN_USE:
                raise AdmissionRefused(f"the SuperLink refused to {task}", got=reason) from failure
            raise HostError(f"the SuperLink refused to {task}", got=reason) from failure
        finally:
            client.close()


def wait_for_nodes(
    control: SuperLinkControl,
    names: tuple[str, ...],
    *,
    wait: Callable[[Callable[[], bool]], None],
) -> None:
    """Wait, by the caller's `wait`, until every named node is online."""
    wait(lambda: set(names) <= {node.name for node in control.nodes() if node.status == "online"})


def _key_bytes(path: Path) -> bytes:
    """A public key in the form the SuperLink keeps it: PEM."""
    key = serialization.load_ssh_public_key(path.read_bytes())
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def _fingerprint(pem: bytes) -> str:
    """The fingerprint of a key as `minet_core.admission.fingerprints.key_fingerprint` gives it for the OpenSSH form."""
    if not pem:
        return ""
    key = serialization.load_pem_public_key(pem)
    line = key.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    digest = hashlib.sha256(base64.b64decode(line.split()[1])).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")
