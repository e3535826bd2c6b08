"""How near an image is to the truth: PSNR, SSIM and NMSE of a volume, and their summary over volumes.

The fastMRI definitions (Zbontar et al. 2018, section 5): one figure a volume, with the maximum of the target
volume as data range; computed in float64. S slice, H row, W column.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from skimage.metrics import structural_similarity

from minet_core.errors import MetricInvalid

_structural_similarity: Callable[..., float] = structural_similarity  # scikit-image has no annotations

SSIM_WINDOW_PX = 7
"""Side of SSIM's uniform window, pixels: the value of the fastMRI challenges."""

FOREGROUND_LEVEL = 0.1
"""Of the 99th percentile, as in sites.quality.scan_quality."""
ROBUST_PERCENTILE = 99.9


def psnr(target: ArrayLike, image: ArrayLike, *, data_range: float | None = None) -> float:
    """Peak signal-to-noise ratio: 10 log10(data range^2 / mean squared error).

    Parameters
    ----------
    target, image : (S, H, W)
        Magnitudes in the same units.
    data_range
        The maximum of `target`, if it is not given; it is given where the samples are part of a larger volume.

    Returns
    -------
    float, dB
        Infinite where the two are equal.

    Raises
    ------
    MetricInvalid
        Where a figure would mean nothing: shapes that differ, complex or not finite values, no range above zero.

    Examples
    --------
    >>> import numpy as np
    >>> from minet_core.evaluation.metrics import psnr
    >>> target = np.ones((2, 16, 16))
    >>> round(psnr(target, target + 0.1), 2)
    20.0
    """
    true, seen = _checked(target, image, data_range=data_range)
    mean_squared_error = float(np.mean((true - seen) ** 2))
    if mean_squared_error == 0:
        return math.inf
    peak = float(true.max()) if data_range is None else data_range
    return 10 * math.log10(peak**2 / mean_squared_error)


def ssim(target: ArrayLike, image: ArrayLike, *, data_range: float | None = None) -> float:
    """Structural similarity: the mean over slices of the mean over a slice (7 x 7 uniform window).

    Parameters
    ----------
    target, image : (S, H, W)
        Magnitudes in the same units; H and W at least `SSIM_WINDOW_PX`.
    data_range
        The maximum of `target`, if it is not given; it is given where the slices are part of a larger volume, and
        then `target` may be zero everywhere.

    Returns
    -------
    float
        -1 to 1; 1 where the two are equal.

    Raises
    ------
    MetricInvalid
        Where a figure would mean nothing, as in `psnr`, and for a slice smaller than the window.

    Examples
    --------
    >>> import numpy as np
    >>> from minet_core.evaluation.metrics import ssim
    >>> target = np.random.default_rng(1).random((2, 16, 16))
    >>> round(ssim(target, target), 4), ssim(target, np.zeros_like(target)) < 0.1
    (1.0, True)
    """
    true, seen = _checked(target, image, data_range=data_range)
    if min(true.shape[1:]) < SSIM_WINDOW_PX:
        raise MetricInvalid(
            "SSIM's window does not fit a slice",
            got=true.shape[1:],
            expected=f"at least {SSIM_WINDOW_PX} px an axis",
        )
    peak = float(true.max()) if data_range is None else data_range
    of_slices = [
        _structural_similarity(true_slice, seen_slice, win_size=SSIM_WINDOW_PX, data_range=peak)
        for true_slice, seen_slice in zip(true, seen, strict=True)
    ]
    return float(np.mean(of_slices))


def nmse(target: ArrayLike, image: ArrayLike) -> float:
    """Normalised mean squared error: |target - image|^2 / |target|^2 over the volume.

    Parameters
    ----------
    target, image : (S, H, W)
        Magnitudes in the same units.

    Returns
    -------
    float
        0 or more; 0 where the two are equal.

    Raises
    ------
    MetricInvalid
        Where a figure would mean nothing, as in `psnr`.
    """
    true, seen = _checked(target, image)
    return float(np.sum((true - seen) ** 2) / np.sum(true**2))


def volume_metrics(target: ArrayLike, image: ArrayLike) -> dict[str, float]:
    """PSNR, SSIM and NMSE of one volume, under the names of the reports.

    Parameters
    ----------
    target, image : (S, H, W)
        Magnitudes in the same units; the data range is the maximum of `target`.

    Returns
    -------
    dict
        `psnr_db` (dB), `ssim` and `nmse`.

    Raises
    ------
    MetricInvalid
        As `psnr`, `ssim` and `nmse`.
    """
    return {"psnr_db": psnr(target, image), "ssim": ssim(target, image), "nmse": nmse(target, image)}


