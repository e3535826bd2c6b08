"""`fedminet site fetch`: have a PACS send studies to the site's inbox."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

Home = Annotated[Path, typer.Argument(help="The site's folder.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a script.")]


def fetch(
    home: Home,
    study: Annotated[
        list[str] | None, typer.Option(help="A Study Instance UID; may be given several times.")
    ] = None,
    accessions: Annotated[
        Path | None, typer.Option(help="A text file with an accession number a line.")
    ] = None,
    json_output: AsJson = False,
) -> None:
    """Fetch the MR series of studies from the PACS. `pacs` in site.yaml names it. No number or name is printed."""
    from client.pacs.fetch import fetch as fetch_studies
    from client.pacs.questions import read_questions
    from client.site_home import SiteHome
    from minet_core.runtime.progress import progress

    questions = read_questions(study or [], accessions)
    with progress("Fetching", quiet=json_output) as advance:
        fetched = fetch_studies(SiteHome.at(home), questions, progress=advance)
    typer.echo(json.dumps(fetched.as_json()) if json_output else fetched.as_text())
    fetched.require_all()
