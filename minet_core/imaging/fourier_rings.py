"""Fourier ring correlation in a window that moves over the image: where detail is shown that the truth has not.

The figures of a whole volume (`minet_core.imaging.kspace_band`) can be good while one lesion is invented. So image and
truth are compared window by window, in rings of spatial frequency beyond the measured band: in each ring a correlation
of 1 is the truth's detail, and what lies below the half-bit curve says less about the truth than chance would allow.

Rings are square, as the measured band is: ring r holds the frequencies with max(|u|, |v|) = r cycles a window. The
window is a Hann window, whose leakage of one line keeps the first ring beyond the band out.

S slice, H, W high-resolution row and column; n, m windows along rows and columns, R rings.

References
----------
van Heel, Schatz: "Fourier shell correlation threshold criteria", J Struct Biol 151, 2005: the half-bit curve, eq. 17.
Koho et al.: "Fourier ring correlation simplifies image restoration in fluorescence microscopy", Nat Commun 10, 2019.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike, NDArray

from minet_core.errors import MetricInvalid

WINDOW_PX = 32
"""Edge of a window, pixels: at 4x four cycles of the measured band, and some centimetres of a brain."""

STEP_PX = 16
"""From window to window: half of one, so that the Hann windows add up to the same everywhere."""

LEAKAGE_LINES = 1
"""Lines of a Hann window's spectrum on either side of a frequency: such a ring beside the band is no detail."""

HANN_CORRELATION = 1.5
"""Lines along an axis that a Hann window makes one independent value of."""

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class RingScan:
    """Image and truth by window and ring.

    correlation: (S, n, m, R), -1 to 1; 0 where the image or the truth has nothing. energy: (S, n, m, R), of the image,
    in its units squared. threshold: (R,), the half-bit curve.
    """

    correlation: Array
    energy: Array
    threshold: Array

    @property
    def invented(self) -> Array:
        """(S, n, m): energy of the image's detail in rings whose correlation is below the half-bit curve."""
        below: Array = np.where(self.correlation < self.threshold, self.energy, 0.0).sum(axis=-1)
        return below


def scan_rings(image: ArrayLike, truth: ArrayLike, *, scale: int) -> RingScan:
    """Compare the detail of two volumes beyond the measured band, window by window.

    Parameters
    ----------
    image, truth : (S, H, W) magnitude
        In the same units, at least `WINDOW_PX` an axis in plane.
    scale
        The central 1/scale of k-space was measured in both directions: 2 or 4.

    Returns
    -------
    RingScan
        Windows of `WINDOW_PX` every `STEP_PX`; a rest at the last rows and columns that fills no window is left out.

    Raises
    ------
    MetricInvalid
        For two shapes, slices smaller than a window, or a value that is not finite.
    """
    volumes = [np.asarray(volume, dtype=np.float64) for volume in (image, truth)]
    shapes = [volume.shape for volume in volumes]
    if shapes[0] != shapes[1] or len(shapes[0]) != 3 or min(shapes[0][1:]) < WINDOW_PX or 0 in shapes[0]:
        raise MetricInvalid(
            "two volumes cannot be compared window by window",
            got=f"shapes {shapes[0]} and {shapes[1]}",
            expected=f"one shape (slice, row, column), {WINDOW_PX} or more in plane",
        )
    if not all(np.isfinite(volume).all() for volume in volumes):
        raise MetricInvalid("two volumes cannot be compared window by window", got="a value not finite")
    radius, rings = _rings(scale)
    found = [_scan_slice(*slices, radius=radius, rings=rings) for slices in zip(*volumes, strict=True)]
    correlation, energy = (np.stack(part) for part in zip(*found, strict=True))
    return RingScan(correlation, energy, half_bit_threshold(rings))


def invented_share(image: ArrayLike, truth: ArrayLike, *, scale: int) -> float | None:
    """Share of the image's detail beyond the measured band that is not the truth's, by place and frequency.

    The energy in windows and rings whose correlation with the truth is below the half-bit curve, over all energy there:
    0 where all that is shown is borne out at its place, 1 where nothing is.

    Parameters
    ----------
    image, truth : (S, H, W) magnitude
        As for `scan_rings`, of any size.
    scale
        2 or 4.

    Returns
    -------
    float or None
        None where the image has no detail there, or is smaller than a window.

    Raises
    ------
    MetricInvalid
        For two shapes, or a value that is not finite.
    """
    if np.shape(image) == np.shape(truth) and min(np.shape(image)[-2:]) < WINDOW_PX:
        return None
    scan = scan_rings(image, truth, scale=scale)
    total = float(scan.energy.sum())
    return float(scan.invented.sum()) / total if total > 0 else None


def half_bit_threshold(rings: NDArray[Any]) -> Array:
    """The correlation at which a ring holds half a bit of information a sample.

    Parameters
    ----------
    rings : (R,)
        Cycles a window. A square ring r has 8 r lines, of which a real image has one half of its own, and the Hann
        window makes one value of 1.5 by 1.5.

    Returns
    -------
    (R,) array
        0.17 for many samples, nearer to 1 for few.
    """
    root = np.sqrt(4.0 * np.asarray(rings, dtype=np.float64) / HANN_CORRELATION**2)
    threshold: Array = (0.2071 + 1.9102 / root) / (1.2071 + 0.9102 / root)
    return threshold


def _rings(scale: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The ring of each line of a window's k-space, and the rings that are beyond the band and its leakage."""
    line = np.abs(np.rint(np.fft.fftfreq(WINDOW_PX) * WINDOW_PX)).astype(np.int64)
    first = WINDOW_PX // (2 * scale) + LEAKAGE_LINES + 1
    return np.maximum(line[:, None], line[None, :]), np.arange(first, WINDOW_PX // 2)


def _scan_slice(
    image: Array, truth: Array, *, radius: NDArray[np.int64], rings: NDArray[np.int64]
) -> tuple[Array, Array]:
    """Correlation and the image's energy of one slice, (n, m, R) each."""
    of_ring = (radius.reshape(-1, 1) == rings).astype(np.float64)  # (lines, R)
    first, second = _spectra(image), _spectra(truth)
    shape = (*first.shape[:2], len(rings))

    def sums(values: Array) -> Array:
        added: Array = (values.reshape(-1, of_ring.shape[0]) @ of_ring).reshape(shape)
        return added

    energy, true_energy = (sums(np.abs(found) ** 2) for found in (first, second))
    product = sums((first * second.conj()).real)
    size = np.sqrt(energy * true_energy)
    return np.divide(product, size, out=np.zeros(shape), where=size > 0), energy


def _spectra(of_slice: Array) -> NDArray[np.complex128]:
    """(n, m, `WINDOW_PX`, `WINDOW_PX`): k-space of each window."""
    windows = sliding_window_view(of_slice, (WINDOW_PX, WINDOW_PX))[::STEP_PX, ::STEP_PX]
    hann = np.hanning(WINDOW_PX + 1)[:-1]
    return np.fft.fft2(windows * np.outer(hann, hann), norm="ortho")
