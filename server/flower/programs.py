"""Flower's own programs as the coordinator runs them.

    python -P -m server.flower.programs flower-superlink|flower-superexec|flwr-serverapp ARGUMENTS

- The SuperLink answers the sites' calls, and everything else only to who has this folder's credential
  (server.flower.interface_guard). Who asks for messages is answered when there is one (server.flower.held_answers).
  What it deletes is overwritten in its database.
- SuperExec runs server applications and no other kind of task, by this program, and hands the task's token over by its
  standard input: arguments can be read by every user of the machine.
- A server application runs the federation's own bundle, byte for byte (minet_core.admission.bundle_guard). Flower's
  control interface takes any bundle from whoever reaches it, and a bundle may hold code.

Each refuses a Flower in which it does not find what it changes. It has the coordinator's folder from its environment.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from minet_core.admission.bundle_guard import guard_bundle
from minet_core.errors import HostError
from minet_core.runtime.files.atomic_write import sha256_of_file
from minet_core.runtime.logs import chosen_formatter, set_up_from_environment, take_over
from minet_core.runtime.processes.flower_environment import SERVER_VARIABLE
from minet_core.runtime.processes.task_token import start_with_token, with_token_from
from server.flower.control_credential import CredentialInterceptor, read_credential
from server.flower.file_names import ProgramFiles
from server.flower.held_answers import Arrivals, HeldAnswers, tell_arrivals
from server.flower.interface_guard import InterfaceGuard

SUPERLINK, SUPEREXEC, SERVERAPP = "flower-superlink", "flower-superexec", "flwr-serverapp"

_SECURE_PRAGMAS = (("secure_delete", "ON"), ("journal_size_limit", "0"))
"""SQLite's: what is deleted is overwritten with zeros, and the log is cut off when it begins anew."""

CONTROL_LAYERS = (
    "ControlSensitiveResponseMiddleware",
    "ControlAuthenticationMiddleware",
    "ControlLicenseMiddleware",
    "ControlEventLogMiddleware",
)
"""Flower's, each of which hands on what is not for the control interface."""

NOT_CONTROL = ("/v1/fleet/", "/v1/runtime/")


def program_arguments(name: str) -> list[str]:
    """How one of them is started. -P: the folder that a command is given in holds no module of ours."""
    return [sys.executable, "-P", "-m", "server.flower.programs", name]


def run_superlink(home: ProgramFiles) -> None:
    """Run Flower's SuperLink, its control and runtime interface behind the credential."""
    database, main = (
        _module("flwr.supercore.sql_mixin", "SQLITE_PRAGMAS"),
        _module("flwr.superlink.main", "create_app"),
    )
    database.SQLITE_PRAGMAS = (*database.SQLITE_PRAGMAS, *_SECURE_PRAGMAS)
    create, credential = main.create_app, read_credential(home.control_credential)
    _pass_by_control_layers()
    arrivals = Arrivals()
    tell_arrivals(arrivals)

    def guarded(*args: Any, **options: Any) -> InterfaceGuard:
        return InterfaceGuard(HeldAnswers(create(*args, **options), arrivals), credential)

    main.create_app = guarded
    _log_requests_in_our_form()
    take_over("flwr")
    _module("flwr.superlink.cli.flower_superlink", "flower_superlink").flower_superlink()


def run_superexec(home: ProgramFiles) -> None:
    """Run Flower's SuperExec, for server applications alone."""
    from flwr.supercore.constant import TaskType
    from flwr.supercore.superexec.executor.types import ExecutionSpec, LaunchResult

    executor = _module("flwr.supercore.superexec.executor.subprocess_executor", "SubprocessExecutor")
    plugin = _module("flwr.supercore.superexec.run_superexec", "AutoExecPlugin")
    for owner, name in (
        (executor.SubprocessExecutor, "launch"),
        (plugin.AutoExecPlugin, "supported_task_types"),
    ):
        _require(owner, name)

    def launch(_self: object, spec: ExecutionSpec) -> LaunchResult:
        if spec.task_type != TaskType.SERVER_APP:
            return LaunchResult.failed(f"a coordinator runs no {spec.task_type}")
        start_with_token(_server_app_arguments(spec), spec.token, quiet=spec.suppress_output)
        return LaunchResult.accepted()

    executor.SubprocessExecutor.launch = launch
    plugin.AutoExecPlugin.supported_task_types = frozenset({TaskType.SERVER_APP})
    _show_credential(home.control_credential)
    take_over("flwr")
    _module("flwr.supercore.cli", "flower_superexec").flower_superexec()


