"""An ingest in a process of its own that stops when its second pair is in the store, for a kill to meet it there."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from sites.ingest import ingest
from sites.settings.definitions import definition
from tests.support.repository import ROOT

SAID = b"one file is there\n"
PROGRAM = "from tests.support.held_ingest import main\nif __name__ == '__main__':\n    main()\n"
"""A file of it is taken where the ingest starts processes that read the main program again."""


@contextlib.contextmanager
def held_ingest(
    scans: Path, store: Path, *, command: Sequence[str | Path], n_processes: int = 1
) -> Iterator[subprocess.Popen[bytes]]:
    """The process, once it is held: one pair is whole in the store, the second one not yet renamed into it.

    command: of an interpreter that runs `PROGRAM`. Who takes it ends it.
    """
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    asked = [*command, scans, store, str(n_processes)]
    with subprocess.Popen(asked, cwd=ROOT, env=environment, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == SAID
        yield child


def main() -> None:
    """Ingest the scans of the first argument into the store of the second one, and stop in its midst."""
    n_files = 0

    def hold(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal n_files
        if event == "os.rename" and str(arguments[1]).endswith(".h5"):
            n_files += 1
            if n_files == 2:
                print(SAID.decode(), end="", flush=True)
                time.sleep(600)

    sys.addaudithook(hold)
    settings = definition("sms").model_copy(update={"data_kind": "phantom"})
    ingest(Path(sys.argv[1]), Path(sys.argv[2]), settings, n_processes=int(sys.argv[3]))
