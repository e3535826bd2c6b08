"""Running an experiment: every cell that is not done yet, then the tables of all that are."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

from fedminet.experiment.cells import Cell, cell_folder, claimed, make_cell, read_cell
from fedminet.experiment.methods import is_learned
from fedminet.experiment.report import write_results
from fedminet.experiment.study import CellKey, Study
from minet_core.runtime.progress import progress


def run_experiment(study: Study, which: str, *, quiet: bool = False) -> list[Cell]:
    """Make the cells that are missing, and write what all of them say. The cells that are done are returned.

    Raises ConfigurationError (FM-C100) where a cell of other settings is in the way, and what training raises; what
    was done before stays.
    """
    keys = study.cells()
    if not quiet:
        sys.stderr.write(f"Making the sites of {len(study.seeds)} seeds, where they are not there yet\n")
    for seed in study.seeds:
        study.homes(seed)
    for key in keys:  # all are held to the settings before the first is made
        read_cell(study, key)
    made, began = 0, time.monotonic()
    for number, key in enumerate(keys, start=1):
        if read_cell(study, key) is not None:
            continue
        with claimed(cell_folder(study, key)) as mine:
            if not mine or read_cell(study, key) is not None:
                continue
            if not quiet:
                left = [one for one in keys[number - 1 :] if read_cell(study, one) is None]
                sys.stderr.write(f"{number} of {len(keys)}: {key.name}{_time_left(left, made, began)}\n")
            with progress(key.name, quiet=quiet) as advance:
                make_cell(study, key, advance=advance)
            made += is_learned(key.method)
            write_results(study, which, pictures=False)
    return write_results(study, which)


def _time_left(left: Sequence[CellKey], made: int, began: float) -> str:
    """After the first training, from the mean time of those that this process made; an upper end where others help."""
    if not made:
        return ""
    hours = (time.monotonic() - began) / made * sum(is_learned(key.method) for key in left) / 3600
    return f", about {hours:.1f} h left" if hours >= 1 else f", about {60 * hours:.0f} min left"
