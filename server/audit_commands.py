"""`fedminet server audit show|verify`: what the coordinator asked, what came back, and whether the record is whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

audit_commands = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="The coordinator's ledger.")

Home = Annotated[Path, typer.Argument(help="The coordinator's folder.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a script.")]


@audit_commands.command()
def show(
    home: Home,
    site: Annotated[
        str | None, typer.Option(help="Only what is of this site, with the heads it sent.")
    ] = None,
    last: Annotated[int, typer.Option(min=0, help="How many records; 0: all.")] = 20,
    json_output: AsJson = False,
) -> None:
    """Print the last records. What was asked, which replies came, what was refused, and what operators did."""
    from minet_core.ledger.page import last_records, record_as_text
    from server.ledger import ledger_of
    from server.server_home import ServerHome

    records = ledger_of(ServerHome.at(home)).records()
    chosen = (record for record in records if site is None or record.get("site") == site)
    for record in last_records(chosen, last=last):
        typer.echo(json.dumps(record) if json_output else record_as_text(record))


@audit_commands.command()
def verify(
    home: Home,
    head: Annotated[
        list[str] | None, typer.Option(help="A head of this ledger that a site holds; repeat it.")
    ] = None,
    against: Annotated[
        list[Path] | None, typer.Option(help="A site's ledger.jsonl: every head of ours in it is looked for.")
    ] = None,
    json_output: AsJson = False,
) -> None:
    """Verify that no record was changed, removed or moved. With --head or --against, that none is missing."""
    from minet_core.ledger.page import audit, heads_held
    from server.ledger import ledger_of
    from server.server_home import ServerHome

    ledger = ledger_of(ServerHome.at(home))
    held = set(head or ())
    for path in against or ():
        held |= heads_held(path, key="coordinator_head")
    audit(ledger, held=held, as_json=json_output, say=typer.echo)
