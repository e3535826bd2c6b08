"""What is brighter than anatomy: hot voxels, burned-in marks, hot edge lines, spikes in k-space.

PSNR takes the volume's maximum for its data range: one hot voxel of 32000 where the anatomy ends at 1059 lifts it by
28 dB. Nothing is replaced here: an altered truth is no truth. A scan is refused with the voxel's place.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from minet_core.evaluation.metrics import foreground_percentile
from sites.quality.scan_quality import bright_percentile, foreground

HOT_LEVEL = 2.0
"""Over the foreground's 99.9th percentile. 10 real volumes: targets to 1.5, T1 references of skull-stripped brains to
3.2 (vessels at the skull base: broad). 24 phantoms: to 1.7."""
HOT_CONTRAST = 3.0
"""... and over everything at two voxels' distance in its slice. The same real vessels: at most 2.2; blots of 2 x 2
voxels of five times the maximum: 6.7 to 24."""
MARK_VOXELS = 30
"""Fewer voxels of the top are the tail of a distribution: 10 real volumes have 1 to 4, tiny phantoms up to 70."""
MARK_EDGE = 0.5
"""Share of the rim of the voxels within 2% of the maximum beside one below 0.3 of it: marks have hard edges."""
LINE_LEVEL, LINE_CONTRAST = 0.3, 3.0
"""A first or last row or column: its mean over that of the volume's 99th percentile, and over the next two's."""
SPIKE_CONTRAST = 2.6
"""Logarithm of a k-space point over its surroundings (13 times). Slices of 10 real volumes to 2.1, phantoms to 1.8; a
spike of 0.1 of the centre has 3.0 to 3.8, one of 0.03 1.6 to 2.6: it is not found."""
SPIKE_AREA = 0.5
"""Of the large slices' foreground. Small ones have weak spectra: one of them in ten real volumes came to 2.6."""
SPIKE_SHARE = 0.002
"""Of the centre of k-space. A weaker point makes stripes of less than 0.4% of the mean, which noise hides. Marrow as
fine as the pixels has such points (0.0003, 15 times its surroundings), and so has the strongest of ten real volumes
(8e-5, 2.1; of those above the share 1.75). Spikes of 0.1 and 0.03 of the centre have 0.02 and 0.006 here."""
SURROUNDINGS = 9
"""Points across what a point of k-space is compared with."""
SPIKE_CENTRE = 8
"""Lines around the centre of k-space that are left out: there anatomy is steep."""


@dataclass(frozen=True)
class BrightFigures:
    """peak_ratio: the maximum over the foreground's 99.9th percentile. hot: (slice, row, column) of the worst, if any.

    n_hot: voxels as hot. mark_voxels: voxels of burned-in marks. line: the hot edge line, if any. spike: (slice,
    contrast) of the strongest point in k-space.
    """

    peak_ratio: float
    hot: tuple[int, int, int] | None
    n_hot: int
    mark_voxels: int
    line: str | None
    spike: tuple[int, float]


def bright_figures(magnitude: NDArray[np.float32]) -> BrightFigures:
    """How bright a scan is where it should not be.

    Parameters
    ----------
    magnitude
        (slice, row, column).

    Returns
    -------
    BrightFigures
        `peak_ratio` is 1 where the foreground's 99.9th percentile is 0.
    """
    usual = foreground_percentile(magnitude, 99.9)
    hot = _hot_voxels(magnitude, level=HOT_LEVEL * usual)
    worst = max(hot, key=lambda place: float(magnitude[place]), default=None)
    return BrightFigures(
        peak_ratio=float(magnitude.max()) / usual if usual > 0 else 1.0,
        hot=worst,
        n_hot=len(hot),
        mark_voxels=_mark_voxels(magnitude),
        line=_hot_line(magnitude),
        spike=_spike(magnitude),
    )


def why_too_bright(figures: BrightFigures) -> tuple[str, str] | None:
    """Why no figure of this image would mean anything.

    Parameters
    ----------
    figures
        As `bright_figures` gives them.

    Returns
    -------
    tuple[str, str] | None
        (what was found, what is expected); None for an image that passes.
    """
    if figures.hot is not None:
        place = f"{figures.n_hot} hot voxels, the worst {figures.peak_ratio:.1f} times the 99.9th percentile"
        return (
            f"{place}, at (slice, row, column) {figures.hot}",
            f"at most {HOT_LEVEL} times, or a broad structure",
        )
    if figures.mark_voxels:
        return f"{figures.mark_voxels} voxels at the maximum with hard edges: text or marks", "anatomy alone"
    if figures.line is not None:
        return f"a bright line along the {figures.line}", "anatomy alone"
    index, contrast = figures.spike
    if contrast > SPIKE_CONTRAST:
        times = f"{np.exp(contrast):.0f} times its surroundings"
        return (
            f"a spike in the k-space of slice {index}, {times}",
            f"at most {np.exp(SPIKE_CONTRAST):.0f} times",
        )
    return None


