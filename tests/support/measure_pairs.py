"""Measure which pairs of a known answer are taken.

    python -m tests.support.measure_pairs [--plot FILE.png] [--accuracy]

Prints one line a pair and the count of wrong answers, for docs/results/field.md; draws the distributions of the
agreement; with --accuracy measures how far registration is off, and how well its estimate says so. It needs the real
scans (tests/support/surrogates.py) and some ten minutes on one core.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import matplotlib as mpl
import numpy as np

from minet_core.errors import FedminetError
from minet_core.imaging.volume import Volume
from sites.registration.register import register
from sites.scans.nifti import read_nifti
from sites.settings.definitions import definition
from tests.support.pair_kinds import (
    MadePair,
    Pair,
    found_motion,
    made_pairs,
    moved,
    second_contrast,
    true_error,
)
from tests.support.surrogates import FOLDER

LIMITS = definition("umr").registration
PATIENTS = {
    "brain 07": "brain_1mm/patient07/{}.nii.gz",
    "brain 19": "brain_1mm/patient19/{}.nii.gz",
    "clinical 01": "clinical/patient01_study1/{}W.nii.gz",
    "clinical 04": "clinical/patient04_study1/{}W.nii.gz",
    "clinical 12": "clinical/patient12_study1/{}W.nii.gz",
}


def scan(pattern: str, contrast: str) -> Volume:
    return read_nifti(FOLDER / pattern.format(contrast), contrast=contrast)


def patients() -> dict[str, Pair]:
    return {name: (scan(pattern, "T2"), scan(pattern, "T1")) for name, pattern in PATIENTS.items()}


def answer(made: MadePair) -> tuple[bool, str]:
    try:
        found = register(*made.pair, limits=LIMITS)
    except FedminetError as refusal:
        return False, f"{refusal.what}; got {refusal.got}"
    return (
        True,
        f"agreement {found.agreement:.2f}, error {found.residual_mm:.2f} mm ({found.residual_px:.2f} px)",
    )


def agreements(pairs: Iterator[MadePair]) -> dict[str, list[float]]:
    """By group, the agreement of pairs that differ in anatomy alone."""
    groups: dict[str, list[float]] = {"one patient": [], "mirrored": [], "two patients": []}
    for made in pairs:
        group = {
            "as it lies": "one patient",
            "mirrored left to right": "mirrored",
            "stranger": "two patients",
        }
        if made.kind in group:
            groups[group[made.kind]].append(found_motion(*made.pair, LIMITS).agreement)
    return groups


def plot(groups: dict[str, list[float]], path: Path) -> None:
    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 2.2), layout="constrained")
    for height, (name, values) in enumerate(groups.items()):
        axes.plot(values, [height] * len(values), "o", alpha=0.7, label=f"{name} (n = {len(values)})")
    axes.axvline(LIMITS.min_agreement, color="black", linestyle="--", linewidth=1)
    axes.text(LIMITS.min_agreement + 0.01, 2.3, "limit", fontsize=9)
    axes.set_yticks(range(len(groups)), [f"{name}\n(n = {len(values)})" for name, values in groups.items()])
    axes.set_ylim(-0.5, 2.7)
    axes.set_xlim(0, 1)
    axes.set_xlabel("share of blocks found in their place")
    figure.savefig(path, dpi=130)


def measure_accuracy(patients: dict[str, Pair]) -> None:
    """Known motions with and without a stretch: against a truth, and of real pairs against where they were found."""
    drawn = np.random.default_rng(5)
    for what in ("made-up contrast", "real pair"):
        rows = []
        for name, (target, reference) in patients.items():
            contrast, former = second_contrast(target), np.eye(4)
            if what == "real pair":
                contrast, motion = reference, found_motion(target, reference, LIMITS)
                former[:3, :3], former[:3, 3] = motion.matrix, motion.shift_mm
            for stretch in (0.0, 0.01, -0.01, 0.013):
                turn, shift = np.radians(drawn.uniform(-6, 6, 3)), drawn.uniform(-8, 8, 3)
                other = moved(contrast, rotation=tuple(turn), shift_mm=tuple(shift), stretch=stretch)
                true = other.affine @ np.linalg.inv(contrast.affine) @ former
                error, estimate = true_error(target, other, true, LIMITS)
                pixel = min(target.spacing_mm[1:])
                rows.append((error / pixel, estimate / error))
                print(
                    f"{what}, {name}, stretch {stretch:+.3f}: {error:.3f} mm, estimate {estimate:.3f} mm",
                    flush=True,
                )
        errors, ratios = np.array(rows).T
        low, middle, high = np.percentile(ratios, [10, 50, 90])
        print(
            f"{what}: error {np.median(errors):.2f} px in the median, {errors.max():.2f} at most; estimate over "
            f"error {middle:.2f} in the median, {low:.2f} to {high:.2f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--accuracy", action="store_true")
    parser.add_argument("--only", default="", help="part of a patient's name")
    options = parser.parse_args()
    given = {name: pair for name, pair in patients().items() if options.only in name}
    if options.accuracy:
        measure_accuracy(given)
        return
    wrong = {True: 0, False: 0}
    count = {True: 0, False: 0}
    for made in made_pairs(given):
        accepted, said = answer(made)
        count[made.right] += 1
        wrong[made.right] += accepted is not made.right
        mark = "  " if accepted is made.right else "!!"
        print(
            f"{mark} {made.kind:38s} {made.name:24s} {'taken' if accepted else 'refused'}: {said}", flush=True
        )
    print(f"right pairs {count[True]}, refused {wrong[True]}; others {count[False]}, accepted {wrong[False]}")
    if options.plot:
        groups = agreements(made_pairs(given))
        for name, values in groups.items():
            print(f"{name}: {min(values):.2f} to {max(values):.2f}, n = {len(values)}")
        plot(groups, options.plot)


if __name__ == "__main__":
    main()
