"""The environment that every one of Flower's processes gets, at the coordinator and at a site. Imports no Flower."""

from __future__ import annotations

import os
from pathlib import Path

from minet_core.runtime.logs import LEVEL_VARIABLE
from minet_core.runtime.processes.child_processes import child_environment

RUNS_VARIABLE = "FEDMINET_RUNS"
"""Environment variable with the folder of the coordinator's runs; set by `fedminet server start`."""

SERVER_VARIABLE = "FEDMINET_SERVER"
"""Environment variable with the coordinator's folder; set by `fedminet server start` for Flower's programs."""

SITE_VARIABLE = "FEDMINET_SITE"
"""Environment variable with the site's folder; set by `fedminet site start`, read on the site alone."""

BEGAN_VARIABLE = "FEDMINET_TASK_BEGAN"
"""Environment variable with when a task's process began, seconds since 1970; set for the process of one task."""


def flower_environment(flower_home: Path, **variables: str) -> dict[str, str]:
    """The environment of a Flower process with its own home, no telemetry, and no call to the maker's servers.

    Flower logs from info on, whatever level is asked for, since the reason why a node is not let in is read from its
    log; its debug lines come where ours do.

    Parameters
    ----------
    flower_home
        Folder of Flower's own files.
    **variables
        Added to it.

    Returns
    -------
    dict of str
        For a child process.
    """
    level = "DEBUG" if os.environ.get(LEVEL_VARIABLE) == "debug" else "INFO"
    return child_environment(
        FLWR_LOG_LEVEL=level,
        FLWR_HOME=str(flower_home),
        FLWR_TELEMETRY_ENABLED="0",
        FLWR_DISABLE_UPDATE_CHECK="1",
        **variables,
    )
