"""`fedminet server ...`: the coordinator's commands."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from minet_core.runtime.logs import DEFAULT_FORMAT, DEFAULT_LEVEL, FORMAT_VARIABLE, LEVEL_VARIABLE
from minet_core.runtime.option_groups import with_option_groups
from server.admission.commands import (
    PassphraseFile,
    admit,
    certificates,
    passphrase,
    renew,
    renew_server,
    revoke,
)
from server.audit_commands import audit_commands
from server.backup.commands import backup, restore

server_commands = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@server_commands.callback()
def _for_the_coordinator() -> None:
    """Before each of its commands: the coordinator is asked and asks nobody, so no web proxy is looked at; and what it
    writes is its own user's alone.
    """
    from minet_core.runtime.files.private_files import stay_private
    from minet_core.runtime.processes.proxy_variables import stay_on_this_machine

    stay_on_this_machine()
    stay_private()


Home = Annotated[Path, typer.Argument(help="The coordinator's folder.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a script.")]
LogLevel = Annotated[str, typer.Option(envvar=LEVEL_VARIABLE, help="debug, info, warning or error.")]
LogFormat = Annotated[str, typer.Option(envvar=FORMAT_VARIABLE, help="text, or json: one object a line.")]
RunName = Annotated[str, typer.Option("--name", help="The run's name.")]


@server_commands.command()
def init(
    home: Home,
    name: Annotated[str, typer.Option(help="The federation's name.")] = "fedminet",
    site: Annotated[
        list[str] | None,
        typer.Option(help="A member's name; repeat it. Without it the paper's three: sms, umr, fastmri."),
    ] = None,
    host: Annotated[
        list[str] | None,
        typer.Option(
            help="A name or address sites reach this server by; repeat it. Without it this machine alone."
        ),
    ] = None,
    port: Annotated[int, typer.Option(help="The port of the server.")] = 9443,
    public_port: Annotated[
        int | None, typer.Option(help="The port that sites reach, where a proxy is in front of the server.")
    ] = None,
    bind: Annotated[
        str, typer.Option(help="The address to listen on; 0.0.0.0 in a container behind the proxy.")
    ] = "127.0.0.1",
    preset: Annotated[str, typer.Option(help="quick, late or paper.")] = "quick",
    scale: Annotated[int, typer.Option(help="2 or 4.")] = 2,
    rounds: Annotated[int | None, typer.Option(help="Rounds, if not the preset's.")] = None,
    algorithm: Annotated[
        str, typer.Option(help="fedavg, fedprox, scaffold, fedadam or personal-head.")
    ] = "fedavg",
    passphrase_file: PassphraseFile = None,
) -> None:
    """Make the coordinator's folder. It has federation.yaml and server.yaml to edit, a CA and a server certificate."""
    from minet_core.admission.fingerprints import authority_fingerprint
    from minet_core.admission.kit import read_authority
    from minet_core.settings.presets import federation_of
    from minet_core.settings.yaml_file import parse_settings
    from server.admission.init_server import init_server, require_new, with_local_name
    from server.admission.passphrase import read_passphrase
    from server.admission.pki import ca_files
    from server.server_home import LOCAL_NAMES, ServerSettings

    sites = tuple(site or ("sms", "umr", "fastmri"))
    federation = federation_of(
        name=name, sites=sites, preset=preset, scale=scale, rounds=rounds, algorithm=algorithm
    )
    hosts = with_local_name(tuple(host or LOCAL_NAMES), bind=bind)
    addresses = {"hosts": hosts, "port": port, "public_port": public_port, "bind": bind}
    settings = parse_settings(addresses, ServerSettings, source="the options")
    require_new(home)
    made = init_server(home, federation, settings, passphrase=read_passphrase(passphrase_file, new=True))
    typer.echo(
        f"The coordinator of {name!r} is at {made.path}. Edit federation.yaml there, then admit the sites."
    )
    typer.echo("The fingerprint of its authority, which every site asks for by telephone:")
    typer.echo(f"  {authority_fingerprint(read_authority(ca_files(made.pki).certificate))}")


@server_commands.command()
def start(home: Home, log_level: LogLevel = DEFAULT_LEVEL, log_format: LogFormat = DEFAULT_FORMAT) -> None:
    """Start the server and keep it running until Ctrl-C. It logs to the standard error."""
    from minet_core.runtime.logs import set_up_logging
    from server.ledger import note_act
    from server.processes.server_processes import serve
    from server.runs.resubmit import resubmit_abandoned_runs
    from server.server_home import ServerHome

    set_up_logging(level=log_level, form=log_format)
    coordinator = ServerHome.at(home)
    note_act(coordinator, "started", federation=coordinator.federation().digest())
    try:
        serve(coordinator, tend=lambda control: resubmit_abandoned_runs(coordinator, control))
    finally:
        note_act(coordinator, "stopped")


@server_commands.command()
def check(home: Home) -> None:
    """Check what keeps this machine's other users out. Of the files, and of a running SuperLink's interfaces."""
    from minet_core.errors import ServerUnreachable
    from server.processes.walls import hold_files, require_closed
    from server.runs.follow import control_of
    from server.server_home import ServerHome

    coordinator = ServerHome.at(home)
    for line in hold_files(coordinator):
        typer.echo(line)
    if not coordinator.settings().accept_shared_machine:
        typer.echo(f"files: {coordinator.path} is its owner's alone.")
    try:
        tried = require_closed(coordinator, control_of(coordinator))
    except ServerUnreachable:
        typer.echo("interfaces: not tried, since the server does not run; its start tries them.")
    else:
        typer.echo("interfaces: nobody without the credential is answered, but for the sites' calls.")
        with_it = "is answered no more" if tried else "was not tried: no second address here"
        typer.echo(f"interfaces: who has the credential and is not on this machine {with_it}.")


