"""How much of an axis' k-space a scan really holds, and the scan on the matrix that was measured.

Scanners zero-fill k-space, filter it, or interpolate images before they store them, and say so in no NIfTI header. The
stored grid is then finer than what was measured, and a truth made of it has nothing outside the measured band: any
method that keeps the band, sinc before all, looks excellent.

Two signs are looked for along each axis, in lines through the foreground.
1. The spectrum. The log power of anatomy falls like a power of the frequency, down to the noise. Where it lies 6 dB
   (half the amplitude) below the continuation of its own lower part, there and everywhere beyond, is the edge.
2. The period. Interpolation onto a grid that is no multiple of the measured one repeats its weights with a period: the
   mean differences along the axis have a line at the difference of the two sampling frequencies. This finds linear
   interpolation, whose spectrum has images of the lower frequencies where the edge would be.

A spectrum that is smooth by nature and one that was smoothed cannot be told apart: a share below 1 says that the grid
is finer than the detail, whoever made it so.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import fft, ndimage

from minet_core.errors import ScanInvalid
from minet_core.imaging.fourier import centre_crop, fft2c, ifft2c
from minet_core.imaging.volume import Volume

FOREGROUND_LEVEL = 0.1
"""Of the 99th percentile, as in sites.quality.scan_quality."""
MAX_LINES = 1500
"""Lines an axis is measured on, evenly taken: the mean of their log power is within 0.3 dB."""
MIN_SAMPLES = {0: 24, 1: 64, 2: 64}
"""By axis. A shorter one has too few frequencies: in 14 of 40 tiny phantoms of 40 x 36 samples 0.35 to 0.55 was
measured where nothing was interpolated. Slices are thick and sampled coarsely."""
MIN_EXTENT = 12
"""Samples of foreground in a line."""
HALF_AMPLITUDE_DB = 6.0
"""Where an axis is said to end. Full-matrix scans (24 phantom and 10 real volumes cropped in k-space to what they hold,
both axes in the plane) come to at most 5.0 dB; the least of 34 x 6 zero-filled ones to 19 dB."""
QUARTER_AMPLITUDE_DB = 12.0
"""Where what lies beyond is given up when k-space is cropped: a filter alone (Hann) leaves two thirds of the axis."""
FIT = (0.25, 0.6)
"""The part of the frequencies below one that its continuation is taken from."""
PERIOD_RATIO, PERIOD_DEPTH = 15.0, 0.08
"""A period's line against the median of the others, and its depth. Full-matrix scans have at most 11.5 at 0.05 (depth
0.34 on tiny ones, ratio 7); linear interpolation by 1.2 and 1.5 has 22 to 126 at 0.36 to 0.53, B-spline 9 to 45."""
MIN_PERIOD = 0.1
"""Lines of a lower frequency are anatomy."""


@dataclass(frozen=True)
class Occupied:
    """Shares (0 to 1) of an axis' frequencies, to where the amplitude has fallen to a half and a quarter; 1: nowhere.

    Where interpolation betrays its grid by its period, both are that grid's share.
    """

    to_half: float
    to_quarter: float


def occupied_band(magnitude: NDArray[np.float32], *, axis: int) -> Occupied | None:
    """How much of an axis' frequencies holds signal.

    Known shares of 0.4 to 0.9, 11 volumes each (3 real), both ends of the error: zero-filled k-space +0.00 to +0.02,
    linear, cubic and B-spline interpolation -0.01 to 0.00; a filter before zero-filling takes its part (Tukey of a
    quarter -0.14, Hann half of the share).

    Parameters
    ----------
    magnitude : (slice, row, column) float32
        In any unit.
    axis
        0, 1 or 2: slices, rows or columns.

    Returns
    -------
    Occupied or None
        None where the axis is too short (`MIN_SAMPLES`), or too little of it is anatomy (`MIN_EXTENT`).
    """
    if magnitude.shape[axis] < MIN_SAMPLES[axis]:
        return None
    lines = _foreground_lines(magnitude, axis=axis)
    if len(lines) == 0:
        return None
    power, period = _log_power(lines), _period(lines)
    half, quarter = (
        _spectral_edge(power, edge_db=edge) for edge in (HALF_AMPLITUDE_DB, QUARTER_AMPLITUDE_DB)
    )
    if period is not None:
        aliased = quarter < 0.5 and abs(period - quarter) < abs(1 - period - quarter)
        half = quarter = period if aliased else 1 - period
    return Occupied(half, quarter)


def crop_to_measured(volume: Volume, shares: tuple[float, float]) -> Volume:
    """The volume on the matrix that was measured: the centre of each slice's k-space.

    Slices keep their number and place; sample N // 2 of an axis becomes sample M // 2. Amplitudes are preserved.

    Parameters
    ----------
    volume
        Magnitude or complex.
    shares : (rows, columns)
        The part of either axis' frequencies that is kept, above 0 and at most 1.

    Returns
    -------
    Volume
        Of the same dtype, with the spacing and affine of its new matrix. Rows and columns are rounded to even
        numbers, never above those of `volume`.

    Raises
    ------
    ScanInvalid
        FM-D202, for a share that is none.
    """
    H, W = volume.array.shape[1:]
    if not all(0 < share <= 1 for share in shares):
        raise ScanInvalid("k-space cannot be cropped", got=shares, expected="shares above 0, at most 1")
    h, w = (max(2, 2 * round(size * share / 2)) for size, share in zip((H, W), shares, strict=True))
    h, w = min(h, H), min(w, W)
    gain = float(np.sqrt(h * w / (H * W)))
    cropped = []
    for one in volume.array:
        image = ifft2c(centre_crop(fft2c(torch.from_numpy(np.ascontiguousarray(one))), (h, w))) * gain
        cropped.append((image if np.iscomplexobj(one) else image.abs()).numpy().astype(one.dtype, copy=False))
    through, down, across = volume.spacing_mm
    affine = volume.affine.copy()
    for axis, old, new in ((1, H, h), (2, W, w)):
        step = volume.affine[:3, axis]
        affine[:3, axis] = step * old / new
        affine[:3, 3] += step * (old // 2) - affine[:3, axis] * (new // 2)
    spacing = (through, down * H / h, across * W / w)
    return dataclasses.replace(volume, array=np.stack(cropped), spacing_mm=spacing, affine=affine)


def _foreground_lines(magnitude: NDArray[np.float32], *, axis: int) -> NDArray[np.float32]:
    """(line, sample): lines that cross much foreground, each cut to it by a Hann window; air is outside.

    Air is left out since the magnitude of its noise fills all frequencies.
    """
    lines = np.moveaxis(magnitude, axis, -1)
    step = max(1, round(float(np.sqrt(lines.shape[0] * lines.shape[1] / (4 * MAX_LINES)))))
    lines = np.ascontiguousarray(lines[::step, ::step]).reshape(-1, lines.shape[-1])
    anatomy = lines > FOREGROUND_LEVEL * float(np.percentile(lines[::4], 99))
    n = lines.shape[-1]
    first, last = anatomy.argmax(-1), n - 1 - anatomy[:, ::-1].argmax(-1)
    length = np.where(anatomy.any(-1), last - first, 0)
    if length.max(initial=0) < MIN_EXTENT:
        return lines[:0]
    chosen = np.flatnonzero(length >= 0.6 * length.max())
    if len(chosen) > MAX_LINES:
        chosen = chosen[np.linspace(0, len(chosen) - 1, MAX_LINES).astype(int)]
    windows = np.zeros((len(chosen), n), np.float32)
    for extent in np.unique(length[chosen]):  # few, and the sine takes as long as all else here
        window = np.sin(np.pi * (np.arange(1, extent + 2) / (extent + 2))) ** 2
        alike = np.flatnonzero(length[chosen] == extent)
        inside = first[chosen[alike], None] + np.arange(extent + 1)
        windows[alike[:, None], inside] = window
    return np.asarray(lines[chosen] * windows, np.float32)


def _log_power(lines: NDArray[np.float32]) -> NDArray[np.float64]:
    """Mean log power [dB] of the lines at the frequencies 0 to Nyquist, each against its own mean."""
    power = np.abs(fft.rfft(lines, axis=-1)) ** 2
    power /= np.maximum(power[:, :1], np.finfo(np.float32).tiny)
    return np.asarray(10 * np.log10(power + 1e-14).mean(axis=0), np.float64)


def _spectral_edge(log_power: NDArray[np.float64], *, edge_db: float) -> float:
    """The frequency, of Nyquist, beyond which the power is below the continuation of what lies under it; 1: none."""
    n = len(log_power) - 1
    half_width = round(0.015 * n) if n > 30 else 0
    smooth = ndimage.uniform_filter1d(log_power[:n], 2 * half_width + 1, mode="nearest")
    logarithm = np.log(np.maximum(np.arange(n + 1), 1) / n)
    lowest = 3  # the window's main lobe
    edges = np.arange(2 * lowest, n)
    low = np.maximum(lowest, np.ceil(FIT[0] * edges).astype(int))
    stop = np.maximum(lowest + 1, (FIT[1] * edges).astype(int)) + 1
    sum_x, sum_y, sum_xx, sum_xy = (
        (total := np.concatenate([[0.0], np.cumsum(values)]))[stop] - total[low]
        for values in (logarithm[:n], smooth, logarithm[:n] ** 2, logarithm[:n] * smooth)
    )
    mean_x, mean_y = sum_x / (stop - low), sum_y / (stop - low)
    slopes = np.minimum((sum_xy - sum_x * mean_y) / (sum_xx - sum_x * mean_x), 0.0)
    first = mean_y + slopes * (logarithm[edges] - mean_x) - log_power[edges]
    for index in np.flatnonzero(first >= edge_db):
        edge = int(edges[index])
        expected = mean_y[index] + slopes[index] * (logarithm[edge:n] - mean_x[index])
        if bool((expected - log_power[edge:n] >= edge_db - 1).all()):
            return edge / n
    return 1.0


def _period(lines: NDArray[np.float32]) -> float | None:
    """Frequency [cycles a sample, to 0.5] of a period in the differences along the axis; None where there is none."""
    above = lines > 0
    inside = above[:, :-3] & above[:, 1:-2] & above[:, 2:-1] & above[:, 3:]
    count = inside.sum(axis=0)
    used = np.flatnonzero(count > 0.1 * count.max(initial=0))
    if len(used) < 4 * MIN_EXTENT:
        return None
    place = slice(int(used[0]), int(used[-1]) + 1)
    n = place.stop - place.start
    lowest = int(np.ceil(MIN_PERIOD * n))
    best, period = PERIOD_RATIO, None
    for order in (
        2,
        3,
    ):  # the second is blind to a linear interpolation by two between the samples, the third is not
        steps = np.abs(np.diff(lines, order, axis=1))[:, : inside.shape[1]]
        total = np.where(inside, steps, 0).sum(axis=0, dtype=np.float64)[place]
        level = np.log(np.maximum(total, 1e-30) / np.maximum(count[place], 1))
        level -= ndimage.median_filter(level, 9, mode="reflect")
        spectrum = np.abs(fft.rfft((level - level.mean()) * np.hanning(n)))[lowest:]
        peak = int(spectrum.argmax())
        ratio = spectrum[peak] / max(float(np.median(spectrum)), 1e-30)
        if ratio >= best and 4 * spectrum[peak] / n >= PERIOD_DEPTH:
            best, period = ratio, (lowest + peak) / n
    return period
