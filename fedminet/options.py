"""Options that several of the shared verbs have."""

from __future__ import annotations

from typing import Annotated

import typer

NamedSites = Annotated[
    list[str] | None,
    typer.Option("--site", help="NAME=FOLDER: take this site's scans from FOLDER; repeat it."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a script.")]
Rounds = Annotated[int | None, typer.Option(help="Rounds, if not the usual number.", min=1)]
LocalSteps = Annotated[
    int | None, typer.Option(help="Optimizer steps of a site in a round, if not the usual number.", min=1)
]
Scale = Annotated[int, typer.Option(help="Enlargement: 2 or 4.")]
Preset = Annotated[str, typer.Option(help="quick or paper.")]
Patients = Annotated[int, typer.Option(help="Patients of each phantom site.", min=3)]
Seed = Annotated[int, typer.Option(help="Every random number is derived from it.", min=0)]
