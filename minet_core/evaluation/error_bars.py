"""From how far a picture moves when the scans are mirrored to an error bar: a unit for each voxel, and two factors.

The unit is the root mean square of the spread about a voxel, for four pictures are too few to have a deviation each,
and a floor beside it, for where all four agree they may be wrong alike. The factors are quantiles of the error over the
unit on patients whose truth is known, each patient of the same weight. Smoothing and floor are no part of what is
measured at a site: they were set on phantoms that no table has (docs/results/error-bars.md).

S slice, H, W row and column.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from minet_core.calibration import LEVELS, ErrorBars
from minet_core.errors import MetricInvalid
from minet_core.imaging.scan_figures import FOREGROUND_LEVEL

SMOOTHING_PX = 1.5
"""Deviation of the Gaussian over which the squared spread is averaged."""
FLOOR = 0.01
"""Of the low-resolution slice's standard deviation, which is what a network's numbers are in."""
N_QUANTILES = 4001
"""Points by which the errors of a volume are kept."""
AIR_SMOOTHING_PX = 1.0
Array = NDArray[np.float32]


def error_unit(spread: Array, low_res: Array) -> Array:
    """What an error is measured in at each voxel.

    Parameters
    ----------
    spread : (S, H, W) float32
        Standard deviation of the pictures over mirrored scans; 0 where nothing moves.
    low_res : (S, h, w)
        Magnitude of the scan's slices, in the units of the spread.

    Returns
    -------
    (S, H, W) float32
        Above 0 in every slice that is not constant.
    """
    variance = ndimage.gaussian_filter(spread.astype(np.float64) ** 2, (0.0, SMOOTHING_PX, SMOOTHING_PX))
    floor = FLOOR * low_res.astype(np.float64).std(axis=(1, 2), keepdims=True)
    return np.asarray(np.sqrt(np.maximum(variance, 0.0) + floor**2), dtype=np.float32)


def inside_anatomy(picture: Array) -> NDArray[np.bool_]:
    """Where a picture shows the patient and not air, holes filled slice by slice.

    Parameters
    ----------
    picture : (S, H, W) float32
        Magnitude in any unit.

    Returns
    -------
    (S, H, W) bool
        Above `FOREGROUND_LEVEL` of the 99th percentile after a little smoothing.
    """
    smooth = ndimage.gaussian_filter(picture, (0.0, AIR_SMOOTHING_PX, AIR_SMOOTHING_PX))
    bright = smooth > FOREGROUND_LEVEL * np.percentile(picture, 99)
    return np.stack([ndimage.binary_fill_holes(ndimage.binary_opening(one)) for one in bright])


def error_quantiles(truth: Array, picture: Array, unit: Array) -> NDArray[np.float64] | None:
    """The distribution of a volume's errors over their unit, inside the anatomy.

    Parameters
    ----------
    truth, picture : (S, H, W) float32
        Magnitude in one unit.
    unit : (S, H, W) float32
        As `error_unit`.

    Returns
    -------
    (N_QUANTILES,) float64 or None
        Quantiles of abs(picture - truth) / unit at even levels from 0 to 1; None without any anatomy.
    """
    shown = inside_anatomy(picture) & (unit > 0)
    if not shown.any():
        return None
    errors = np.abs(picture[shown].astype(np.float64) - truth[shown]) / unit[shown]
    return np.asarray(np.quantile(errors, np.linspace(0, 1, N_QUANTILES)))


def error_bars(by_patient: Mapping[str, Sequence[NDArray[np.float64]]]) -> ErrorBars:
    """The factors by which units become error bars, by the pooled quantiles of patients.

    Parameters
    ----------
    by_patient
        Of each patient, the `error_quantiles` of one volume or more.

    Returns
    -------
    ErrorBars
        To three digits, rounded up.

    Raises
    ------
    MetricInvalid
        FM-M304: no patient, or one without a volume.

    Examples
    --------
    >>> import numpy as np
    >>> from minet_core.evaluation.error_bars import N_QUANTILES, error_bars
    >>> even = np.linspace(0, 10, N_QUANTILES)
    >>> error_bars({"one": [even], "two": [even, 2 * even]}).factor_95
    16.0
    """
    if not by_patient or not all(by_patient.values()):
        raise MetricInvalid("error bars cannot be calibrated", got="a patient without errors, or no patient")
    values = np.concatenate([volume for volumes in by_patient.values() for volume in volumes])
    weights = np.concatenate(
        [
            np.full(volume.size, 1 / (volume.size * len(volumes)))
            for volumes in by_patient.values()
            for volume in volumes
        ]
    )
    order = np.argsort(values, kind="stable")
    covered = np.cumsum(weights[order]) / len(by_patient)
    factors = [values[order][min(int(np.searchsorted(covered, level)), values.size - 1)] for level in LEVELS]
    return ErrorBars(factor_68=_rounded_up(factors[0]), factor_95=_rounded_up(factors[1]))


def _rounded_up(factor: float) -> float:
    step = 10.0 ** (math.floor(math.log10(max(factor, 1e-5))) - 2)
    return float(f"{math.ceil(max(factor, 1e-5) / step - 1e-9) * step:.3g}")
