"""`fedminet site audit show|verify`: what this site was asked, what left it, and whether the record of it is whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

audit_commands = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="The site's ledger.")

Home = Annotated[Path, typer.Argument(help="The site's folder.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a script.")]


@audit_commands.command()
def show(
    home: Home,
    last: Annotated[int, typer.Option(min=0, help="How many records; 0: all.")] = 20,
    json_output: AsJson = False,
) -> None:
    """Print the last records. What was asked, answered and refused, and what operators did."""
    from client.rounds.request_budget import requests_answered
    from client.site_home import SiteHome
    from minet_core.ledger.page import last_records, record_as_text
    from minet_core.ledger.records import Ledger

    site = SiteHome.at(home)
    records = last_records(Ledger(site.state).records(), last=last)
    if json_output:
        for record in records:
            typer.echo(json.dumps(record))
        return
    for record in records:
        typer.echo(record_as_text(record))
    most = site.settings().policy.max_requests
    for study, count in sorted(requests_answered(site.state).items()):
        typer.echo(f"{count} of {most or 'any number of'} requests answered for the study {study}")


@audit_commands.command()
def verify(
    home: Home,
    head: Annotated[
        list[str] | None, typer.Option(help="A head of this ledger that the coordinator holds; repeat it.")
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(help="The coordinator's ledger.jsonl: every head of ours in it is looked for."),
    ] = None,
    json_output: AsJson = False,
) -> None:
    """Verify that no record was changed, removed or moved. With --head or --against, that none is missing."""
    from client.site_home import SiteHome
    from minet_core.ledger.page import audit, heads_held
    from minet_core.ledger.records import Ledger

    site = SiteHome.at(home)
    ledger = Ledger(site.state)
    held = set(head or ())
    if against is not None:
        held |= heads_held(against, key="site_head", where={"site": site.settings().name})
    audit(ledger, held=held, as_json=json_output, say=typer.echo)
