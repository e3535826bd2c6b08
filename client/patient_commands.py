"""`fedminet site withdraw`: what the hospital does for one patient."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

Home = Annotated[Path, typer.Argument(help="The site's folder.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a script.")]


def withdraw(
    home: Home,
    pseudonym: Annotated[str, typer.Argument(help="The patient's, as `site ingest` prints it.")],
    json_output: AsJson = False,
) -> None:
    """Take a patient out of the store and later rounds, for good. The runs that had the patient are listed."""
    from client.site_home import SiteHome
    from client.withdraw import withdraw_patient

    done = withdraw_patient(SiteHome.at(home), pseudonym)
    typer.echo(json.dumps(done.as_json()) if json_output else done.as_text())
