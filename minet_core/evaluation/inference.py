"""A trained model over a whole volume, slice by slice.

S slice, h, w low-resolution row and column, H = scale * h, W = scale * w.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor, nn
from torch.nn import functional

from minet_core.errors import ModelError, ScanInvalid
from minet_core.evaluation.self_ensemble import mean_over_poses
from minet_core.imaging.data_consistency import impose_measured, impose_measured_on_frame
from minet_core.imaging.interpolation import bicubic
from minet_core.models.base import SuperResolver
from minet_core.training.samples import CLAMP, Inputs, as_tensor, make_inputs, mean_and_std

Progress = Callable[[int, int], None]
"""Called after each slice with (slices done, slices in all)."""


def super_resolve(
    model: nn.Module,
    low_res: NDArray[Any],
    reference: NDArray[Any],
    *,
    scale: int,
    autocast_dtype: torch.dtype | None = None,
    data_consistent: bool = False,
    n_poses: int | None = None,
    progress: Progress | None = None,
) -> NDArray[np.float32]:
    """Super-resolve a volume slice by slice.

    Parameters
    ----------
    model
        A `SuperResolver`, or called as model(low_res, reference, upsampled=...), and returns (target image, reference
        image). It runs where its parameters are, in evaluation mode; its mode is put back afterwards.
    low_res : (S, h, w)
        Magnitude of any size, odd too, in any unit.
    reference : (S, scale * h, scale * w)
        Magnitude or complex, in any unit.
    scale
        That of the model.
    autocast_dtype
        torch.bfloat16 where the processor has it; None computes in float32.
    data_consistent
        Put what was measured back into the image (`minet_core.imaging.data_consistency`); else it is the model's own.
    n_poses
        Over how many the picture is averaged (`minet_core.evaluation.self_ensemble`); None: as the model has it.
    progress
        Called after each slice.

    Returns
    -------
    (S, scale * h, scale * w) float32
        Magnitude in the units of `low_res`, never negative.

    Raises
    ------
    ScanInvalid
        For input that does not fit or is not finite.
    ModelError
        For an output that does not fit or is not finite.

    Examples
    --------
    >>> import numpy as np
    >>> from minet_core.evaluation.inference import super_resolve
    >>> from minet_core.models.registry import build_model
    >>> model = build_model({"architecture": "minet", "n_features": 8}, scale=2)
    >>> low_res, reference = np.ones((3, 16, 15), np.float32), np.ones((3, 32, 30), np.float32)
    >>> super_resolve(model, low_res, reference, scale=2).shape
    (3, 32, 30)
    """
    _check_shapes(low_res, reference, scale)
    high_res = np.empty(reference.shape, dtype=np.float32)
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            for index in range(len(low_res)):
                inputs = make_inputs(as_tensor(low_res[index]), as_tensor(reference[index]), scale)
                painted = _run(model, inputs, scale=scale, autocast_dtype=autocast_dtype, n_poses=n_poses)
                image = inputs.restore(painted).clamp_min(0)
                if data_consistent:
                    image = _with_measured(image, as_tensor(low_res[index]), scale)
                high_res[index] = image.numpy()
                if progress is not None:
                    progress(index + 1, len(low_res))
    finally:
        model.train(was_training)
    return high_res


def super_resolve_frame(
    model: nn.Module,
    low_res: NDArray[Any],
    reference: NDArray[Any],
    *,
    covered: NDArray[np.bool_],
    scale: int,
    data_consistent: bool = False,
    n_poses: int | None = None,
    progress: Progress | None = None,
) -> NDArray[np.float32]:
    """As `super_resolve`, on a frame that begins (scale - 1) samples before the first low-resolution sample.

    A grid that counts an axis the other way has its spare samples there. The slice is continued by its edge samples
    before the first one, and the normalisation is that of training: of the slice itself, and of the reference over
    the samples that training would have seen. Where the reference shows nothing, the model is shown the nearest value
    that there is, which neither counts for the normalisation nor makes an edge.

    Parameters
    ----------
    model
        As in `super_resolve`.
    low_res : (S, h, w)
        Magnitude, in any unit.
    reference : (S, scale * h + scale - 1, scale * w + scale - 1)
        Magnitude, in any unit.
    covered : bool, of the shape of `reference`
        Where the reference shows something.
    scale
        That of the model.
    data_consistent, n_poses
        As in `super_resolve`.
    progress
        Called after each slice.

    Returns
    -------
    float32, of the shape of `reference`
        Magnitude in the units of `low_res`; NaN in a slice without any reference.

    Raises
    ------
    ScanInvalid, ModelError
        As `super_resolve`.
    """
    spare = scale - 1
    _check_shapes(low_res, reference[:, spare:, spare:], scale)
    high_res = np.full(reference.shape, np.nan, dtype=np.float32)
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            for index in range(len(low_res)):
                if covered[index].any():
                    image = _on_frame(
                        model, low_res[index], reference[index], covered[index], scale=scale, n_poses=n_poses
                    )
                    if data_consistent:
                        image = impose_measured_on_frame(image, as_tensor(low_res[index]), scale)
                    high_res[index] = image.numpy()
                if progress is not None:
                    progress(index + 1, len(low_res))
    finally:
        model.train(was_training)
    return high_res


def _on_frame(
    model: nn.Module,
    low_res: NDArray[Any],
    reference: NDArray[Any],
    covered: NDArray[np.bool_],
    *,
    scale: int,
    n_poses: int | None,
) -> Tensor:
    """One slice of `super_resolve_frame`. What the model sees has even sides, as every frame of training had."""
    spare = scale - 1
    if not covered.all():
        nearest = ndimage.distance_transform_edt(~covered, return_distances=False, return_indices=True)
        reference = reference[tuple(nearest)]
    guide = as_tensor(reference)
    inputs = make_inputs(as_tensor(low_res), guide[spare:, spare:], scale)
    shown = guide[spare:, spare:][torch.from_numpy(covered[spare:, spare:])]
    mean, std = mean_and_std(shown if len(shown) else guide)
    normalised = ((guide - mean) / std).clamp(-CLAMP, CLAMP)
    before = tuple(
        2 - n % 2 for n in low_res.shape
    )  # low-resolution samples: enough for the spare ones, and even
    lead = (before[0] * scale - spare, before[1] * scale - spare)
    padded = _repeat_first((as_tensor(low_res) - inputs.mean) / inputs.std, before)
    extended = dataclasses.replace(
        inputs,
        low_res=padded.clamp(-CLAMP, CLAMP),
        reference=_repeat_first(normalised, lead),
        upsampled=bicubic(padded, scale),
    )
    # In float32 on every machine: a patient's picture is to be the same wherever it is made. On a processor with
    # bfloat16 that would take half to 0.6 of the time, and on slices of two real brains and two phantoms (2x,
    # late-fusion of 2,400 steps) it was 0.0005 to 0.006 dB worse. A run's scores are many, and take it.
    image = _run(model, extended, scale=scale, autocast_dtype=None, n_poses=n_poses)[lead[0] :, lead[1] :]
    return inputs.restore(image).clamp_min(0)


def _with_measured(image: Tensor, low_res: Tensor, scale: int) -> Tensor:
    """An odd side is no period of a degraded slice: such a slice is continued by its mirror image."""
    if not (low_res.shape[0] % 2 or low_res.shape[1] % 2):
        return impose_measured(image, low_res, scale)
    spare = scale - 1
    framed = _repeat_first(image, (spare, spare))
    return impose_measured_on_frame(framed, low_res, scale)[spare:, spare:]


def _check_shapes(low_res: NDArray[Any], reference: NDArray[Any], scale: int) -> None:
    if low_res.ndim != 3 or np.iscomplexobj(low_res):
        raise ScanInvalid(
            "the low-resolution volume cannot be super-resolved",
            got=f"shape {low_res.shape}, {low_res.dtype}",
            expected="magnitudes (slice, row, column)",
        )
    expected = (low_res.shape[0], scale * low_res.shape[1], scale * low_res.shape[2])
    if reference.shape != expected:
        raise ScanInvalid(
            f"the reference volume is not on the {scale}x grid of the low-resolution volume",
            got=reference.shape,
            expected=expected,
            action="Resample the reference to that grid",
        )


def _run(
    model: nn.Module,
    inputs: Inputs,
    *,
    scale: int,
    autocast_dtype: torch.dtype | None,
    n_poses: int | None,
) -> Tensor:
    """The model's normalised target image of one slice, (H, W) float32 on the CPU.

    In training every low-resolution frame had even sides. An odd side gets one more sample, a repetition of
    the last, and loses it again afterwards; the first sample stays first, so the grids stay aligned.
    """
    h, w = inputs.low_res.shape
    odd = (h % 2, w % 2)
    low_res = _repeat_edge(inputs.low_res, odd)
    reference = _repeat_edge(inputs.reference, (scale * odd[0], scale * odd[1]))
    upsampled = _repeat_edge(inputs.upsampled, (scale * odd[0], scale * odd[1]))
    device = _device_of(model)
    usual: int = getattr(model, "self_ensemble", 1)
    with torch.autocast(device.type, dtype=autocast_dtype, enabled=autocast_dtype is not None):
        image = mean_over_poses(
            lambda low_res, reference, upsampled: _target_image(model, low_res, reference, upsampled),
            *(one.to(device) for one in (low_res, reference, upsampled)),
            scale=scale,
            n_poses=usual if n_poses is None else n_poses,
        )
    if image.shape != reference.shape:
        raise ModelError(
            "the model's image is not on the grid of the reference",
            got=tuple(image.shape),
            expected=tuple(reference.shape),
            action="Use a model of this scale",
        )
    if not math.isfinite(sum(torch.aminmax(image))):  # one pass, which what is not a number goes through
        raise ModelError("the model's image is not finite", got="NaN or infinity", expected="numbers")
    cropped: Tensor = image[0, 0, : scale * h, : scale * w].float().cpu()
    return cropped


def _target_image(model: nn.Module, low_res: Tensor, reference: Tensor, upsampled: Tensor) -> Tensor:
    if isinstance(model, SuperResolver):
        return model.target_image(low_res, reference, upsampled)
    image: Tensor = model(low_res, reference, upsampled=upsampled)[0]
    return image


def _device_of(model: nn.Module) -> torch.device:
    """An exported model has no parameters, and runs on the CPU."""
    return next((parameter.device for parameter in model.parameters()), torch.device("cpu"))


def _repeat_edge(image: Tensor, n_more: tuple[int, int]) -> Tensor:
    """(H, W) -> (1, 1, H + n_more[0], W + n_more[1]), the last row and column repeated."""
    return functional.pad(image[None, None], (0, n_more[1], 0, n_more[0]), mode="replicate")


def _repeat_first(image: Tensor, n_more: tuple[int, int]) -> Tensor:
    """(H, W) -> (n_more[0] + H, n_more[1] + W), the first row and column repeated."""
    return functional.pad(image[None, None], (n_more[1], 0, n_more[0], 0), mode="replicate")[0, 0]