@server_commands.command()
def run(
    home: Home,
    name: RunName,
    resume: Annotated[bool, typer.Option("--resume", help="Continue a run that was interrupted.")] = False,
    json_output: AsJson = False,
) -> None:
    """Run the federation once, and wait for its end. The server is started already; a run of this name is continued."""
    from rich.console import Console

    from minet_core.report.table import print_table
    from minet_core.runtime.progress import progress
    from server.runs.follow import run_to_end
    from server.server_home import ServerHome

    with progress("Rounds", quiet=json_output) as advance:
        summary = run_to_end(
            ServerHome.at(home),
            name,
            progress=advance,
            resume=resume,
            say=lambda text: typer.echo(text, err=True),
        )
    if json_output:
        typer.echo(json.dumps(summary.model_dump(mode="json", by_alias=True)))
    else:
        print_table(summary, Console())
    if summary.status == "failed":
        raise typer.Exit(5)


@server_commands.command()
def status(home: Home, json_output: AsJson = False) -> None:
    """Say who is online, and how the runs stand. It also says whether the server answers.

    Exit status 0: the server answers; 1: it does not. Sites that are offline and runs that ended count for nothing.
    """
    from server.runs.follow import server_status, status_lines
    from server.server_home import ServerHome

    facts = server_status(ServerHome.at(home))
    typer.echo(json.dumps(facts) if json_output else "\n".join(status_lines(facts)))
    if not facts["healthy"]:
        raise typer.Exit(1)


@server_commands.command()
def stop(home: Home, name: RunName) -> None:
    """Stop a run; what it has completed is kept."""
    from server.runs.follow import stop_run
    from server.server_home import ServerHome

    stop_run(ServerHome.at(home), name)
    typer.echo(f"Run {name} is stopped.")


@server_commands.command()
def dashboard(
    home: Home,
    bind: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port to listen on.")] = 9480,
    host: Annotated[
        list[str] | None, typer.Option(help="A further name that it is reached by, as a proxy's; repeat it.")
    ] = None,
    plain_http: Annotated[
        bool, typer.Option("--plain-http", help="Listen beyond this machine: TLS is the proxy's.")
    ] = False,
    allow_control: Annotated[
        bool, typer.Option("--allow-control", help="Let who logs in stop and resume runs.")
    ] = False,
    files_only: Annotated[
        bool,
        typer.Option("--files-only", help="Ask no SuperLink: read what the started server writes down."),
    ] = False,
    log_level: LogLevel = DEFAULT_LEVEL,
    log_format: LogFormat = DEFAULT_FORMAT,
) -> None:
    """Serve the coordinator's screen until Ctrl-C. And /metrics for Prometheus. It reads, and shows no scan."""
    from dataclasses import replace

    from minet_core.errors import InvalidSetting
    from minet_core.runtime.logs import set_up_logging
    from server.dashboard.serve import binding_of, serve_dashboard
    from server.server_home import ServerHome

    set_up_logging(level=log_level, form=log_format)
    if files_only and allow_control:
        raise InvalidSetting(
            "runs are stopped and resumed at the SuperLink, which a screen of files does not ask",
            got="--files-only --allow-control",
            expected="one of the two",
        )
    coordinator = ServerHome.at(home)
    binding = replace(binding_of(bind, port, tuple(host or ()), plain_http=plain_http), files_only=files_only)
    may = "stop and resume after login" if allow_control else "read-only"
    typer.echo(f"The screen is at {binding.url}, {may}. Ctrl-C ends it.")
    if plain_http:
        typer.echo("It speaks plain HTTP: TLS, and who may reach it, are the proxy's.", err=True)
    serve_dashboard(coordinator, binding, allow_control=allow_control)


@server_commands.command()
def dashboard_password(
    home: Home,
    stdin: Annotated[
        bool, typer.Option("--stdin", help="Read the password from the first line of the standard input.")
    ] = False,
) -> None:
    """Set the password for `dashboard --allow-control`. Its hash alone is kept, and a former one no longer counts."""
    import sys

    from server.dashboard.password import set_password
    from server.server_home import ServerHome

    coordinator = ServerHome.at(home)
    if stdin:
        password = sys.stdin.readline().rstrip("\r\n")
    else:
        password = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
    typer.echo(f"The password's hash is in {set_password(coordinator, password)}.")


for _command in (admit, backup, restore, certificates, renew, renew_server, revoke, passphrase):
    server_commands.command()(with_option_groups(_command))
server_commands.add_typer(audit_commands, name="audit")

IN_THE_ORDER_OF_USE = (
    "init",
    "check",
    "admit",
    "start",
    "run",
    "status",
    "stop",
    "dashboard",
    "dashboard_password",
    "backup",
    "restore",
    "certificates",
    "renew",
    "renew_server",
    "revoke",
    "passphrase",
)
"""As the page of help has them: first what a coordinator does for a run, in its order. Another command comes last."""

server_commands.registered_commands.sort(
    key=lambda known: (*IN_THE_ORDER_OF_USE, (name := getattr(known.callback, "__name__", ""))).index(name)
)