def run_serverapp(home: ProgramFiles) -> None:
    """Run one server application, if its bundle is the federation's own."""
    sys.argv[1:] = with_token_from(sys.argv[1:], sys.stdin)
    runner = _module("flwr.superlink.runtime.run_serverapp", "install_from_fab")
    install = runner.install_from_fab

    def guarded_install(content: bytes, *args: Any, **options: Any) -> Path:
        if not home.bundle.is_file():
            raise HostError("the app bundle is missing", got=home.bundle, action="Run `fedminet server init`")
        guard_bundle(content, digest=sha256_of_file(home.bundle))
        return Path(install(content, *args, **options))

    runner.install_from_fab = guarded_install
    _show_credential(home.control_credential)
    take_over("flwr")
    _module("flwr.superlink.cli.flwr_serverapp", "flwr_serverapp").flwr_serverapp()


def home_from_environment() -> ProgramFiles:
    """The coordinator's folder, which the started server names. Raises HostError (FM-S500) where it does not."""
    named = os.environ.get(SERVER_VARIABLE)
    if not named:
        raise HostError(f"{SERVER_VARIABLE} names no folder", action="Start it with `fedminet server start`")
    return ProgramFiles(Path(named))


PROGRAMS: dict[str, Callable[[ProgramFiles], None]] = {
    SUPERLINK: run_superlink,
    SUPEREXEC: run_superexec,
    SERVERAPP: run_serverapp,
}


def _server_app_arguments(spec: Any) -> list[str]:
    """Those of Flower's own launch (SubprocessExecutor, 1.42), without the token."""
    argv = [*program_arguments(SERVERAPP), "--runtime-api-address", spec.runtime_api_address]
    if spec.insecure:
        argv.append("--insecure")
    elif spec.root_certificates_path is not None:
        argv += ["--root-certificates", spec.root_certificates_path]
    if spec.parent_pid is not None:
        argv += ["--parent-pid", str(spec.parent_pid)]
    return argv


def _show_credential(credential: Path) -> None:
    """Let every request of this process to the runtime interface carry the credential."""
    client: Any = _module("flwr.supercore.runtime", "RuntimeHttpClient").RuntimeHttpClient
    _require(client, "from_server_address")
    connect = client.from_server_address.__func__

    def connected(cls: Any, /, *args: Any, interceptors: Sequence[Any], **options: Any) -> Any:
        return connect(cls, *args, interceptors=[*interceptors, CredentialInterceptor(credential)], **options)

    client.from_server_address = classmethod(connected)


def _log_requests_in_our_form() -> None:
    """Let the SuperLink's HTTP server, which keeps handlers of its own, write what it logs in the chosen form."""
    program = _module("flwr.superlink.cli.flower_superlink", "get_uvicorn_log_config")
    configuration_of = program.get_uvicorn_log_config

    def in_our_form(level: int) -> dict[str, Any]:
        configuration: dict[str, Any] = configuration_of(level)
        configuration["formatters"] = {name: {"()": chosen_formatter} for name in configuration["formatters"]}
        return configuration

    program.get_uvicorn_log_config = in_our_form


def _pass_by_control_layers() -> None:
    """Let requests of the sites' and the runtime interface pass by the layers that look at none but the control
    interface's: Starlette starts a task and copies the answer in each of them, for every part of every message.
    """
    layers = importlib.import_module("flwr.superlink.routers.control.middlewares")
    for name in CONTROL_LAYERS:
        _require(layers, name)
        layer = getattr(layers, name)
        layer.__call__ = _passed_by(layer.__call__)


def _passed_by(call: Callable[..., Any]) -> Callable[..., Any]:
    async def called(layer: Any, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["path"].startswith(NOT_CONTROL):
            await layer.app(scope, receive, send)
        else:
            await call(layer, scope, receive, send)

    return called


def _module(name: str, attribute: str) -> Any:
    module: Any = importlib.import_module(name)
    _require(module, attribute)
    return module


def _require(owner: Any, name: str) -> None:
    if not hasattr(owner, name):
        raise HostError(f"{owner.__name__} of the installed Flower has no {name}", expected="flwr 1.42")


if __name__ == "__main__":
    chosen = sys.argv.pop(1)
    sys.argv[0] = chosen
    set_up_from_environment()
    PROGRAMS[chosen](home_from_environment())
