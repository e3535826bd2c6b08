"""`fedminet bench ingest`: an ingest of NIfTI pairs with registration, this code beside another commit.

Each measurement is a process of its own (`ingest_side.py`) that fills a new store; the sides are asked in turn. Three
folders of scans: phantoms as they lie, the same whose reference was moved by a motion that is known, and the user's
own, if any. A moved scan says so by its affine alone: no voxel was interpolated, so the truth is exact.
"""

from __future__ import annotations

import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from fedminet.bench.compare import BASELINE, CHECKOUT, THIS
from minet_core.errors import FileMissing, ProcessDied
from minet_core.imaging.volume import Volume
from minet_core.phantom.acquisition import SITES
from minet_core.phantom.patient import make_patient
from minet_core.runtime.cpu_threading import cpu_threading_environment
from minet_core.runtime.files.atomic_write import write_json, write_text
from minet_core.runtime.machine import machine_facts
from minet_core.runtime.versions import version_line
from minet_core.seeds import derived_seed, numpy_generator
from sites.phantom_files import write_nifti

SIDE = Path(__file__).with_name("ingest_side.py")

MAX_SHIFT_MM, MAX_TURN_DEGREES = 4.0, 2.0
"""Of a made-up motion, along and about each axis: what patients of one examination move by."""
PHANTOM_SITES = ("sms", "umr")
STILL, MOVED, GIVEN = "phantoms as they lie", "phantoms that moved", "the given scans"

COLUMNS = (
    *("side", "processor, s", "ratio", "elapsed, s", "ratio", "registration", "pairs, refused"),
    *("residual, mm", "error, mm", "agreement", "peak, MB"),
)

Motion = NDArray[np.float64]
"""(4, 4): from a point of the target to that of the reference, world mm."""


@dataclass
class Ingested:
    """One side's ingests of one folder. seconds: by kind, of each round. pairs: of the last round."""

    label: str
    seconds: dict[str, list[float]] = field(default_factory=dict)
    peak_bytes: int = 0
    pairs: list[dict[str, Any]] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)

    def add(self, reply: dict[str, Any], truth: dict[str, Motion]) -> None:
        """Add what one process said; the points become the error against the truth, where there is one."""
        for kind in ("processor", "elapsed", "registration"):
            if kind in reply:
                self.seconds.setdefault(kind, []).append(reply[kind])
        self.peak_bytes = max(self.peak_bytes, reply["peak_bytes"])
        self.refused = reply["refused"]
        self.pairs = [_judged(pair, truth) for pair in reply["pairs"]]

    def mean(self, figure: str) -> float | None:
        """The mean of a figure over the pairs that have it; None where none has."""
        values = [pair[figure] for pair in self.pairs if pair.get(figure) is not None]
        return statistics.fmean(values) if values else None


def bench_ingest(
    folder: Path,
    *,
    n_rounds: int,
    seeds: Sequence[int],
    scans: Path | None = None,
    n_processes: int = 1,
    baseline: Path | None = None,
) -> dict[str, list[Ingested]]:
    """Ingest each folder `n_rounds` times by each side, in turn.

    folder: new or empty; everything is made there. seeds: of the phantoms, a patient of each of `PHANTOM_SITES` for
    each. scans: a folder of T1 and T2 by patient. n_processes: of this code; a commit that has no such choice uses one.
    baseline: another commit's checkout. Gives the sides by what was ingested. Raises FileMissing (FM-C103) where
    the baseline is no checkout or `scans` no folder, ProcessDied (FM-S503) where a side failed.
    """
    checkouts = {THIS: CHECKOUT}
    if baseline is not None:
        if not (baseline / "minet_core").is_dir():
            raise FileMissing("the baseline is no checkout of fedminet", got=baseline)
        checkouts[BASELINE] = baseline.resolve()
    if scans is not None and not scans.is_dir():
        raise FileMissing("there is no such folder of scans", got=scans)
    truths = _write_phantoms(folder, seeds) if seeds else {}
    sources = {kind: folder / kind.replace(" ", "-") for kind in truths}
    if scans is not None:
        truths[GIVEN], sources[GIVEN] = {}, scans.resolve()
    sides = {kind: [Ingested(label) for label in checkouts] for kind in sources}
    for _ in range(n_rounds):
        for kind, source in sources.items():
            for side in sides[kind]:
                reply = _ingest_once(checkouts[side.label], source, folder, n_processes)
                side.add(reply, truths[kind])
    return sides


def ingest_table(sides: dict[str, list[Ingested]], *, n_processes: int) -> str:
    """The sides in Markdown, a table for each folder of scans."""
    machine = machine_facts()
    lines = [
        f"{machine.processor}, {machine.cores} cores, {n_processes} processes of this code; {version_line()}.",
        "Seconds: medians. Ratio: the side's over this code's, the median of the rounds' own. Residual: what "
        "registration says of itself; error: against the known motion, root mean square over the anatomy; means "
        "of the pairs.",
    ]
    for kind, ingested in sides.items():
        n_rounds = len(ingested[0].seconds["processor"])
        lines += ["", f"### {kind}, {n_rounds} interleaved rounds", ""]
        lines += [_row(COLUMNS), "|---" * len(COLUMNS) + "|"]
        lines += [_row(_cells(side, ingested[0])) for side in ingested]
    return "\n".join(lines) + "\n"


