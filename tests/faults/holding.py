"""Where an application is held so that a fault meets it there: a file for each moment of a round. For the fault trials.

`FEDMINET_HOLD` names a folder. At each moment whoever comes there leaves `reached-ROUND-MOMENT`, and waits as long as
`hold-ROUND-MOMENT` lies there.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

HOLD_VARIABLE = "FEDMINET_HOLD"
SERVER_APP = "tests.faults.held_server:app"
CLIENT_APP = "tests.faults.held_client:app"

_POLL_S = 0.02


def hold_at(round_number: int, moment: str) -> None:
    """Say that a moment of a round is reached, and wait there as long as that is wanted."""
    folder = Path(os.environ[HOLD_VARIABLE])
    reached_file(folder, round_number, moment).touch()
    while hold_file(folder, round_number, moment).exists():
        time.sleep(_POLL_S)


def training_at(site: str) -> str:
    """The moment at which a site's training is held."""
    return f"training-{site}"


def hold_file(folder: Path, round_number: int, moment: str) -> Path:
    """The file that holds at a moment of a round."""
    return folder / f"hold-{round_number}-{moment}"


def reached_file(folder: Path, round_number: int, moment: str) -> Path:
    """The file that says that a moment of a round is reached."""
    return folder / f"reached-{round_number}-{moment}"
