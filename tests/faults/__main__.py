"""`make faults ARGS="run --part kills"`: every fault at its full size; docs/results has what came of it."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from minet_core.runtime.processes.proxy_variables import stay_on_this_machine
from tests.faults.bench import bench_faults
from tests.faults.damaged_runs import damage_all
from tests.faults.robustness import HEADER
from tests.faults.robustness import robustness as bench_robustness

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@app.command()
def run(
    part: Annotated[
        list[str] | None,
        typer.Option(
            help="hostile, kills, partition, endurance, coordinator or sites; repeat it. All if not given."
        ),
    ] = None,
    repeats: Annotated[int, typer.Option(help="How often each process is killed in each phase.", min=1)] = 2,
) -> None:
    """What becomes of hostile replies, killed processes, a cut link, long runs and many sites: a table of each."""
    stay_on_this_machine()
    bench_faults(part or [], repeats=repeats, say=typer.echo)


@app.command()
def robustness(
    seed: Annotated[int, typer.Option(help="Of the federations.", min=0)] = 1,
    rounds: Annotated[int, typer.Option(help="Rounds of each.", min=2)] = 8,
) -> None:
    """What one hostile site of three costs, by strategy, and each robust rule among honest sites: a Markdown table."""
    typer.echo(HEADER)
    bench_robustness(seed, rounds=rounds, write=typer.echo)


@app.command()
def damage(repeats: Annotated[int, typer.Option(help="Damages.", min=1)] = 240) -> None:
    """What becomes of damaged run folders that are continued: how many are found, and how many change nothing."""
    with tempfile.TemporaryDirectory(prefix="damaged-") as folder:
        damage_all(Path(folder), seeds=range(repeats), say=typer.echo)


if __name__ == "__main__":
    app()