def write_ingests(out: Path, sides: dict[str, list[Ingested]], *, n_processes: int) -> None:
    """OUT.md and OUT.json."""
    write_text(out.with_suffix(".md"), "# Ingest\n\n" + ingest_table(sides, n_processes=n_processes))
    rows = {kind: [dataclasses.asdict(side) for side in ingested] for kind, ingested in sides.items()}
    write_json(out.with_suffix(".json"), {"processes": n_processes, "ingests": rows})


def moved_by(volume: Volume, *, shift_mm: Sequence[float], turn_degrees: Sequence[float]) -> Motion:
    """The rigid motion that turns about the middle of a volume and then shifts, world mm."""
    middle = volume.affine @ [*[(n - 1) / 2 for n in volume.array.shape], 1.0]
    motion = np.eye(4)
    motion[:3, :3] = Rotation.from_euler("xyz", turn_degrees, degrees=True).as_matrix()
    motion[:3, 3] = middle[:3] + np.asarray(shift_mm) - motion[:3, :3] @ middle[:3]
    return motion


def _write_phantoms(folder: Path, seeds: Sequence[int]) -> dict[str, dict[str, Motion]]:
    """The phantoms as they lie and moved; of each folder the true motion by patient."""
    truths: dict[str, dict[str, Motion]] = {STILL: {}, MOVED: {}}
    for site in PHANTOM_SITES:
        for seed in seeds:
            name = f"{site}{seed}"
            scan = make_patient(SITES[site], seed=derived_seed(seed, "phantom", site, 1))
            drawn = numpy_generator(seed, site, "motion").uniform(-1, 1, (2, 3))
            shift, turn = drawn[0] * MAX_SHIFT_MM, drawn[1] * MAX_TURN_DEGREES
            motion = moved_by(scan.reference, shift_mm=shift, turn_degrees=turn)
            for kind, own in ((STILL, np.eye(4)), (MOVED, motion)):
                reference = dataclasses.replace(scan.reference, affine=own @ scan.reference.affine)
                patient = folder / kind.replace(" ", "-") / name
                write_nifti(patient / "T1.nii.gz", reference)
                write_nifti(patient / "T2.nii.gz", scan.target)
                truths[kind][name] = own
    return truths


def _ingest_once(checkout: Path, source: Path, folder: Path, n_processes: int) -> dict[str, Any]:
    environment = {**os.environ, **cpu_threading_environment(), "OMP_NUM_THREADS": "1"}
    environment |= {
        "PYTHONPATH": str(checkout),
        "PYTHONSAFEPATH": "1",
    }  # of the processes that it starts, too
    with tempfile.TemporaryDirectory(dir=folder) as store:
        command = [sys.executable, str(SIDE), str(checkout), str(source), f"{store}/store", str(n_processes)]
        ended = subprocess.run(
            command, stdout=subprocess.PIPE, text=True, env=environment, cwd=checkout, check=False
        )
    if ended.returncode:
        raise ProcessDied(
            "an ingest of the comparison ended",
            got=f"exit code {ended.returncode}",
            action="See its output above",
        )
    reply: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return reply


def _judged(pair: dict[str, Any], truth: dict[str, Motion]) -> dict[str, Any]:
    """The pair with its error, mm, in place of the points."""
    points, led_to = (np.array(pair.pop(name, [])) for name in ("points", "led_to"))
    motion = next((own for name, own in truth.items() if name in pair["label"]), None)
    error = None
    if motion is not None and len(points):
        wrong = led_to - (points @ motion[:3, :3].T + motion[:3, 3])
        error = float(np.sqrt((wrong**2).sum(axis=1).mean()))
    return {**pair, "error_mm": error}


def _cells(side: Ingested, this: Ingested) -> list[str]:
    cells = [side.label]
    for kind in ("processor", "elapsed"):
        ratios = [other / own for other, own in zip(side.seconds[kind], this.seconds[kind], strict=True)]
        spread = f" ({min(ratios):.2f} to {max(ratios):.2f})" if side is not this else ""
        cells += [f"{statistics.median(side.seconds[kind]):.2f}", f"{statistics.median(ratios):.2f}{spread}"]
    own = side.seconds.get("registration")
    shares = zip(own, side.seconds["processor"], strict=True) if own else ()
    cells.append(f"{statistics.median(part / whole for part, whole in shares):.0%}" if own else "")
    cells.append(f"{len(side.pairs)}, {len(side.refused)}")
    for name in ("residual_mm", "error_mm", "agreement"):
        value = side.mean(name)
        cells.append("" if value is None else f"{value:.3f}")
    return [*cells, f"{side.peak_bytes / 1e6:,.0f}"]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
