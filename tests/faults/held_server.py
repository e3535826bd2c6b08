"""A ServerApp that can be held at a moment of a run, so that a fault meets it there. For the fault trials alone.

`FEDMINET_HOLD` names a folder. At each moment of a round the application leaves `reached-ROUND-MOMENT` there, and waits
as long as `hold-ROUND-MOMENT` lies there.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from minet_core.runtime.processes.flower_environment import RUNS_VARIABLE
from server.rounds.run import run_federation
from server.runs.run_directory import RunDirectory

HOLD_VARIABLE = "FEDMINET_HOLD"
SERVER_APP = "tests.faults.held_server:app"

_POLL_S = 0.02

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Conduct the run that is named, and stop where told to."""
    run = RunDirectory(Path(os.environ[RUNS_VARIABLE]) / str(context.run_config["run"]))
    folder = Path(os.environ[HOLD_VARIABLE])

    def at(moment: str) -> None:
        number = run.state.round + 1
        hold_file(folder, number, moment).with_name(f"reached-{number}-{moment}").touch()
        while hold_file(folder, number, moment).exists():
            time.sleep(_POLL_S)

    run_federation(grid, run, flower_run=context.run_id, observer=at)


def hold_file(folder: Path, round_number: int, moment: str) -> Path:
    """The file that holds the application at a moment of a round."""
    return folder / f"hold-{round_number}-{moment}"


def reached_file(folder: Path, round_number: int, moment: str) -> Path:
    """The file that says that the application has come to a moment of a round."""
    return folder / f"reached-{round_number}-{moment}"
