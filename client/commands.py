"""`fedminet site ...`: the hospital's commands."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from client.admission.commands import accept, renew, request
from client.audit_commands import audit_commands
from client.ingest_commands import ingest
from client.pacs.commands import fetch
from client.patient_commands import withdraw
from client.receive.commands import receive
from client.status.finding import Finding
from minet_core.runtime.logs import DEFAULT_FORMAT, DEFAULT_LEVEL, FORMAT_VARIABLE, LEVEL_VARIABLE
from minet_core.runtime.option_groups import with_option_groups

site_commands = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

Home = Annotated[Path, typer.Argument(help="The site's folder.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a script.")]
LogLevel = Annotated[str, typer.Option(envvar=LEVEL_VARIABLE, help="debug, info, warning or error.")]
LogFormat = Annotated[str, typer.Option(envvar=FORMAT_VARIABLE, help="text, or json: one object a line.")]


@site_commands.callback()
def _for_the_hospital() -> None:
    """Before each of its commands: what it writes is its own user's alone."""
    from minet_core.runtime.files.private_files import stay_private

    stay_private()


@site_commands.command()
def init(
    home: Home,
    definition: Annotated[str, typer.Option(help="sms, umr or fastmri, or the path of a site.yaml.")],
    name: Annotated[str | None, typer.Option(help="The site's name, if not the definition's.")] = None,
    json_output: AsJson = False,
) -> None:
    """Make the site's folder. It has site.yaml to edit, the keys, and the request for admission."""
    from client.admission.init_site import init_site

    made = init_site(home, chosen=definition, name=name)
    if json_output:
        typer.echo(json.dumps(made))
        return
    typer.echo(f"Site {made['name']} is at {home}. Edit site.yaml there before you ingest.")
    typer.echo(f"Send the coordinator {made['request']}, and read out its fingerprint by telephone:")
    typer.echo(f"  {made['fingerprint']}")


@site_commands.command()
def scan(
    source: Annotated[Path, typer.Argument(help="A folder with DICOM files, or a BIDS tree.")],
    site: Annotated[
        Path | None,
        typer.Option(help="The site's folder, for the rules of its site.yaml; else the default rules."),
    ] = None,
    files: Annotated[
        bool,
        typer.Option(
            "--files", help="Print the paths of the files that are in no series; they may hold names."
        ),
    ] = False,
    json_output: AsJson = False,
) -> None:
    """Show the series of a folder of DICOM or a BIDS tree. With the role that each would get, or why none."""
    from client.site_home import SiteHome
    from sites.pairing.series_table import series_table, table_text
    from sites.settings.scan_files import DicomFiles

    settings = None if site is None else SiteHome.at(site).settings()
    rules, protocol = (DicomFiles(), None) if settings is None else (settings.dicom, settings.protocol)
    table = series_table(source, rules, protocol=protocol, files_too=files)
    if settings is not None and settings.reader == "nifti" and settings.nifti.choose_by == "names":
        typer.echo("This site goes by names: nifti.choose_by in site.yaml.", err=True)
    typer.echo(json.dumps(table) if json_output else table_text(table))


@site_commands.command()
def check(
    home: Home,
    before_start: Annotated[
        bool, typer.Option("--before-start", help="Make the checks of `site start`, and start nothing.")
    ] = False,
    wait: Annotated[float, typer.Option(help="--before-start: how long to wait for the server, s.")] = 30.0,
    json_output: AsJson = False,
) -> None:
    """Verify the store against its digests, and print what it holds."""
    from client.site_home import SiteHome
    from sites.store.verify import check as check_store

    if before_start:
        from client.preflight.preflight import preflight, require_ready

        findings = preflight(SiteHome.at(home), thorough=True, reach_deadline_s=wait)
        _show_findings(findings, json_output=json_output)
        require_ready(findings)
        return
    report = check_store(SiteHome.at(home).store)
    typer.echo(json.dumps(report.as_json()) if json_output else report.as_text())


