"""`fedminet site ...`: the hospital's commands."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from client.admission.commands import add_admission_commands
from client.audit_commands import audit_commands
from client.patient_commands import add_patient_commands
from client.receive.commands import add_receive_commands
from client.status.finding import Finding
from minet_core.errors import DataError
from minet_core.runtime.logs import DEFAULT_FORMAT, DEFAULT_LEVEL, FORMAT_VARIABLE, LEVEL_VARIABLE

if TYPE_CHECKING:
    from client.site_home import SiteHome
    from sites.ingest_plan import IngestPlan
    from sites.ingest_report import IngestReport
    from sites.settings.site_settings import SiteSettings

site_commands = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
add_admission_commands(site_commands)
add_patient_commands(site_commands)
add_receive_commands(site_commands)
site_commands.add_typer(audit_commands, name="audit")

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
    """Make the site's folder: its site.yaml to edit, its keys, and its request for admission."""
    from client.admission.init_site import init_site

    made = init_site(home, chosen=definition, name=name)
    if json_output:
        typer.echo(json.dumps(made))
        return
    typer.echo(f"Site {made['name']} is at {home}. Edit site.yaml there before you ingest.")
    typer.echo(f"Send the coordinator {made['request']}, and read out its fingerprint by telephone:")
    typer.echo(f"  {made['fingerprint']}")


@site_commands.command()
def ingest(
    home: Home,
    source: Annotated[Path, typer.Argument(help="The folder with the scans.")],
    allow_few_patients: Annotated[
        bool, typer.Option(help="Accept fewer patients than a 7:1:2 split needs; the report repeats it.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print who is taken for which patient, and read headers alone.")
    ] = False,
    accept_names: Annotated[
        bool, typer.Option("--accept-names", help="Take patients' names as they are, dates and counters too.")
    ] = False,
    prune: Annotated[
        bool, typer.Option("--prune", help="Remove the store's pairs whose scans are not in the folder.")
    ] = False,
    processes: Annotated[
        int | None,
        typer.Option(min=1, help="How many make pairs at once; else as many as cores and memory allow."),
    ] = None,
    reread: Annotated[
        bool, typer.Option("--reread", help="Read every file again, also what has not changed since.")
    ] = False,
    json_output: AsJson = False,
) -> None:
    """Read the scans, pair and register them, and put what was accepted into the store."""
    from client.site_home import SiteHome
    from minet_core.runtime.progress import progress
    from sites.ingest import VERSION
    from sites.ingest import ingest as ingest_scans
    from sites.ingest_plan import plan_ingest
    from sites.last_ingest import recall

    site = SiteHome.at(home)
    settings = site.settings()
    if allow_few_patients:
        settings = settings.model_copy(update={"allow_few_patients": True})
    if accept_names:
        settings = settings.model_copy(update={"accept_patient_names": True})
    if not (dry_run or reread):
        known = recall(source, site.store, settings, version=VERSION, prune=prune)
        if known is not None:
            _show_ingested(site, known, settings, json_output=json_output)
            return
    plan = plan_ingest(source, settings, skip=site.store, headers=dry_run)
    if dry_run:
        typer.echo(json.dumps(plan.as_json()) if json_output else plan.as_text())
        raise typer.Exit(DataError.exit_status if any(one.stops for one in plan.warnings) else 0)
    if not json_output:
        typer.echo(plan.as_text())
    with progress("Ingesting", quiet=json_output) as advance, _causes_shown(plan):
        report = ingest_scans(
            source,
            site.store,
            settings,
            found=plan.found,
            prune=prune,
            progress=advance,
            n_processes=processes,
            reread=reread,
        )
    _show_ingested(site, report, settings, json_output=json_output)


@contextlib.contextmanager
def _causes_shown(plan: IngestPlan) -> Iterator[None]:
    """Where nothing is taken, the refusals that led there come before the failure."""
    from minet_core.errors import NoScansAccepted, TooFewPatients
    from sites.ingest_report import refusal_lines

    try:
        yield
    except (NoScansAccepted, TooFewPatients):
        for line in refusal_lines(plan.found.refused):
            typer.echo(line, err=True)
        raise


def _show_ingested(
    site: SiteHome, report: IngestReport, settings: SiteSettings, *, json_output: bool
) -> None:
    """The report, its page, and what to send; ends with the status of refused data where there is any."""
    from sites.onboarding.page import FILE, write_page

    write_page(report, site.store, settings, site.path / FILE)
    request = _declare_ingested(site)
    typer.echo(json.dumps(report.as_json()) if json_output else report.as_text())
    if not json_output:
        typer.echo(f"Look at {site.path / FILE}: the pairs, the figures, and what was refused.")
    if not json_output and request is not None:
        typer.echo(
            f"Send the coordinator {request}: public keys, a digest and a count, no scan and no name of a patient."
        )
    if report.refused:
        for refusal in report.refused:
            typer.echo(refusal.message, err=True)
        raise typer.Exit(DataError.exit_status)


def _declare_ingested(site: SiteHome) -> Path | None:
    """Declare the new cohort and note the act; the request that holds it, where the site has keys."""
    from client.admission.declaration import declare
    from client.admission.keys import SiteKeys
    from client.admission.request import make_request
    from client.operator_acts import note_ingest

    declare(site)
    note_ingest(site)
    return make_request(site).path if SiteKeys.of(site.keys).private_key.is_file() else None


@site_commands.command()
def scan(
    source: Annotated[Path, typer.Argument(help="A folder with DICOM files.")],
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
    """Show what a folder of DICOM holds: each series, the role it would get, and why not. Nothing is written."""
    from client.site_home import SiteHome
    from sites.pairing.series_table import series_table, table_text
    from sites.settings.site_settings import DicomFiles

    rules = DicomFiles() if site is None else SiteHome.at(site).settings().dicom
    table = series_table(source, rules, files=files)
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
    """Check the site, then start its client and keep it running until Ctrl-C. It logs to the standard error."""
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
    """Train a model further on this site's own slices, and keep what its validation patients choose.

    For new patients, for a new scanner, and for a site that took no part. Given again, it goes on.
    """
    from client.rounds.adapt_file import adapt_file, adapted_as_text
    from client.site_home import SiteHome

    page = adapt_file(SiteHome.at(home), model)
    typer.echo(json.dumps(page) if json_output else adapted_as_text(page))


@site_commands.command()
def status(home: Home, json_output: AsJson = False) -> None:
    """Say whether the site is registered, configured and training, and its last round.

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
