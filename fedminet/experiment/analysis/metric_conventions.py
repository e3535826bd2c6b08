"""The other conventions under which published PSNR, SSIM and NMSE differ, beside the fastMRI definition.

One pair of volumes has as many figures as there are conventions, decibels apart. A published figure may be
compared only with the one of its own convention. Computed in float64. S slice, H row, W column.

A slice whose truth holds no value above zero has neither a range nor a norm of its own: the means over slices
pass it over, whatever the image shows there. The figures of the whole volume do not.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage
from skimage.filters import threshold_otsu
from skimage.metrics import structural_similarity

from minet_core.evaluation.metrics import SSIM_WINDOW_PX, nmse, psnr, ssim, volume_metrics

_otsu: Callable[..., float] = threshold_otsu  # scikit-image has no annotations
_similarity_map: Callable[..., tuple[float, NDArray[np.float64]]] = structural_similarity

Array = NDArray[np.float64]

CLAMP_SD = 6.0
"""Where the MINet release cuts off its targets, in standard deviations above the mean of a slice."""

CLOSING_PX = 3
"""Radius of the closing of the foreground, pixels: it joins the scalp where it is thin, so that what lies inside
can be filled."""


def conventional_metrics(truth: ArrayLike, image: ArrayLike) -> dict[str, dict[str, float]]:
    """The figures of one volume by convention, then by name: psnr_db, ssim, nmse.

    truth, image: (S, H, W) magnitude. By convention:

    - "volume": the fastMRI definition, that of `minet_core.evaluation.metrics` and of every report.
    - "slice": the mean over slices of each slice's own figures, the volume's maximum as data range.
    - "slice-range": the same with each slice's own maximum as data range.
    - "foreground": samples of `foreground` only, over the volume, with the volume's maximum as data range.
    - "clamped": "volume" after both were cut off at 6 standard deviations, slice by slice (see `_clamped`).

    PSNR is infinite where the two are equal; in the means over slices, where they are equal in one slice.
    Raises MetricInvalid for what `volume_metrics` refuses.
    """
    in_volume = volume_metrics(truth, image)  # refuses what cannot be compared
    true, seen = np.asarray(truth, dtype=np.float64), np.asarray(image, dtype=np.float64)
    return {"volume": in_volume} | {name: figures(true, seen) for name, figures in _CONVENTIONS.items()}


def foreground(truth: ArrayLike) -> NDArray[np.bool_]:
    """Where the object is, from the truth alone: (S, H, W) magnitude -> (S, H, W).

    At or above Otsu's threshold of the volume (Otsu 1979), closed by `CLOSING_PX` and filled slice by slice.
    A volume of one value is all foreground.
    """
    true = np.asarray(truth, dtype=np.float64)
    bright = true >= _otsu(true.ravel())
    row, column = np.mgrid[-CLOSING_PX : CLOSING_PX + 1, -CLOSING_PX : CLOSING_PX + 1]
    disc = np.hypot(row, column) <= CLOSING_PX
    filled = np.empty(true.shape, dtype=np.bool_)
    for index, of_slice in enumerate(bright):
        # The closing takes the outside of the frame for air and would eat what touches its edge.
        closed = ndimage.binary_closing(of_slice, structure=disc) | of_slice
        filled[index] = ndimage.binary_fill_holes(closed)
    return filled


def _per_slice(true: Array, seen: Array) -> dict[str, float]:
    """Equal to "volume" but for the order of mean and logarithm, and the weight of dim slices in NMSE."""
    return _mean_over_slices(true, seen, peaks=np.full(len(true), true.max()))


def _per_slice_range(true: Array, seen: Array) -> dict[str, float]:
    return _mean_over_slices(true, seen, peaks=true.max(axis=(1, 2)))


def _mean_over_slices(true: Array, seen: Array, *, peaks: NDArray[np.float64]) -> dict[str, float]:
    """peaks: (S,), the data range of each slice."""
    lit = true.max(axis=(1, 2)) > 0
    of_slices = [
        (psnr(t, s, data_range=peak), ssim(t, s, data_range=peak), nmse(t, s))
        for t, s, peak in zip(true[lit, None], seen[lit, None], peaks[lit].tolist(), strict=True)
    ]
    return dict(zip(("psnr_db", "ssim", "nmse"), np.mean(of_slices, axis=0).tolist(), strict=True))


def _in_foreground(true: Array, seen: Array) -> dict[str, float]:
    """SSIM is the mean of its map over the foreground; its window reaches out of it by half a side.

    At the edge of the frame, which the mean of the other conventions leaves out, the window is mirrored.
    """
    inside = foreground(true)
    true_inside, seen_inside = true[inside][None, None], seen[inside][None, None]  # (1, 1, samples)
    peak = float(true.max())
    similarity = np.concatenate(
        [
            _similarity_map(t, s, win_size=SSIM_WINDOW_PX, data_range=peak, full=True)[1][chosen]
            for t, s, chosen in zip(true, seen, inside, strict=True)
        ]
    )
    return {
        "psnr_db": psnr(true_inside, seen_inside, data_range=peak),
        "ssim": float(similarity.mean()),
        "nmse": nmse(true_inside, seen_inside),
    }


def _clamped(true: Array, seen: Array) -> dict[str, float]:
    """Both cut off to [0, mean + 6 sd] of the true slice, then scored as a volume.

    The MINet release validates against a target that was clamped, slice by slice, to +-6 standard deviations
    about the mean of its low-resolution slice. Departures: the mean and deviation are those of the true slice
    (the release's low-resolution image is brighter by the scale); the image is clamped with the truth, so that
    it is not charged for showing what the truth had lost; the lower bound is zero.
    """
    bound = true.mean(axis=(1, 2), keepdims=True) + CLAMP_SD * true.std(axis=(1, 2), keepdims=True)
    return volume_metrics(np.clip(true, 0, bound), np.clip(seen, 0, bound))


_CONVENTIONS: dict[str, Callable[[Array, Array], dict[str, float]]] = {
    "slice": _per_slice,
    "slice-range": _per_slice_range,
    "foreground": _in_foreground,
    "clamped": _clamped,
}
