"""Running an experiment: every cell that is not done yet, then the tables of all that are."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Iterator, Sequence

from fedminet.experiment.cells import Cell, cell_folder, claimed, make_cell, read_cell
from fedminet.experiment.methods import is_learned
from fedminet.experiment.report.write_results import write_results
from fedminet.experiment.study import CellKey, Study
from minet_core.runtime.progress import progress


def run_experiment(study: Study, which: str, *, quiet: bool = False) -> list[Cell]:
    """Make the cells that are missing, and write what all of them say. The cells that are done are returned.

    Raises ConfigurationError (FM-C100) where a cell of other settings is in the way, and what training raises; what
    was done before stays.
    """
    keys = study.cells()
    clock = Clock()
    if not quiet:
        sys.stderr.write(f"Making the sites of {len(study.seeds)} seeds, where they are not there yet\n")
    for seed in study.seeds:
        study.homes(seed)
    for key in keys:  # all are held to the settings before the first is made
        if (cell := read_cell(study, key)) is not None:
            clock.add(key, cell.seconds)
    for number, key in enumerate(keys, start=1):
        if read_cell(study, key) is not None:
            continue
        with claimed(cell_folder(study, key)) as mine:
            if not mine or read_cell(study, key) is not None:
                continue
            if not quiet:
                left = [one for one in keys[number - 1 :] if read_cell(study, one) is None]
                sys.stderr.write(f"{number} of {len(keys)}: {key.name}{clock.text(left)}\n")
            with progress(key.name, quiet=quiet) as advance:
                clock.add(key, make_cell(study, key, advance=advance).seconds)
            write_results(study, which, pictures=False)
    return write_results(study, which)


class Clock:
    """What the cells that are left will take, by those that are done."""

    def __init__(self) -> None:
        self._seconds: dict[tuple[object, ...], list[float]] = {}

    def add(self, key: CellKey, seconds: float) -> None:
        """A cell took so long."""
        if is_learned(key.method):
            for kind in _kinds(key):
                self._seconds.setdefault(kind, []).append(seconds)

    def left_s(self, keys: Sequence[CellKey]) -> float | None:
        """Seconds of one process for `keys`: each takes the mean of those most like it. None where none is done."""
        if not self._seconds:
            return None
        expected = 0.0
        for key in keys:
            if is_learned(key.method):
                alike = next(kind for kind in _kinds(key) if kind in self._seconds)
                expected += statistics.mean(self._seconds[alike])
        return expected

    def text(self, keys: Sequence[CellKey]) -> str:
        """ ", about 2.1 h left"; an upper end where other processes help."""
        seconds = self.left_s(keys)
        if seconds is None:
            return ""
        return (
            f", about {seconds / 3600:.1f} h left"
            if seconds >= 3600
            else f", about {seconds / 60:.0f} min left"
        )


def _kinds(key: CellKey) -> Iterator[tuple[object, ...]]:
    """What cells are like this one, the most alike first; the last are all."""
    yield key.method, key.scale, key.mode
    yield key.method, key.mode
    yield (key.mode,)
    yield ()