@site_commands.command()
def start(
    home: Home,
    kit: Annotated[
        Path | None, typer.Option(help="The kit from the coordinator, at the first start.")
    ] = None,
    port: Annotated[
        int, typer.Option(help="Loopback port for the client's own processes; 0: any free one.")
    ] = 0,
    wait: Annotated[float, typer.Option(help="How long to wait for the server at first, seconds.")] = 30.0,
    fingerprint: Annotated[
        str | None, typer.Option(help="With --kit: the authority's digits, as for `fedminet site accept`.")
    ] = None,
    thorough: Annotated[
        bool, typer.Option("--thorough", help="Read every byte of the store before the start.")
    ] = False,
    part: Annotated[
        str, typer.Option(help="all; or node or trainer, each in a container of its own: docs/containers.md.")
    ] = "all",
    json_output: AsJson = False,
    log_level: LogLevel = DEFAULT_LEVEL,
    log_format: LogFormat = DEFAULT_FORMAT,
) -> None:
    """Start the site's client, and keep it running until Ctrl-C. The site is checked first. It logs to stderr."""
    from client.admission.kit import accept_kit
    from client.operator_acts import noted_start
    from client.preflight.preflight import log_findings
    from client.processes.node_and_trainer import require_part, run_node, run_trainer
    from client.processes.site_processes import run_site
    from client.site_home import SiteHome
    from minet_core.runtime.logs import set_up_logging

    set_up_logging(level=log_level, form=log_format)
    site = SiteHome.at(home)
    if kit is not None and kit.resolve() != site.kit.resolve():
        accept_kit(site, kit, fingerprint=fingerprint)

    def show(findings: Sequence[Finding]) -> None:
        if log_format == "json" and not json_output:
            log_findings(findings)
        else:
            _show_findings(findings, json_output=json_output)

    chosen = require_part(part)
    with noted_start(site, part=chosen):
        match chosen:
            case "node":
                run_node(site, port=port, reach_deadline_s=wait, show=show)
            case "trainer":
                run_trainer(site, thorough=thorough, show=show)
            case "all":
                run_site(site, port=port, thorough=thorough, reach_deadline_s=wait, show=show)


@site_commands.command()
def adapt(
    home: Home,
    model: Annotated[
        Path | None,
        typer.Option(
            help="The model, a .safetensors file; without it, the one that the last adaptation began with."
        ),
    ] = None,
    json_output: AsJson = False,
) -> None:
    """Train a model further on this site's own slices. What its validation patients choose is kept.

    For new patients, for a new scanner, and for a site that took no part. Given again, it goes on.
    """
    from client.rounds.adapt_file import adapt_file, adapted_as_text
    from client.site_home import SiteHome
    from minet_core.runtime.memory import keep_freed_memory
    from minet_core.runtime.progress import progress

    site = SiteHome.at(home)
    keep_freed_memory()
    with progress("Adapting, steps", quiet=json_output) as advance:
        page = adapt_file(site, model, advance=advance)
    typer.echo(json.dumps(page) if json_output else adapted_as_text(page))


@site_commands.command()
def status(home: Home, json_output: AsJson = False) -> None:
    """Say whether the site is registered and training. Its last round is shown too.

    Exit status 0: the client runs, and is registered or waits to be let in; 1: it does not run, or hangs.
    """
    from client.status.site_status import as_json, as_text, read_status

    def checked_now() -> Sequence[Finding]:
        from client.preflight.check_admission import check_admission
        from client.site_home import SiteHome

        return check_admission(SiteHome(home), count_model=False).findings

    if not (home / "site.yaml").is_file():
        from client.site_home import SiteHome

        SiteHome.at(home)  # refuses with its own message
    found = read_status(home, check=checked_now)
    typer.echo(json.dumps(as_json(found)) if json_output else as_text(found))
    raise typer.Exit(found.exit_status)


def _show_findings(findings: Sequence[Finding], *, json_output: bool) -> None:
    """The table on standard error, or one JSON line on standard output."""
    from client.status.finding import refusals

    if json_output:
        page = {
            "ready": not refusals(findings),
            "findings": [finding.as_json() for finding in findings],
        }
        typer.echo(json.dumps(page))
        return
    from client.preflight.preflight import print_findings

    print_findings(findings)


for _command in (ingest, request, accept, withdraw, renew, receive, fetch):
    site_commands.command()(with_option_groups(_command))
site_commands.add_typer(audit_commands, name="audit")

IN_THE_ORDER_OF_USE = (
    "init",
    "scan",
    "ingest",
    "check",
    "request",
    "accept",
    "start",
    "status",
    "adapt",
    "withdraw",
    "renew",
    "receive",
    "fetch",
)
"""As the page of help has them: first what a hospital does once, in its order. Another command comes last."""

site_commands.registered_commands.sort(
    key=lambda known: (*IN_THE_ORDER_OF_USE, (name := getattr(known.callback, "__name__", ""))).index(name)
)
