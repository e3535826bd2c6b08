"""Flower's own programs as a site runs them: `python -m client.flower.programs supernode|superexec ARGUMENTS`.

Both with the site's shorter times (client.flower.timeouts). The node has the site's TLS certificate
(client.admission.tls) and a state that loses no task (client.flower.node_state), asks for lost messages again
(client.flower.lost_messages), and begins by signing off the node that was killed before it: a server refuses a key
whose node it still has online.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any, Self

import httpx
import uvicorn.config
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_ssh_private_key
from flwr.proto.fleet_pb2 import DeactivateNodeRequest, PushMessagesRequest
from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor
from flwr.supernode.fleet_http_client import FleetHttpClient
from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor

from client.admission.tls import CERTIFICATE_OPTION, KEY_OPTION, RenewedContext, TlsFiles
from client.flower.lost_messages import LostMessages
from client.flower.node_state import SteadfastNodeStateFactory, answer_when_there, keep_message
from client.flower.task_host import PROGRAM
from client.flower.timeouts import abort_incomplete_requests, patch_timeouts, shorten_idle_pause
from client.status.node_activity import NOTES_VARIABLE, Answers, note_admission
from minet_core.errors import HostError
from minet_core.runtime.files.file_lock import locked_within
from minet_core.runtime.logs import chosen_formatter, set_up_from_environment, take_over
from minet_core.runtime.processes.task_token import start_with_token

OFFLINE_S = 2.0
"""How long a node that was signed off stays away. What the former process had been asked is lost with it, and the
server learns of it in one way: whoever waits for a reply of a node gets an error if he asks while it is offline."""

NODE_FILE = "node"
"""In the site's Flower folder: the number that the server gave its node; locked by the process that is the node."""


def run_supernode() -> None:
    """Run Flower's SuperNode."""
    client = fleet_client(_taken_tls_files())
    notes = Path(os.environ[NOTES_VARIABLE])
    node_file = _claimed(Path(os.environ["FLWR_HOME"]) / NODE_FILE)
    if node_file is not None:
        with contextlib.suppress(httpx.HTTPError):  # then it is refused until its signs of life are missed
            _sign_off(node_file, client)
    program: Any = importlib.import_module("flwr.supernode.cli.flower_supernode")
    handlers: Any = importlib.import_module("flwr.supernode.servicer.runtime.runtime_handlers")
    connection: Any = importlib.import_module("flwr.supernode.fleet_http_connection")
    for module, name in (
        (program, "NodeStateFactory"),
        (handlers, "confirm_message_received"),
        (handlers, "acquire_task"),
        (connection, "FleetHttpClient"),
    ):
        if not hasattr(module, name):
            raise HostError(f"{module.__name__} of the installed Flower has no {name}", expected="flwr 1.42")
    program.NodeStateFactory = functools.partial(
        SteadfastNodeStateFactory, on_admission=functools.partial(_note, node_file, notes)
    )
    handlers.confirm_message_received = keep_message
    handlers.acquire_task = answer_when_there(handlers.acquire_task)
    lost = LostMessages()
    connection.FleetHttpClient = lost.watched(client)
    _note_answers(Answers(notes))
    abort_incomplete_requests()
    lost.watch_transfers(importlib.import_module("flwr.supernode.start_client_internal"))
    shorten_idle_pause(lost.ask_again)
    uvicorn.config.LOGGING_CONFIG["formatters"]["default"] = {"()": chosen_formatter}
    program.flower_supernode()
    # It comes back where a request was refused for good (400, 403: the proxy's), and then its own interface would keep
    # the process for ever. Ended, it is started again, with the certificate that it has by then.
    signal.raise_signal(signal.SIGTERM)


def run_superexec() -> None:
    """Run Flower's SuperExec, for client applications alone; the token of a task stands in no arguments."""
    from flwr.supercore.cli import flower_superexec
    from flwr.supercore.constant import TaskType
    from flwr.supercore.superexec.executor.types import ExecutionSpec, LaunchResult

    executor: Any = importlib.import_module("flwr.supercore.superexec.executor.subprocess_executor")
    plugin: Any = importlib.import_module("flwr.supercore.superexec.run_superexec")
    for owner, name in (
        (getattr(executor, "SubprocessExecutor", executor), "launch"),
        (getattr(plugin, "AutoExecPlugin", plugin), "supported_task_types"),
    ):
        if not hasattr(owner, name):
            raise HostError(f"{owner.__name__} of the installed Flower has no {name}", expected="flwr 1.42")

    def launch(_self: object, spec: ExecutionSpec) -> LaunchResult:
        if spec.task_type != TaskType.CLIENT_APP:
            return LaunchResult.failed(f"a site runs no {spec.task_type}")
        argv = [PROGRAM, "--runtime-api-address", spec.runtime_api_address, "--insecure"]
        start_with_token(argv, spec.token)
        return LaunchResult.accepted()

    executor.SubprocessExecutor.launch = launch
    plugin.AutoExecPlugin.supported_task_types = frozenset({TaskType.CLIENT_APP})
    flower_superexec()


