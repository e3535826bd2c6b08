"""Running `experiment worth`: every cell that is not done yet, and after each the page of all that are."""

from __future__ import annotations

import sys

from fedminet.experiment.worth.cells import WorthCell, make_cell, read_cell
from fedminet.experiment.worth.page import write_page
from fedminet.experiment.worth.plan import WorthPlan
from minet_core.runtime.files.file_lock import held
from minet_core.runtime.progress import progress


def run_worth(plan: WorthPlan, *, quiet: bool = False) -> list[WorthCell]:
    """Make the cells that are missing; the cells that are done are returned.

    Another process that works on the same folder has to end first. Raises ConfigurationError (FM-C100) where a cell of
    other settings is in the way, and what training raises; what was done before stays.
    """
    plan.folder.mkdir(parents=True, exist_ok=True)
    with held(plan.folder / "lock", patience_s=None):
        keys = plan.keys()
        done = {key: cell for key in keys if (cell := read_cell(plan, key)) is not None}
        for number, key in enumerate(keys, start=1):
            if key in done:
                continue
            name = plan.cell_file(key).stem
            if not quiet:
                sys.stderr.write(f"{number} of {len(keys)}: {name}\n")
            with progress(name, quiet=quiet) as advance:
                done[key] = make_cell(plan, key, advance=advance)
            write_page(plan, list(done.values()))
        cells = [done[key] for key in keys]
        write_page(plan, cells)
        return cells
