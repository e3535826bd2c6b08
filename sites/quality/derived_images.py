"""Telling a magnitude image of anatomy from what is computed of one: label maps, masks, phase, parameter maps.

A magnitude image has many values, neighbours that differ, no value that a large part of the anatomy shares, an uneven
distribution, and bright voxels whose neighbours are bright too. What breaks one of these is refused with its figure.

What cannot be told: a smooth map of non-negative values inside a mask (T1, T2, a probability with soft edges, a
filtered field map with an offset, a label map smoothed by a pixel or more) has all of these, and the second differences
of a denoised or interpolated scan. So what has no noise is taken with a remark that says so. Values within 0 and 1
around exact zeros are remarked on, as such a map or a scan that was rescaled.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sites.quality.scan_quality import bright_percentile, foreground

MIN_VALUES = 48
"""Distinct values. An 8-bit export of 10 real volumes has 204 to 256, 6 bits have 53 to 63."""
EIGHT_BITS = 256
"""From here down it is said that the scan was exported in 8 bits."""
MAX_EQUAL = 0.45
"""Share of neighbouring foreground voxels within 0.1% of the 99th percentile. 10 real volumes 0.009 to 0.019, their
8-bit exports to 0.07, 6 bits 0.25, phantoms to 0.05; label maps of four classes 0.62 to 0.73, masks 1."""
MAX_AT_TOP = 0.08
"""Share of the foreground within 2% of the maximum. 10 real volumes at most 3e-6, 24 phantoms 0.0013, tiny ones 0.015,
exports cut at their 99th percentile 0.016 to 0.069; probability maps 0.18 to 0.38, masks 1."""
SAID_AT_TOP = 0.005
"""From here on a remark: the export was windowed, or the receiver was saturated."""
MIN_UNEVEN = 0.08
"""Largest distance between the distribution of values and an even one. 10 real volumes 0.16 to 0.55, phantoms 0.18
to 0.61; phase with or without a mask 0.01 to 0.03."""
MAX_LONELY = 0.4
"""Share of the brightest hundredth whose neighbour (not an exact zero) is below 0.3 of it. 10 real volumes at most
0.06, noisy FS-PD phantoms 0.19; phase 0.6 to 0.9, ratios of two scans 0.6 to 0.9."""
MIN_NOISE = 0.004
"""Median of the mixed second differences within the foreground, in units of a standard deviation over the 99th
percentile. 10 real volumes 0.006 to 0.024, 6 phantom volumes 0.008 to 0.014; real ones smoothed by 0.7 pixels 0.001 to
0.004, interpolated to twice the grid 0.0003 to 0.002. 44 masked maps made of two real pairs (T1, T2, ADC, FA, B1,
distances, tissue probabilities; the noisy ones are maps of noisy scans): 0 to 0.17, about half of them below."""
MIN_BRIGHT = 30
"""Voxels that a hundredth must have: in fewer chance decides."""
SAMPLES = 50_000
"""Values that are sorted: the distance is within 0.005 of that of all."""


@dataclass(frozen=True)
class ValueFigures:
    """How an image's values are distributed. The limits are this module's constants."""

    n_values: int
    equal_neighbours: float
    at_top: float
    unevenness: float
    lonely: float
    zeros: float
    maximum: float
    noise: float


def value_figures(magnitude: NDArray[np.float32]) -> ValueFigures:
    """How an image's values are distributed, from at most about two dozen slices across the middle half.

    Parameters
    ----------
    magnitude
        (slice, row, column).

    Returns
    -------
    ValueFigures
        Shares from 0 to 1; `noise` over the 99th percentile, 1 where too little is inside to say.
    """
    n = len(magnitude)
    step = max(1, (n // 2) // 12)
    image = magnitude[n // 4 : max(n // 4 + 3, 3 * n // 4) : step]
    top = bright_percentile(image[:, ::2, ::2], 99)
    maximum = float(image.max())
    inside = foreground(image) if top > 0 else image > 0
    pair = inside[:, :, 1:] & inside[:, :, :-1]
    difference = np.abs(np.diff(image, axis=2))[pair]
    values = image[image > 0]
    return ValueFigures(
        n_values=_n_values(image),
        equal_neighbours=float((difference <= 1e-3 * top).mean()) if difference.size else 0.0,
        at_top=float((image[inside] >= 0.98 * maximum).mean()) if inside.any() else 0.0,
        unevenness=_unevenness(values),
        lonely=_lonely(image, inside),
        zeros=float((image == 0).mean()),
        maximum=maximum,
        noise=_noise(image[::2], inside[::2], top=top),
    )


def why_derived(figures: ValueFigures) -> tuple[str, str] | None:
    """Why this is no magnitude image of anatomy.

    Parameters
    ----------
    figures
        As `value_figures` gives them.

    Returns
    -------
    tuple[str, str] | None
        (what was found, what a magnitude image has); None for an image that passes.
    """
    if figures.n_values < MIN_VALUES:
        return f"{figures.n_values} distinct values: a mask or label map", f"at least {MIN_VALUES}"
    if figures.equal_neighbours > MAX_EQUAL:
        share = f"{figures.equal_neighbours:.0%} of neighbouring voxels equal"
        return f"{share}: a label map or a segmentation", f"at most {MAX_EQUAL:.0%}"
    if figures.at_top > MAX_AT_TOP:
        share = f"{figures.at_top:.0%} of the foreground at the maximum"
        return f"{share}: a mask, a probability map or a saturated image", f"at most {MAX_AT_TOP:.0%}"
    if figures.unevenness < MIN_UNEVEN:
        distance = f"values spread evenly (distance {figures.unevenness:.3f})"
        return f"{distance}: a phase image, or an equalised histogram", f"at least {MIN_UNEVEN}"
    if figures.lonely > MAX_LONELY:
        share = f"{figures.lonely:.0%} of the brightest voxels beside dark ones"
        return f"{share}: phase, or a ratio or parameter map", f"at most {MAX_LONELY:.0%}"
    return None


def value_remarks(figures: ValueFigures) -> list[str]:
    """What is to be said of an image that passed.

    Parameters
    ----------
    figures
        As `value_figures` gives them.

    Returns
    -------
    list[str]
        Clauses without a full stop; empty where nothing is to be said.
    """
    said = []
    if figures.at_top > SAID_AT_TOP:
        said.append(f"{figures.at_top:.1%} of the foreground is at the maximum (windowed or saturated)")
    if figures.maximum <= 1.0 and figures.zeros > 0.3:
        said.append("values from 0 to 1 around exact zeros: a rescaled scan, or a map that looks like one")
    if figures.noise < MIN_NOISE:
        said.append(
            "all but free of noise: interpolated, smoothed or denoised before it was stored, or a computed map "
            "(T1, T2, ADC, a probability)"
        )
    if figures.n_values <= EIGHT_BITS:
        said.append(f"{figures.n_values} distinct values (an 8-bit export)")
    return said


def _n_values(image: NDArray[np.float32]) -> int:
    """How many distinct values there are; of every eighth row alone where these have more than any limit asks for."""
    n_seen = len(np.unique(image[:, ::8]))
    return n_seen if n_seen > EIGHT_BITS else len(np.unique(image))


def _unevenness(values: NDArray[np.float32]) -> float:
    """Kolmogorov's distance of the values, between their 0.5th and 99.5th percentile, from an even distribution."""
    ordered = np.sort(values[:: max(1, len(values) // SAMPLES)])
    if len(ordered) < 2:
        return 1.0
    low, high = ordered[np.rint(np.array([0.005, 0.995]) * (len(ordered) - 1)).astype(int)]
    if high <= low:
        return 1.0
    place = np.clip((ordered - low) / (high - low), 0, 1)
    return float(np.abs(place - np.linspace(0, 1, len(place))).max())


def _noise(image: NDArray[np.float32], inside: NDArray[np.bool_], *, top: float) -> float:
    """Standard deviation of what is finer than two pixels, over `top`; 1 where too little is inside to say.

    From the median of the mixed second differences (1 -2 1 along rows and columns, whose squares sum to 36).
    """
    deep = (
        inside[:, 1:-1, 1:-1]
        & inside[:, :-2, :-2]
        & inside[:, :-2, 2:]
        & inside[:, 2:, :-2]
        & inside[:, 2:, 2:]
    )
    if top <= 0 or deep.sum() < MIN_BRIGHT:
        return 1.0
    differences = np.diff(np.diff(image, 2, axis=1), 2, axis=2)
    return float(1.4826 * np.median(np.abs(differences[deep]))) / 6 / top


def _lonely(image: NDArray[np.float32], inside: NDArray[np.bool_]) -> float:
    """Of a slice's brightest hundredth the share beside a voxel, not zero, below 0.3 of it; the median of slices."""
    shares = []
    for of_slice, where in zip(image, inside, strict=True):
        if not where.any():
            continue
        y, x = np.nonzero(of_slice >= bright_percentile(of_slice[where], 99))
        if len(y) < MIN_BRIGHT:
            continue
        padded = np.pad(of_slice, 1, mode="edge")
        beside = np.stack([padded[y + dy, x + dx] for dy, dx in ((0, 1), (2, 1), (1, 0), (1, 2))])
        darkest = np.where(beside > 0, beside, np.inf).min(axis=0)
        shares.append(float((darkest < 0.3 * of_slice[y, x]).mean()))
    return float(np.median(shares)) if shares else 0.0
