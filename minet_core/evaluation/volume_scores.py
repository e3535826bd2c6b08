"""How well a model does on a volume whose truth is known, beside the two baselines.

The truth is degraded, super-resolved by the model, by sinc and by bicubic, all three clamped at zero, and
compared with its magnitude in the units it is stored in. S slice, H row, W column.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from minet_core.errors import NoScansFound, ScanInvalid
from minet_core.evaluation.inference import Progress, super_resolve
from minet_core.evaluation.metrics import nmse, peak_ratio, psnr, robust_range, ssim, volume_metrics
from minet_core.evaluation.outlying_peak import OUTLYING_PEAK
from minet_core.imaging.degradation import crop_to_multiple, low_resolution
from minet_core.imaging.interpolation import BASELINES, INTERPOLATIONS
from minet_core.training.samples import SliceSource, as_tensor

MODEL = "global"


@dataclass(frozen=True)
class VolumeScores:
    """metrics: by method ("global", "sinc", "bicubic"), then by name (psnr_db, ssim, nmse).

    peak_ratio: of the truth (`minet_core.evaluation.metrics.peak_ratio`); above OUTLYING_PEAK `robust_psnr_db`, with
    the truth's 99.9th percentile as data range, is given by method beside the fastMRI figure. images: on request,
    float32: "low_res" (S, h, w); "target", "reference" and every method (S, H, W).
    """

    metrics: dict[str, dict[str, float]]
    images: dict[str, NDArray[np.float32]] | None = None
    peak_ratio: float = 1.0
    robust_psnr_db: dict[str, float] | None = None


def evaluate_volume(
    model: nn.Module,
    target: NDArray[Any],
    reference: NDArray[Any],
    *,
    scale: int,
    autocast_dtype: torch.dtype | None = None,
    keep_images: bool = False,
    progress: Progress | None = None,
) -> VolumeScores:
    """Degrade one volume, restore it by every method, and score each against the truth.

    Parameters
    ----------
    model
        As in `super_resolve`.
    target : (S, H, W)
        Magnitude or complex, in any unit; cropped to multiples of 2 * scale.
    reference : (S, H, W)
        Magnitude or complex, on the same grid; cropped alike.
    scale
        Of the model and of the degradation.
    autocast_dtype
        Of the model's run; None computes in float32.
    keep_images
        Give the images too.
    progress
        Called after each slice of the model's run.

    Returns
    -------
    VolumeScores
        By "global", "sinc" and "bicubic".

    Raises
    ------
    ScanInvalid
        For volumes that do not fit.
    MetricInvalid
        For an empty target.
    """
    truth, low_res, guide = degraded_volume(target, reference, scale=scale)
    images = {
        MODEL: super_resolve(
            model, low_res, guide, scale=scale, autocast_dtype=autocast_dtype, progress=progress
        ),
        **{name: interpolated_volume(low_res, name, scale=scale) for name in INTERPOLATIONS},
    }
    metrics = {name: volume_metrics(truth, image) for name, image in images.items()}
    inputs = {"target": truth, "reference": guide, "low_res": low_res}
    ratio, level = peak_ratio(truth), robust_range(truth)
    robust = {name: psnr(truth, image, data_range=level) for name, image in images.items()}
    return VolumeScores(
        metrics,
        inputs | images if keep_images else None,
        peak_ratio=ratio,
        robust_psnr_db=robust if ratio > OUTLYING_PEAK else None,
    )


def degraded_volume(
    target: NDArray[Any], reference: NDArray[Any], *, scale: int
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Truth, low-resolution volume and reference of one evaluation, cropped to multiples of 2 * scale.

    Parameters
    ----------
    target : (S, H, W)
        Magnitude or complex, in any unit.
    reference : (S, H, W)
        Magnitude or complex, on the same grid.
    scale
        Of the degradation.

    Returns
    -------
    (S, H', W'), (S, H' / scale, W' / scale) and (S, H', W') float32
        Magnitudes in the units of what they come from.

    Raises
    ------
    ScanInvalid
        FM-D202, for volumes that do not fit.
    """
    if target.ndim != 3 or len(target) == 0 or target.shape != reference.shape:
        raise ScanInvalid(
            "a volume cannot be evaluated",
            got=f"target {target.shape}, reference {reference.shape}",
            expected="one shape (slice, row, column), at least one slice",
        )
    return _stacked([_degrade(target[index], reference[index], scale) for index in range(len(target))])


