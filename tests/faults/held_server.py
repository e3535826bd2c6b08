"""A ServerApp that can be held at a moment of a run, so that a fault meets it there. For the fault trials alone.

How it is held: tests.faults.holding.
"""

from __future__ import annotations

import os
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from minet_core.runtime.processes.flower_environment import RUNS_VARIABLE
from server.rounds.run import run_federation
from server.runs.run_directory import RunDirectory
from tests.faults.holding import hold_at

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Conduct the run that is named, and stop where told to."""
    run = RunDirectory(Path(os.environ[RUNS_VARIABLE]) / str(context.run_config["run"]))

    def at(moment: str) -> None:
        hold_at(run.state.round + 1, moment)

    run_federation(grid, run, flower_run=context.run_id, observer=at)
