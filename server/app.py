"""The Flower ServerApp of the coordinator. Wires and computes nothing.

Which run it serves comes with the run's configuration (`run`, a plain name); where the coordinator keeps its
runs comes from the environment of the coordinator's own process.
"""

from __future__ import annotations

import os
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from minet_core.errors import ConfigurationError
from minet_core.protocol.messages import RUN_NAME
from minet_core.runtime.processes.flower_environment import RUNS_VARIABLE
from server.rounds.run import run_federation
from server.runs.run_directory import RunDirectory


def build_server_app(runs: Path | None = None) -> ServerApp:
    """A ServerApp whose runs are under `runs`, or under the folder that the environment names."""
    server_app = ServerApp()

    @server_app.main()
    def main(grid: Grid, context: Context) -> None:
        name = str(context.run_config["run"])
        if not RUN_NAME.fullmatch(name):
            raise ConfigurationError("a run has no plain name", got=name, expected="letters, digits, - and _")
        run = RunDirectory((runs or Path(os.environ[RUNS_VARIABLE])) / name)
        run_federation(grid, run, flower_run=context.run_id)

    return server_app


app = build_server_app()