def foreground_percentile(target: ArrayLike, percentile: float) -> float:
    """A percentile of the voxels above a tenth of the volume's 99th percentile.

    Large volumes are looked at in one row of four.

    Parameters
    ----------
    target : (S, H, W)
        Magnitude in any unit.
    percentile
        0 to 100.

    Returns
    -------
    float
        In the units of `target`; 0 for a volume of zeros.
    """
    magnitude = np.asarray(target)
    rows = magnitude[:, ::4] if magnitude.size > 2**20 else magnitude
    inside = rows[rows > FOREGROUND_LEVEL * float(np.percentile(rows, 99))]
    return float(np.percentile(inside, percentile)) if inside.size else 0.0


def robust_range(target: ArrayLike) -> float:
    """A data range that a few hot voxels do not move: the foreground's 99.9th percentile.

    Not the fastMRI definition.

    Parameters
    ----------
    target : (S, H, W)
        Magnitude in any unit.

    Returns
    -------
    float
        In the units of `target`, above zero.

    Raises
    ------
    MetricInvalid
        For an empty target.
    """
    level = foreground_percentile(target, ROBUST_PERCENTILE)
    if not level > 0:
        raise MetricInvalid("a target volume is empty", got="no value above zero", expected="an image")
    return level


def peak_ratio(target: ArrayLike) -> float:
    """The maximum over `robust_range`: above `OUTLYING_PEAK` PSNR and SSIM by the maximum flatter every method.

    Parameters
    ----------
    target : (S, H, W)
        Magnitude in any unit.

    Returns
    -------
    float
        About 1 and more.

    Raises
    ------
    MetricInvalid
        For an empty target.
    """
    return float(np.max(np.asarray(target))) / robust_range(target)


def bootstrap_interval(
    values: Sequence[float] | NDArray[Any],
    generator: np.random.Generator,
    *,
    level: float = 0.95,
    n_resamples: int = 2000,
) -> tuple[float, float] | None:
    """Percentile bootstrap interval of the mean.

    Parameters
    ----------
    values : (n,)
        One figure a volume, in any unit.
    generator
        Draws the resamples.
    level
        Of confidence, above 0 and below 1.
    n_resamples
        Means that the quantiles are taken of.

    Returns
    -------
    (low, high) or None
        In the unit of `values`. None for a single volume: its resamples are all equal, and an interval of no width
        would claim a certainty that one volume cannot give.

    Raises
    ------
    MetricInvalid
        For no values or one that is not finite.

    References
    ----------
    Efron, Tibshirani: "An Introduction to the Bootstrap", 1993, chapter 13.
    """
    sample = np.asarray(values, dtype=np.float64)
    if sample.ndim != 1 or sample.size == 0 or not np.isfinite(sample).all():
        raise MetricInvalid(
            "no interval can be drawn", got=list(values), expected="one or more finite figures"
        )
    if sample.size == 1:
        return None
    chosen = generator.integers(sample.size, size=(n_resamples, sample.size))
    tail = (1 - level) / 2
    low, high = np.quantile(sample[chosen].mean(axis=1), [tail, 1 - tail])
    return float(low), float(high)


def _checked(
    target: ArrayLike, image: ArrayLike, *, data_range: float | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both volumes in float64, after refusing what no figure can be given for.

    The data range is `data_range`, or else the maximum of `target`: it must be above zero.
    """
    true, seen = np.asarray(target), np.asarray(image)
    if true.ndim != 3 or true.shape != seen.shape:
        raise MetricInvalid(
            "two volumes cannot be compared",
            got=f"shapes {true.shape} and {seen.shape}",
            expected="one shape (slice, row, column)",
        )
    if np.iscomplexobj(true) or np.iscomplexobj(seen):
        raise MetricInvalid("two volumes cannot be compared", got="complex values", expected="magnitudes")
    true, seen = true.astype(np.float64, copy=False), seen.astype(np.float64, copy=False)
    if not (np.isfinite(true).all() and np.isfinite(seen).all()):
        raise MetricInvalid("two volumes cannot be compared", got="a value that is not finite")
    if true.size == 0 or (true.max() if data_range is None else data_range) <= 0:
        raise MetricInvalid("a target volume is empty", got="no value above zero", expected="an image")
    return true, seen