PROGRAMS: dict[str, Callable[[], None]] = {"supernode": run_supernode, "superexec": run_superexec}


def fleet_client(files: TlsFiles) -> type[FleetHttpClient]:
    """Flower's client of the server, with the site's certificate; Flower's own has an option for none.

    A server without a proxy in front asks for none, and takes no notice. Proxies are those that httpx finds in the
    environment (HTTPS_PROXY).
    """

    class SiteFleetClient(FleetHttpClient):
        @classmethod
        def from_server_address(
            cls,
            server_address: str,
            insecure: bool,
            root_certificates: bytes | str | None,
            interceptors: Sequence[Any],
            *,
            retry_invoker: Any = None,
        ) -> Self:
            if insecure or root_certificates is None:
                raise HostError("a site connects by TLS alone", expected="the kit's authority")
            return cls(
                f"https://{server_address}",
                interceptors=interceptors,
                verify=RenewedContext(files),
                retry_invoker=retry_invoker,
            )

    return SiteFleetClient


def _taken_tls_files() -> TlsFiles:
    """The TLS files from the command's arguments; ours are taken out, since Flower knows no such option."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    for option in (CERTIFICATE_OPTION, KEY_OPTION):
        parser.add_argument(option, required=True, type=Path)
    ours, flowers = parser.parse_known_args(sys.argv[1:])
    sys.argv[1:] = flowers
    roots = argparse.ArgumentParser(allow_abbrev=False)
    roots.add_argument("--root-certificates", required=True, type=Path)
    authority, _ = roots.parse_known_args(flowers)
    return TlsFiles(authority.root_certificates, ours.client_certificate, ours.client_key)


def _claimed(path: Path) -> IO[str] | None:
    """The node's file, locked for the life of this process; None where another living process is the node."""
    stream = path.open("a+", encoding="utf-8")
    if locked_within(stream.fileno(), 0.0):
        return stream
    stream.close()
    return None


def _sign_off(node_file: IO[str], fleet: type[FleetHttpClient]) -> None:
    """Tell the server that the former node of this site has ended, which a node that was killed could not."""
    node_file.seek(0)
    number = node_file.read()
    if not number.isdecimal():
        return
    parser = argparse.ArgumentParser()
    for option in ("--superlink", "--root-certificates", "--auth-supernode-private-key"):
        parser.add_argument(option, required=True)
    options, _ = parser.parse_known_args(sys.argv[1:])
    key = load_ssh_private_key(Path(options.auth_supernode_private_key).read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)  # Flower refuses any other
    client = fleet.from_server_address(
        options.superlink,
        False,
        Path(options.root_certificates).read_bytes(),
        interceptors=[
            RuntimeVersionHttpInterceptor(component_name="SuperNode"),
            NodeAuthHttpInterceptor(key, key.public_key()),
        ],
    )
    try:
        client.DeactivateNode(DeactivateNodeRequest(node_id=int(number)))
        time.sleep(OFFLINE_S)
    finally:
        client.close()


def _note(node_file: IO[str] | None, notes: Path, node_id: int) -> None:
    """Keep the node's number for the next process of this site that signs it off, and that it was let in."""
    if node_file is None:
        return
    node_file.truncate(0)
    node_file.write(str(node_id))
    node_file.flush()
    note_admission(notes, node_id)


def _note_answers(answers: Answers) -> None:
    """Let this process note when the server answers, and which replies were handed over whole."""

    connection: Any = importlib.import_module("flwr.supernode.fleet_http_connection")
    loop: Any = importlib.import_module("flwr.supernode.start_client_internal")
    for module, name in (
        (connection, "FleetHttpClient"),
        (connection.FleetHttpClient, "_unary_unary"),
        (loop, "push_object_contents_from_iterable"),
    ):
        if not hasattr(module, name):
            raise HostError(f"{module.__name__} of the installed Flower has no {name}", expected="flwr 1.42")

    class NotingClient(connection.FleetHttpClient):  # type: ignore[misc]
        def _unary_unary(self, *, request: Any, **options: Any) -> Any:
            response = super()._unary_unary(request=request, **options)
            answers.note_answer()
            if isinstance(request, PushMessagesRequest):
                answers.announce(request.messages_list[0].metadata.reply_to_message_id)
            return response

    connection.FleetHttpClient = NotingClient
    hand_over = loop.push_object_contents_from_iterable

    def noted(*args: Any, **options: Any) -> None:
        hand_over(*args, **options)
        answers.note_handed_over()

    loop.push_object_contents_from_iterable = noted


if __name__ == "__main__":
    name = sys.argv.pop(1)
    sys.argv[0] = f"flower-{name}"
    set_up_from_environment()
    take_over("flwr")
    patch_timeouts()
    PROGRAMS[name]()
