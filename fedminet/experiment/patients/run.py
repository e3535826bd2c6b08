"""Running `experiment patients`: every cell that is not done yet, and after each the page of all that are."""

from __future__ import annotations

import sys

from fedminet.experiment.cells import claimed
from fedminet.experiment.patients.cells import FoldCell, make_cell, read_cell, training_folder
from fedminet.experiment.patients.page import write_page
from fedminet.experiment.patients.plan import PatientsPlan
from minet_core.runtime.progress import progress
from sites.store.store import Store


def run_patients(plan: PatientsPlan, *, quiet: bool = False) -> list[FoldCell]:
    """Make the cells that are missing; those of the plan that are done are returned.

    Other processes may work on the same folder: each takes cells that no other has. Raises ConfigurationError (FM-C100)
    where a cell of other settings or scans is in the way, and what training raises; what was done before stays.
    """
    plan.folder.mkdir(parents=True, exist_ok=True)
    stores = {site: Store(home.store) for site, home in plan.homes().items()}
    keys = plan.keys(stores)
    for key in keys:  # all are held to the settings before the first is made
        read_cell(plan, key, stores)
    for number, key in enumerate(keys, start=1):
        if read_cell(plan, key, stores) is not None:
            continue
        with claimed(training_folder(plan, key)) as mine:
            if not mine or read_cell(plan, key, stores) is not None:
                continue
            if not quiet:
                sys.stderr.write(f"{number} of {len(keys)}: {key.name}\n")
            with progress(key.name, quiet=quiet) as advance:
                make_cell(plan, key, stores[key.site], advance=advance)
        write_page(plan, stores)
    write_page(plan, stores)
    return [cell for key in keys if (cell := read_cell(plan, key, stores)) is not None]
