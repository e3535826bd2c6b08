"""Measure what the parts of an ingest without registration take beside a plain read of the same files.

    python -m tests.support.measure_ingest [--rounds 16] FOLDER

FOLDER, which must not exist, is filled with one patient of 40 files (T1 and T2 of 20 x 320 x 320). In turns, each part
after a plain read (`dcmread(path).pixel_array`); prints medians of the processor time, for docs/results/dicom.md. The
floor is what no program of this store can leave out: the bytes of the files read and digested, as many bytes written,
made durable and digested as the store's file has. The floor of 16 bits is the same with half as many written.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
from pydicom import dcmread

from minet_core.imaging.volume import Pair, Volume
from sites.pairing.dicom_series import DicomScan, digest_of_scan, read_scan, scans_in
from sites.scans.dicom.series import read_export
from sites.store.pair_file import write_pair
from tests.sites.test_dicom_ingest import SETTINGS, T1, T2
from tests.support.dicom_series import Header, write_classic
from tests.support.small_scans import affine_of

SHAPE = (20, 320, 320)
AFFINE = affine_of((4.0, 0.6, 0.6))


class Parts:
    """The parts, on one patient's files."""

    def __init__(self, folder: Path) -> None:
        generator = np.random.default_rng(71)
        for contrast, times in (("T1", T1), ("T2", T2)):
            array = generator.integers(0, 4000, SHAPE).astype(np.uint16)
            write_classic(folder / "scans" / contrast, array, AFFINE, header=Header(series=contrast, **times))
        self.folder, self.files = folder, sorted((folder / "scans").rglob("*.dcm"))
        self.bytes = [path.read_bytes() for path in self.files]
        self.scans = self.headers()
        self.pair = self.pixels()
        self.write()
        self.stored = (folder / "pair.h5").read_bytes()

    def plain(self) -> None:
        for path in self.files:
            dcmread(path).pixel_array  # noqa: B018  # decoded when it is asked for

    def headers(self) -> list[DicomScan]:
        export = read_export(self.folder / "scans")
        return scans_in(export, SETTINGS.dicom, name=lambda one: one.label)

    def digests(self) -> None:
        for scan in self.scans:
            digest_of_scan(scan)

    def pixels(self) -> Pair:
        target, reference = (self._volume(scan) for scan in self.scans)
        return Pair(target=target, reference=reference, patient="p")

    def _volume(self, scan: DicomScan) -> Volume:
        return read_scan(scan, contrast="T2", scale="rescale")

    def write(self) -> None:
        (self.folder / "pair.h5").unlink(missing_ok=True)
        write_pair(self.folder / "pair.h5", self.pair, {})

    def all_four(self) -> None:
        self.scans = self.headers()
        self.digests()
        self.pair = self.pixels()
        self.write()

    def floor(self, share: int = 1) -> None:
        """Nothing but bytes: no header, no number, no structure."""
        for path in self.files:
            hashlib.sha256(path.read_bytes()).hexdigest()
        content = memoryview(self.stored)[: len(self.stored) // share]
        (self.folder / "floor").unlink(missing_ok=True)
        with (self.folder / "floor").open("wb", buffering=0) as stream:
            stream.write(content)
            os.fsync(stream.fileno())
        with (self.folder / "floor").open("rb") as stream:
            hashlib.file_digest(stream, "sha256")

    def floor_of_16_bits(self) -> None:
        self.floor(share=2)


def seconds_of(part: Callable[[], object]) -> float:
    start = time.process_time()
    part()
    return time.process_time() - start


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=16)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    options.folder.mkdir(parents=True)
    parts = Parts(options.folder)
    names = ("headers", "digests", "pixels", "write", "all_four", "floor", "floor_of_16_bits")
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    for turn in range(options.rounds + 1):
        for name in names:
            plain = seconds_of(parts.plain)
            here = seconds_of(getattr(parts, name))
            if turn:  # the first has the libraries' loading in it
                taken[name].append((plain, here))
    for name, found in taken.items():
        plain, here = (statistics.median([one[which] for one in found]) for which in (0, 1))
        ratios = [one[0] / one[1] for one in found]
        speed = f"{plain / here:.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        print(f"{name}: plain {plain * 1000:.1f} ms, here {here * 1000:.1f} ms, plain over here {speed}")


if __name__ == "__main__":
    main()
