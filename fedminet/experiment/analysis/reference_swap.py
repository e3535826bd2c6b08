"""What another patient's reference draws into an image: whose anatomy a model shows.

A volume is super-resolved once with its own reference and once with a foreign one. A model that takes from
the reference only what fits the target loses detail with a foreign one; a model that paints draws the
foreign patient's edges.

S slice, H, W high-resolution row and column, multiples of 2 * scale; h = H / scale, w = W / scale.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn
from torch.nn import functional

from minet_core.errors import MetricInvalid
from minet_core.evaluation.inference import super_resolve
from minet_core.evaluation.metrics import psnr
from minet_core.evaluation.volume_scores import MODEL
from minet_core.imaging.fourier_rings import invented_share
from minet_core.imaging.kspace_band import data_inconsistency, detail_outside_band, is_rounding

TILE_PX = 16
"""Edge of the tiles with a contrast of their own, pixels: two periods of the coarsest detail at 4x. T1 and T2
have the skull's edge in one sense and the cortex in the other, so that over a whole brain they cancel: a
MINet of 300 steps (2x, T1-guided T2) scored 0.02 over the volume, 0.26 in tiles and 0.10 there by chance."""

SINGULAR = 1e-12
"""Relative eigenvalue below which two images are one in a tile: some roundings of a float64 cosine."""


@dataclass(frozen=True)
class ReferenceSwap:
    """What another patient's reference does to an image of a model.

    psnr_drop_db: PSNR with the own reference less PSNR with the foreign one, dB. 0: the model ignores the
        reference. Large: it relies on it; a wrong or moved reference costs as much.
    painted: how much of the change the foreign anatomy explains, 0 to 1 (see `reference_leakage`).
    painted_energy: energy of what it explains, as a fraction of that of the truth's detail outside the band:
        `reference_leakage` says what the change is made of, this one how much of it there is.
    data_inconsistency: of the image made with the foreign reference (see `minet_core.imaging.kspace_band`).
    invented_share: of that image's detail, what is not the truth's at its place (see
        `minet_core.imaging.fourier_rings`); None where it has none, or is smaller than a window.
    """

    psnr_drop_db: float
    painted: float
    painted_energy: float
    data_inconsistency: float
    invented_share: float | None


def reference_swap(
    model: nn.Module,
    images: Mapping[str, NDArray[np.float32]],
    foreign_reference: NDArray[Any],
    *,
    scale: int,
    autocast_dtype: torch.dtype | None = None,
) -> ReferenceSwap:
    """Super-resolve a volume once more with another patient's reference, and compare.

    images: what `evaluate_volume(..., keep_images=True)` kept for this model with the own reference.
    foreign_reference: (slice, row, column) of any size, magnitude or complex, of the same contrast and about
    the same sample size; it is fitted to the grid by `fit_to_shape`.
    Raises MetricInvalid where a figure would mean nothing, and what `super_resolve` raises.
    """
    truth, low_res, own = images["target"], images["low_res"], images[MODEL]
    foreign_reference = fit_to_shape(np.abs(foreign_reference), truth.shape)
    foreign = super_resolve(model, low_res, foreign_reference, scale=scale, autocast_dtype=autocast_dtype)
    share, energy = reference_leakage(
        own,
        foreign,
        truth=truth,
        reference=images["reference"],
        foreign_reference=foreign_reference,
        scale=scale,
    )
    return ReferenceSwap(
        psnr_drop_db=psnr(truth, own) - psnr(truth, foreign),
        painted=share,
        painted_energy=energy,
        data_inconsistency=data_inconsistency(foreign, low_res, scale),
        invented_share=invented_share(foreign, truth, scale=scale),
    )


def reference_leakage(
    own: ArrayLike,
    foreign: ArrayLike,
    *,
    truth: ArrayLike,
    reference: ArrayLike,
    foreign_reference: ArrayLike,
    scale: int,
) -> tuple[float, float]:
    """How much of the change from `own` to `foreign` is anatomy of the foreign reference: share and amount.

    own, foreign: (S, H, W), the images made with `reference` and with `foreign_reference`; all magnitudes, at
    least 2 * `TILE_PX` an axis in plane.

    The share is the partial correlation, outside the measured band, of the change (foreign - own) with the
    foreign reference, given the own image and the own reference. Each tile of `TILE_PX` is fitted alone: an
    edge drawn in the opposite contrast is drawn. What is given is projected out of both sides: detail that a
    model only loses with a wrong reference is a multiple of what it had drawn, and is not counted. What a
    tile explains by chance is what the foreign reference explains when it is moved by one tile; it is taken
    off. With q and c the explained fractions of energy, the share is sqrt((q - c) / (1 - c)).
    0: the reference is ignored, or only missed. 1: all that is new is the foreign reference's detail, in
    whatever contrast. Between: as far as the two contrasts are linear in each other within a tile. Of a brain
    that was never used, mirrored or of other slices, up to 0.12 is left.

    The amount is the energy of that share, as a fraction of the truth's outside the band.
    Raises MetricInvalid where the truth has no detail there, or the foreign reference none of its own.
    """
    change = np.asarray(foreign, dtype=np.float64) - np.asarray(own, dtype=np.float64)
    volumes = (own, reference, change, foreign_reference, truth)
    own_detail, guide, new, other, true_detail = (detail_outside_band(volume, scale) for volume in volumes)
    _check_sizes([own_detail, guide, new, other, true_detail])
    residual = np.concatenate(
        [
            _partial_out([own_slice, guide_slice], of=[new_slice, other_slice, *_moved(other_slice)])
            for own_slice, guide_slice, new_slice, other_slice in zip(
                own_detail, guide, new, other, strict=True
            )
        ]
    )  # (tiles, 6, 6)
    own_energies = np.diagonal(residual, axis1=1, axis2=2).sum(axis=0)
    true_energy = float(true_detail.square().sum())
    if is_rounding(true_energy, truth):
        raise MetricInvalid(
            f"a truth has no detail to compare at {scale}x", got="no energy outside the measured band"
        )
    if is_rounding(float(own_energies[1]), foreign_reference):
        raise MetricInvalid(
            "a foreign reference has no detail of its own",
            got="a multiple of the own reference or image, or nothing outside the measured band",
            expected="the reference of another patient",
        )
    if is_rounding(float(own_energies[0]), own):
        return 0.0, 0.0
    explained, *by_chance = _explained(residual) / own_energies[0]
    chance = float(np.mean(by_chance))
    share_of_energy = max(0.0, (float(explained) - chance) / (1 - chance))
    return math.sqrt(share_of_energy), share_of_energy * float(own_energies[0]) / true_energy


def fit_to_shape(volume: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """Centre-crop or pad with zeros along every axis: index N // 2 becomes index M // 2. Nothing is resampled.

    For a foreign reference, whose grid is another patient's. Raises MetricInvalid for other than three axes.
    """
    if volume.ndim != 3 or len(shape) != 3:
        raise MetricInvalid(
            "a volume cannot be fitted", got=f"{volume.shape} to {shape}", expected="(slice, row, column)"
        )
    fitted = np.zeros(shape, dtype=volume.dtype)
    taken, filled = [], []
    for n, m in zip(volume.shape, shape, strict=True):
        first = n // 2 - m // 2  # of the old axis, at index 0 of the new one
        taken.append(slice(max(first, 0), min(first + m, n)))
        filled.append(slice(max(-first, 0), max(-first, 0) + taken[-1].stop - taken[-1].start))
    fitted[tuple(filled)] = volume[tuple(taken)]
    return fitted


def _moved(detail: Tensor) -> list[Tensor]:
    """A slice moved by one tile in each of the four directions, around the frame."""
    return [detail.roll(step, dims=axis) for axis in (0, 1) for step in (TILE_PX, -TILE_PX)]


def _partial_out(given: list[Tensor], *, of: list[Tensor]) -> NDArray[np.float64]:
    """Inner products of the slices `of` in each tile after `given` are projected out: (tiles, n, n).

    A Schur complement of the products of all, each slice of unit energy in a tile so that their units do
    not matter; the inverse is a pseudo-inverse, for the own image may be a multiple of the own reference.
    """
    tiles = torch.stack([_tiles(detail) for detail in (*of, *given)], dim=1)  # (tiles, slices, samples)
    lengths = tiles.norm(dim=2, keepdim=True)
    unit = (tiles / torch.where(lengths > 0, lengths, 1.0)).numpy()
    cosines = unit @ unit.transpose(0, 2, 1)
    n = len(of)
    inverse = np.linalg.pinv(cosines[:, n:, n:], rcond=SINGULAR, hermitian=True)
    residual = cosines[:, :n, :n] - cosines[:, :n, n:] @ inverse @ cosines[:, n:, :n]
    of_lengths = lengths[:, :n].numpy()
    products: NDArray[np.float64] = residual * of_lengths * of_lengths.transpose(0, 2, 1)
    return products


def _explained(residual: NDArray[np.float64]) -> NDArray[np.float64]:
    """Energy of the first image that each of the others explains, a factor to each tile: (n - 1,)."""
    energies = np.diagonal(residual, axis1=1, axis2=2)  # (tiles, n)
    new, others = energies[:, :1], energies[:, 1:]
    explained = residual[:, 0, 1:] ** 2 / np.where(others > 0, others, np.inf)
    # No more than there is: what rounding has left of an image can explain anything.
    total: NDArray[np.float64] = np.minimum(explained, new.clip(0)).sum(axis=0)
    return total


def _tiles(detail: Tensor) -> Tensor:
    """(H, W) -> (tiles, TILE_PX^2), zeros beyond the frame."""
    H, W = detail.shape
    padded = functional.pad(detail, (0, -W % TILE_PX, 0, -H % TILE_PX))
    split = padded.reshape(-1, TILE_PX, padded.shape[1] // TILE_PX, TILE_PX)
    return split.transpose(1, 2).reshape(-1, TILE_PX**2)


def _check_sizes(volumes: list[Tensor]) -> None:
    shapes = {tuple(volume.shape) for volume in volumes}
    if len(shapes) > 1 or min(min(shape[1:]) for shape in shapes) < 2 * TILE_PX:
        raise MetricInvalid(
            "a reference swap cannot be compared",
            got=f"shapes {sorted(shapes)}",
            expected=f"one shape (slice, row, column), at least {2 * TILE_PX} px an axis in plane",
        )
