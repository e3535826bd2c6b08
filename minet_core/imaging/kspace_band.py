"""An image against what was measured: inside the measured band of k-space, and outside it.

Measured was the central 1/scale of k-space in both directions (`minet_core.imaging.degradation`). Inside that band an
image agrees with the data or it does not. Outside it holds detail that was not measured: from training, from
a reference, or invented.

The band is closed: the line at +h/2 is known from that at -h/2, as a magnitude image has a Hermitian k-space.
All figures are of one volume of magnitudes, in float64. A truth that was stored with its phase was measured
in the band of the complex image, which is not quite that of its magnitude.

S slice, H, W high-resolution row and column, multiples of 2 * scale; h = H / scale, w = W / scale.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from minet_core.errors import MetricInvalid
from minet_core.imaging.degradation import low_resolution
from minet_core.imaging.fourier import fft2c, ifft2c

ROUNDING_ENERGY = float(np.finfo(np.float32).eps) ** 2
"""Energy that rounding to float32 can make, as a fraction of the image's: what lies below it is not detail."""


def data_inconsistency(image: ArrayLike, low_res: ArrayLike, scale: int) -> float:
    """|D(image) - low_res| / |low_res|, D being `low_resolution`, over the volume; 0 agrees with the data.

    The numerator leaves out the k-space lines at -h/2 and -w/2: how they share their signal with +h/2 and +w/2 cannot
    be known from a magnitude, and zero-filled sinc shares it equally. A truth without phase scores 0, one with phase
    does not: call this with the truth's magnitude for what is lost with the phase. Zero-filled sinc scores the little
    that the clamp at zero costs.

    Parameters
    ----------
    image : (S, H, W) magnitude
        H and W multiples of 2 * scale.
    low_res : (S, H / scale, W / scale) magnitude
        What the image was made from, in its units.
    scale
        The central 1/scale of k-space was measured in both directions.

    Returns
    -------
    float
        A ratio of L2 norms, 0 or more.

    Raises
    ------
    MetricInvalid
        For shapes that do not fit, no signal, or a value that is not finite.
    """
    high_res, measured = _checked(image, scale), _checked(low_res, 1)
    expected = (high_res.shape[0], high_res.shape[1] // scale, high_res.shape[2] // scale)
    if tuple(measured.shape) != expected or not measured.any():
        raise MetricInvalid(
            "an image cannot be compared with what was measured",
            got=f"low resolution {tuple(measured.shape)}, signal: {bool(measured.any())}",
            expected=f"{expected} with signal",
        )
    error = fft2c(low_resolution(high_res, scale) - measured)
    return float(error[..., 1:, 1:].norm() / measured.norm())


def energy_outside_band(image: ArrayLike, truth: ArrayLike, scale: int) -> float:
    """Energy of the k-space outside the measured band, image over truth: 1 is as much as there really is.

    Parameters
    ----------
    image, truth : (S, H, W) magnitude
        In the same units; H and W multiples of 2 * scale.
    scale
        The central 1/scale of k-space was measured in both directions.

    Returns
    -------
    float
        A ratio of energies (squares), 0 or more.

    Raises
    ------
    MetricInvalid
        Where the truth has no detail there, and as `detail_outside_band`.
    """
    detail, true_detail = _details(image, truth, scale)
    return float(detail.square().sum() / true_detail.square().sum())


def correlation_outside_band(image: ArrayLike, truth: ArrayLike, scale: int) -> float | None:
    """Re <image, truth> / (|image| |truth|) over the k-space outside the measured band, -1 to 1.

    With c the correlation and e the ratio of energies, (1 - c^2) e is the energy of what is not in the truth, as a
    fraction of the truth's.

    Parameters
    ----------
    image, truth : (S, H, W) magnitude
        H and W multiples of 2 * scale.
    scale
        The central 1/scale of k-space was measured in both directions.

    Returns
    -------
    float or None
        None where the image has no detail there.

    Raises
    ------
    MetricInvalid
        Where the truth has no detail there, and as `detail_outside_band`.
    """
    detail, true_detail = _details(image, truth, scale)
    if is_rounding(float(detail.square().sum()), image):
        return None
    return float((detail * true_detail).sum() / (detail.norm() * true_detail.norm()))


def detail_outside_band(image: ArrayLike, scale: int) -> Tensor:
    """The part of a volume whose k-space lies outside the measured band.

    Energies and products of it are those of the k-space (Parseval).

    Parameters
    ----------
    image : (S, H, W) real
        H and W multiples of 2 * scale.
    scale
        The central 1/scale of k-space was measured in both directions.

    Returns
    -------
    Tensor (S, H, W)
        float64, in the units of `image`; both signs.

    Raises
    ------
    MetricInvalid
        For other shapes, complex values, or a value that is not finite.
    """
    volume = _checked(image, scale)
    H, W = volume.shape[1:]
    row, column = torch.arange(H) - H // 2, torch.arange(W) - W // 2
    outside = (row.abs() > H // (2 * scale))[:, None] | (column.abs() > W // (2 * scale))[None, :]  # (H, W)
    return torch.stack([ifft2c(fft2c(of_slice) * outside).real for of_slice in volume])


def is_rounding(energy: float, volume: ArrayLike) -> bool:
    """Whether an energy is no more than the rounding of `volume` to float32 would make.

    Parameters
    ----------
    energy
        Sum of squares, in the units of `volume` squared.
    volume : array of any shape
        Real.

    Returns
    -------
    bool
        True for an energy of nan too.
    """
    return not energy > ROUNDING_ENERGY * float(np.sum(np.asarray(volume, dtype=np.float64) ** 2))


def _details(image: ArrayLike, truth: ArrayLike, scale: int) -> tuple[Tensor, Tensor]:
    detail, true_detail = detail_outside_band(image, scale), detail_outside_band(truth, scale)
    if detail.shape != true_detail.shape:
        raise MetricInvalid(
            "the detail of two volumes cannot be compared",
            got=f"shapes {tuple(detail.shape)} and {tuple(true_detail.shape)}",
            expected="one shape (slice, row, column)",
        )
    if is_rounding(float(true_detail.square().sum()), truth):
        raise MetricInvalid(
            f"a truth has no detail to compare at {scale}x",
            got="no energy outside the measured band",
            expected="an image that was not itself interpolated",
        )
    return detail, true_detail


def _checked(image: ArrayLike, scale: int) -> Tensor:
    """The volume in float64, (S, H, W), after refusing what no figure can be given for."""
    array = np.asarray(image)
    fits = (
        array.ndim == 3 and array.size and not (array.shape[1] % (2 * scale) or array.shape[2] % (2 * scale))
    )
    if not fits or np.iscomplexobj(array):
        raise MetricInvalid(
            "a volume cannot be compared with the measured band",
            got=f"{array.shape} {array.dtype}",
            expected=f"real (slice, row, column), in plane multiples of {2 * scale}",
        )
    if not np.isfinite(array).all():
        raise MetricInvalid("a volume cannot be compared with the measured band", got="a value not finite")
    return torch.from_numpy(array.astype(np.float64))
