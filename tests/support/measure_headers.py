"""Measure how fast headers are read beside plain pydicom.

    python -m tests.support.measure_headers [--generate 10000] [--rounds 1] [--objects] FOLDER

Every file below FOLDER is read by `dcmread(stop_before_pixels=True)` and by `read_object`, in turns, the first of the
two changing from file to file. Prints the processor time a file of both, and their ratio, for each folder directly
below FOLDER and for all, for docs/results/dicom.md; with --objects a line a file, medians over the rounds. --generate
first fills FOLDER, which must not exist, with so many different classic files of five vendors.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import Dataset

from minet_core.errors import FedminetError
from sites.scans.dicom.frames import read_object
from tests.sites.test_dicom_ingest import AFFINE, T1, T2, Planted, stored
from tests.support.dicom_series import WAYS, Header, write_classic

N_PRIVATE = 60


def generate(folder: Path, n_files: int) -> None:
    """Series of five vendors' ways; every file has its own position, identities and private elements."""
    planted, seed = Planted(), 0

    def fill(one: Dataset, index: int) -> None:
        planted.into(one)
        block = one.private_block(0x0029, "SIEMENS CSA HEADER", create=True)
        for number in range(N_PRIVATE):
            block.add_new(number, "LO", f"{planted.name()} {index}")

    written = 0
    while written < n_files:
        way = sorted(WAYS)[seed % len(WAYS)]
        for contrast, times in (("T1", T1), ("T2", T2)):
            header = Header(
                patient_id=planted.name(),
                study=str(seed),
                series=contrast,
                description=planted.name(),
                **times,
            )
            place = folder / way / str(seed) / contrast
            array = stored(seed, contrast)[: max(0, n_files - written)]
            written += len(write_classic(place, array, AFFINE, way=way, header=header, change=fill))
        seed += 1


def seconds_of(path: Path, *, plain_first: bool) -> tuple[float, float]:
    """Processor time of plain pydicom and of the reader here."""

    def plain(path: Path) -> object:
        return dcmread(path, stop_before_pixels=True)

    def here(path: Path) -> object:
        try:
            return read_object(path)
        except FedminetError as refusal:
            return refusal

    taken = {}
    ways: Iterable[Callable[[Path], object]] = (plain, here) if plain_first else (here, plain)
    for way in ways:
        start = time.process_time()
        way(path)
        taken[way] = time.process_time() - start
    return taken[plain], taken[here]


def line_of(name: str, taken: Sequence[tuple[float, float]], middle: Callable[[list[float]], float]) -> str:
    """One line: how many times, ms of both, the ratio of them."""
    plain, here = (middle([one[which] for one in taken]) * 1000 for which in (0, 1))
    return f"{name}: {len(taken)} times, plain {plain:.3f} ms, here {here:.3f} ms, plain over here {plain / here:.2f}"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--generate", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--objects", action="store_true")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    if options.generate:
        options.folder.mkdir(parents=True)
        generate(options.folder, options.generate)
    paths = sorted(path for path in options.folder.rglob("*") if path.is_file())
    for path in paths[:20]:
        seconds_of(path, plain_first=True)  # what is loaded at the first use
    groups: dict[str, list[tuple[float, float]]] = {}
    for turn in range(options.rounds):
        for number, path in enumerate(paths):
            below = path.relative_to(options.folder)
            name = below.as_posix() if options.objects else below.parts[0]
            groups.setdefault(name, []).append(seconds_of(path, plain_first=(number + turn) % 2 == 0))
    for name, taken in groups.items():
        print(line_of(name, taken, statistics.median if options.objects else statistics.fmean))
        if options.objects:
            ratios = [plain / here for plain, here in taken]
            print(f"    range of the ratio {min(ratios):.2f} to {max(ratios):.2f}")
    print(line_of("all", [one for taken in groups.values() for one in taken], statistics.fmean))


if __name__ == "__main__":
    main()