def interpolated_volume(low_res: NDArray[np.float32], name: str, *, scale: int) -> NDArray[np.float32]:
    """A volume interpolated slice by slice, clamped at zero as the model's image is.

    Parameters
    ----------
    low_res : (S, h, w) float32
        Magnitude in any unit, at least one slice.
    name
        Of a method of `BASELINES`.
    scale
        Factor along both axes in the plane.

    Returns
    -------
    (S, scale * h, scale * w) float32
        In the units of `low_res`.
    """
    return np.stack(
        [_array(BASELINES[name](as_tensor(slice_), scale, non_negative=True)) for slice_ in low_res]
    )


def score_slices(
    model: nn.Module,
    source: SliceSource,
    indices: Sequence[int],
    *,
    scale: int,
    autocast_dtype: torch.dtype | None = None,
) -> dict[str, float]:
    """PSNR, SSIM and NMSE of the model on chosen slices taken as one volume: a cheap look each round.

    The slices may differ in size. The data range is the maximum over all of them, as in a volume; slices of several
    patients are on several scales, so the figure follows a run and is not to be compared with those of
    `evaluate_volume`.

    Parameters
    ----------
    model
        As in `super_resolve`.
    source
        Pairs of slices by number.
    indices
        Which of them.
    scale
        Of the model and of the degradation.
    autocast_dtype
        Of the model's run; None computes in float32.

    Returns
    -------
    dict
        `psnr_db` (dB), `nmse`, and `ssim`, the mean over the slices.

    Raises
    ------
    NoScansFound
        Where no slice is chosen.
    ScanInvalid, MetricInvalid
        For slices that do not fit or are empty together.
    """
    if not indices:
        raise NoScansFound("there is nothing to score", got="0 slices", expected="at least one")
    truths, images = [], []
    for index in indices:
        truth, low_res, guide = _degrade(*source[index], scale)
        restored = super_resolve(
            model, low_res[None], guide[None], scale=scale, autocast_dtype=autocast_dtype
        )
        truths.append(truth)
        images.append(restored[0])
    all_truth = np.concatenate([truth.ravel() for truth in truths])[None, None]  # (1, 1, samples)
    all_seen = np.concatenate([image.ravel() for image in images])[None, None]
    figures = {"psnr_db": psnr(all_truth, all_seen), "nmse": nmse(all_truth, all_seen)}
    peak = float(all_truth.max())
    of_slices = [
        ssim(truth[None], image[None], data_range=peak) for truth, image in zip(truths, images, strict=True)
    ]
    return {**figures, "ssim": float(np.mean(of_slices))}


def _degrade(
    target: NDArray[Any], reference: NDArray[Any], scale: int
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Truth (H, W), low-resolution image (h, w) and reference (H, W) of one slice, cropped, magnitudes."""
    high_res = crop_to_multiple(as_tensor(target), scale)
    guide = crop_to_multiple(as_tensor(reference), scale)
    return _array(high_res.abs()), _array(low_resolution(high_res, scale)), _array(guide.abs())


def _stacked(
    slices: list[tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]],
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    truth, low_res, guide = (np.stack(images) for images in zip(*slices, strict=True))
    return truth, low_res, guide


def _array(image: Tensor) -> NDArray[np.float32]:
    array: NDArray[np.float32] = image.numpy()
    return array
