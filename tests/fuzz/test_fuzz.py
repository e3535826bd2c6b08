"""Some hundred damaged inputs for every reader: a value or a coded error, in bounded memory, and nothing else.

A share of `make fuzz`, which gives ten thousand to each; docs/results/readers.md has its table. The program runs in a
process of its own, since it forks and limits memory.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import pytest

from tests.fuzz.__main__ import READERS
from tests.fuzz.measure import Reader, fuzz

N_INPUTS = 120


@pytest.mark.long
def test_no_reader_gives_anything_but_a_value_or_a_coded_error() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", "--json", "--inputs", str(N_INPUTS)],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-4000:]
    found = {line["reader"]: line for line in map(json.loads, done.stdout.splitlines())}
    assert found.keys() == {reader.name for reader in READERS}
    for line in found.values():
        assert line["inputs"] == N_INPUTS
        assert line["outcomes"].get("accepted", 0) > 0, f"{line['reader']} refuses what is whole"
        assert any(kind.startswith("FM-") for kind in line["outcomes"]), f"{line['reader']} refuses nothing"


@pytest.mark.parametrize("kind", ["raw", "killed", "hangs", "grows"])
def test_the_program_sees_what_it_looks_for(kind: str) -> None:
    """A reader that does what none may: without it a driver that sees nothing would pass."""

    def read() -> None:
        if kind == "raw":
            raise KeyError("x")
        if kind == "killed":
            os.kill(os.getpid(), 9)
        if kind == "hangs":
            time.sleep(600)
        bytearray(b"x") * (1200 << 20)

    reader = Reader(kind, lambda folder: lambda generator: read, limit_s=0.3 if kind == "hangs" else 10.0)
    tally = fuzz(reader, n_inputs=2)
    assert tally.inputs == 2
    assert tally.wrong
    seen = {"raw": "raw KeyError", "killed": "crash", "hangs": "crash", "grows": "excess"}[kind]
    assert any(seen in what for what in tally.wrong)