def _hot_voxels(magnitude: NDArray[np.float32], *, level: float) -> list[tuple[int, int, int]]:
    """Voxels above `level` that nothing at two voxels' distance in their slice comes near to."""
    above = magnitude > level
    if not 0 < np.count_nonzero(above) <= 100_000:
        return []
    places = np.argwhere(above)
    padded = np.pad(magnitude[np.unique(places[:, 0])], ((0, 0), (2, 2), (2, 2)))
    row = np.searchsorted(np.unique(places[:, 0]), places[:, 0])
    ring = np.zeros(len(places), np.float32)
    for dy in range(5):
        for dx in range(5):
            if dy in (0, 4) or dx in (0, 4):
                np.maximum(ring, padded[row, places[:, 1] + dy, places[:, 2] + dx], out=ring)
    hot = magnitude[tuple(places.T)] > HOT_CONTRAST * ring
    return [(int(z), int(y), int(x)) for z, y, x in places[hot]]


def _mark_voxels(magnitude: NDArray[np.float32]) -> int:
    """Voxels at the maximum, where there are many and most on the rim of their areas lie beside a dark one."""
    top = float(magnitude.max())
    at_top = magnitude >= 0.98 * top
    if np.count_nonzero(at_top) < MARK_VOXELS:
        return 0
    places = np.argwhere(at_top)
    slices, row = np.unique(places[:, 0], return_inverse=True)
    padded = np.pad(magnitude[slices], ((0, 0), (1, 1), (1, 1)), mode="edge")
    _, y, x = places.T
    beside = np.stack([padded[row, y + dy, x + dx] for dy, dx in ((0, 1), (2, 1), (1, 0), (1, 2))]).min(
        axis=0
    )
    rim = beside < 0.98 * top
    hard = float((beside[rim] < 0.3 * top).mean()) if rim.sum() >= MARK_VOXELS else 0.0
    return len(places) if hard > MARK_EDGE else 0


def _hot_line(magnitude: NDArray[np.float32]) -> str | None:
    """'first row' and the like, where it is far brighter than the two beside it."""
    level = LINE_LEVEL * bright_percentile(magnitude[:, ::2, ::2], 99)
    for axis, name in ((1, "row"), (2, "column")):
        means = magnitude.mean(axis=(0, 3 - axis))
        for place, ordered in (("first", means), ("last", means[::-1])):
            if ordered[0] > level and ordered[0] > LINE_CONTRAST * ordered[1:3].max():
                return f"{place} {name}"
    return None


def _spike(magnitude: NDArray[np.float32]) -> tuple[int, float]:
    """The slice whose k-space has the point most above its surroundings, and the logarithm of the contrast.

    Points that make no stripes to speak of are left out: see `SPIKE_SHARE`.
    """
    H, W = magnitude.shape[1:]
    if min(H, W) < 8 * SPIKE_CENTRE:
        return 0, 0.0
    window = (np.hanning(H)[:, None] * np.hanning(W)[None]).astype(np.float32)
    found = (0, 0.0)
    area = foreground(magnitude[:, ::2, ::2]).sum(axis=(1, 2))
    for index in np.flatnonzero(area >= SPIKE_AREA * np.percentile(area, 90)):
        if magnitude[index].min() == magnitude[index].max():
            continue
        contrast = _spike_contrast(fft.fftshift(np.abs(fft.rfft2(magnitude[index] * window)), axes=0))
        found = max(found, (int(index), contrast), key=lambda one: one[1])
    return found


def _spike_contrast(spectrum: NDArray[np.float32]) -> float:
    """Of the points above `SPIKE_SHARE` the logarithm of the one most above its surroundings, of 9 x 9 points; 0: none.

    spectrum: (row, column) amplitudes, the centre of k-space in the middle of the first column.
    """
    middle = len(spectrum) // 2
    strong = spectrum >= SPIKE_SHARE * spectrum.max()
    strong[middle - SPIKE_CENTRE : middle + SPIKE_CENTRE + 1, : SPIKE_CENTRE + 1] = False
    rows, columns = np.flatnonzero(strong.any(axis=1)), np.flatnonzero(strong.any(axis=0))
    if not rows.size:
        return 0.0
    # Logarithms are taken of the part that holds such points, and of what surrounds them: they lie near the centre.
    part = tuple(
        slice(max(0, int(places[0]) - SURROUNDINGS // 2), int(places[-1]) + SURROUNDINGS // 2 + 1)
        for places in (rows, columns)
    )
    power = np.log(spectrum[part] + np.float32(1e-6))
    above = power - ndimage.uniform_filter(power, SURROUNDINGS, mode="nearest")
    return max(0.0, float(above[strong[part]].max()))
