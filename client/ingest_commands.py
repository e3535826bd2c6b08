"""`fedminet site ingest`: from a folder of scans, or from the inbox of `fedminet site receive`, to the store."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from minet_core.errors import DataError, InvalidSetting, NoScansAccepted, NoScansFound, TooFewPatients

if TYPE_CHECKING:
    from client.receive.drain import Batch
    from client.site_home import SiteHome
    from sites.ingest_plan import IngestPlan
    from sites.ingest_report import IngestReport
    from sites.settings.site_settings import SiteSettings

Home = Annotated[Path, typer.Argument(help="The site's folder.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a script.")]


@dataclass(frozen=True)
class IngestOptions:
    """What an ingest accepts, takes up and removes, and how it works."""

    allow_few_patients: Annotated[
        bool, typer.Option(help="Accept fewer patients than a 7:1:2 split needs; the report repeats it.")
    ] = False
    accept_names: Annotated[
        bool, typer.Option("--accept-names", help="Take patients' names as they are, dates and counters too.")
    ] = False
    prune: Annotated[
        bool, typer.Option("--prune", help="Remove the store's pairs whose scans are not in the folder.")
    ] = False
    again: Annotated[bool, typer.Option("--again", help="Of the inbox: take up what was set aside too.")] = (
        False
    )
    processes: Annotated[
        int | None,
        typer.Option(min=1, help="How many make pairs at once; else as many as cores and memory allow."),
    ] = None
    reread: Annotated[
        bool, typer.Option("--reread", help="Read every file again, also what has not changed since.")
    ] = False


@dataclass(frozen=True)
class _Asked:
    """What one ingest is of and how it answers."""

    site: SiteHome
    settings: SiteSettings
    options: IngestOptions
    json_output: bool


def ingest(
    home: Home,
    options: IngestOptions,
    source: Annotated[
        Path | None,
        typer.Argument(
            help="The folder with the scans; without it, the inbox of `site receive`, which is emptied."
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print who is taken for which patient, and read headers alone.")
    ] = False,
    json_output: AsJson = False,
) -> None:
    """Read, pair and register scans, and keep what is accepted."""
    from client.site_home import SiteHome

    site = SiteHome.at(home)
    settings = site.settings()
    if options.allow_few_patients:
        settings = settings.model_copy(update={"allow_few_patients": True})
    if options.accept_names:
        settings = settings.model_copy(update={"accept_patient_names": True})
    _require_fitting(source, settings, options)
    asked = _Asked(site, settings, options, json_output)
    if dry_run:
        plan = _plan(asked, site.inbox / "received" if source is None else source, headers=True)
        typer.echo(json.dumps(plan.as_json()) if json_output else plan.as_text())
        raise typer.Exit(DataError.exit_status if plan.stops else 0)
    if source is None:
        _ingest_inbox(asked)
    else:
        known = _recalled(asked, source)
        if known is not None:
            _show(asked, known, _declare_known(site), known=True)
            return
        report, request = _ingest(asked, source, _plan(asked, source))
        _show(asked, report, request)


def _require_fitting(source: Path | None, settings: SiteSettings, options: IngestOptions) -> None:
    if source is None and settings.reader != "dicom":
        raise InvalidSetting(
            "there is no folder to ingest",
            got=f"reader {settings.reader}",
            expected="a folder; the inbox is for reader dicom",
        )
    if source is None and options.prune:
        raise InvalidSetting(
            "the inbox does not say which pairs are to go",
            got="--prune",
            action="Give --prune with the folder that has all scans, or see `fedminet site withdraw`",
        )
    if source is not None and options.again:
        raise InvalidSetting("only the inbox has what was set aside", got="--again with a folder")


def _recalled(asked: _Asked, source: Path) -> IngestReport | None:
    """The last report, where nothing has changed since in the folder, the store and the settings."""
    from sites.last_ingest import recall
    from sites.processing import VERSION

    if asked.options.reread:
        return None
    return recall(source, asked.site.store, asked.settings, version=VERSION, prune=asked.options.prune)


def _plan(asked: _Asked, source: Path, *, headers: bool = False) -> IngestPlan:
    from sites.ingest_plan import plan_ingest

    return plan_ingest(source, asked.settings, skip=asked.site.store, headers=headers)


def _ingest(asked: _Asked, source: Path, plan: IngestPlan) -> tuple[IngestReport, Path | None]:
    """The report, and the request that declares the new cohort, where the site has keys."""
    from minet_core.runtime.memory import keep_freed_memory
    from minet_core.runtime.progress import progress
    from sites.ingest import ingest as ingest_scans
    from sites.ingest_report import refusal_lines

    if not asked.json_output:
        typer.echo(plan.as_text())
    keep_freed_memory()
    try:
        with progress("Ingesting", quiet=asked.json_output) as advance:
            report = ingest_scans(
                source,
                asked.site.store,
                asked.settings,
                found=plan.found,
                prune=asked.options.prune,
                progress=advance,
                n_processes=asked.options.processes,
                reread=asked.options.reread,
            )
    except (NoScansAccepted, TooFewPatients):
        for line in refusal_lines(plan.found.refused):
            typer.echo(line, err=True)
        raise
    return report, _declare_ingested(asked.site)


def _ingest_inbox(asked: _Asked) -> None:
    """Take up what is whole, ingest it, and put each study where it belongs; without one there is nothing to do."""
    from client.receive.drain import draining
    from client.receive.inbox import Inbox
    from sites.store.pseudonym import naming_key
    from sites.store.withdrawn import read_withdrawn

    site, receive = asked.site, asked.settings.receive
    inbox = Inbox(site.inbox, key=naming_key(site.store))
    with draining(
        inbox, receive, withdrawn=read_withdrawn(site.store).keys(), again=asked.options.again
    ) as batch:
        if not batch.labels:
            counts = batch.settle(taken=(), refused=())
            typer.echo(json.dumps({"inbox": counts}) if asked.json_output else _inbox_line(counts))
            for _, failure in batch.incomplete:
                typer.echo(str(failure), err=True)
            raise typer.Exit(DataError.exit_status if batch.incomplete else 0)
        report, request, counts = _ingest_batch(asked, batch)
    _show(asked, report, request, inbox=counts)


def _ingest_batch(asked: _Asked, batch: Batch) -> tuple[IngestReport, Path | None, dict[str, int]]:
    """The batch is settled when the store and the declaration are on the disk, or when every study was refused."""
    try:
        plan = _plan(asked, batch.folder)
        for label, failure in batch.incomplete:
            plan.found.refuse(label, failure)
        report, request = _ingest(asked, batch.folder, plan)
    except (NoScansAccepted, NoScansFound):
        typer.echo(_inbox_line(batch.settle(taken=(), refused=batch.labels)), err=True)
        raise
    counts = batch.settle(
        taken={one.label for one in report.accepted}, refused={one.label for one in report.refused}
    )
    return replace(report, missing={}), request, counts  # what the inbox has not is nowhere missing


def _inbox_line(counts: dict[str, int]) -> str:
    return (
        f"Inbox: {counts['taken']} studies taken, {counts['set_aside']} set aside in inbox/refused, "
        f"{counts['arriving']} still arriving."
    )


def _show(
    asked: _Asked,
    report: IngestReport,
    request: Path | None,
    *,
    inbox: dict[str, int] | None = None,
    known: bool = False,
) -> None:
    """Draw the page and print the report. known: nothing has changed since the page was drawn, if it was."""
    from sites.onboarding.drawn import FILE, is_drawn
    from sites.settings.cohort_floors import below_floors

    page = asked.site.path / FILE
    if not (known and is_drawn(report, asked.settings, page)):
        from sites.onboarding.page import write_page

        write_page(report, asked.site.store, asked.settings, page)
    if asked.json_output:
        typer.echo(json.dumps(report.as_json() | ({} if inbox is None else {"inbox": inbox})))
    else:
        typer.echo(report.as_text())
        below = below_floors(asked.settings.policy, report.cohort)
        if below:
            typer.echo(
                f"A federation is refused with so few (FM-F420): {'; '.join(below)}. Ingest more patients, or lower "
                "the floor in site.yaml if the hospital agrees."
            )
        typer.echo(f"Look at {page}: the pairs, the figures, and what was refused.")
        if inbox is not None:
            typer.echo(_inbox_line(inbox))
        if request is not None:
            typer.echo(
                f"Send the coordinator {request}: public keys, a digest and a count, no scan and no name of a patient."
            )
    if report.refused:
        for refusal in report.refused:  # of which patient it is: all their files have the same names
            typer.echo(f"{refusal.message} [{refusal.label}]", err=True)
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


def _declare_known(site: SiteHome) -> Path | None:
    """The same where nothing has changed: a request that already says so is left as it is."""
    from client.admission.declaration import declare
    from client.admission.standing_request import request_stands
    from client.operator_acts import note_ingest

    declare(site)
    if not request_stands(site):
        return _declare_ingested(site)
    note_ingest(site)
    return site.request
