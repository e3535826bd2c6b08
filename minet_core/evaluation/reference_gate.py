"""Whether a reference agrees with the target that it is to guide, by place and as a whole, before a model sees either.

Both are brought to the target's own resolution, and the angle between their gradients is taken, whatever their signs:
the contrasts differ, the borders of tissue do not. The mean of cos(2 angle), weighted by both gradients, is the
`agreement` (Haber and Modersitzki 2006: normalised gradient fields). A reference that lies elsewhere agrees still, only
less; so it is also moved to `OFFSETS`, and what it would gain by lying there, place by place, is its `misplacement`.
A right reference gains nothing anywhere: this is far sharper than the agreement, which a noisy reference or a poor
contrast lowers too, and sees a turn, a bend and a neighbouring slice as well as a shift.

Two more figures are of the whole. What is gained by chance grows with what is left to be gained, so `share` is the
misplacement over that: a right knee of a coarse picture agrees poorly everywhere and gains as much as a head that lies
1 px off, but of a larger rest. And a gain is of the second order in a shift: `displacement_px` is where the agreement
of all places together is highest, a parabola over the offsets, with the error that the places' scatter gives it.

A gradient's weight is also how strong the contrast is, and that differs. Where the target is brightest within the skull
and the reference is beside it, a right reference that is moved by the skull's width gains much, for two strong borders
then lie on each other. So what lies elsewhere has to do so too where every border counts alike: there each length is
over itself and the usual one together (Haber and Modersitzki's edge parameter). A border that both show is then seen
where both show it, and a right reference gains nothing.

None of these knows a model. The limits (`LIMITS`) are set on phantoms that no table shows (docs/results/gate.md).

S slice, H, W row and column of the grid of the reference; B, C rows and columns of tiles.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from minet_core.errors import ScanInvalid
from minet_core.evaluation.contours import (
    FLAT,
    TILE_PX,
    Tiles,
    Volume,
    agreement_in_tiles,
    agreement_in_windows,
    contours_of,
    displacement_of,
    products_by_tile,
    sums_over_tiles,
)

SMOOTHING = 0.75
"""Deviation of the gradients' Gaussian over the low resolution's pixel: both are then of the target's resolution."""
WINDOW_TILES = 0.5
"""Deviation of the Gaussian over tiles in which a place is judged, times the scale: 16 px at 2x, 32 px at 4x, where the
same pixels hold a quarter of what was measured."""
REACH_PX = (1, 2, 4)
OFFSETS: tuple[tuple[int, int], ...] = tuple(
    (reach * row, reach * column)
    for reach in REACH_PX
    for row in (-1, 0, 1)
    for column in (-1, 0, 1)
    if (row, column) != (0, 0)
)
"""Where the reference is moved to, (row, column) in pixels."""
SIGNIFICANT = 1.5
"""Errors of a displacement beyond which it is one."""
MIN_STRUCTURE = 0.02
"""Least energy of the reference's gradients for the target's, over the upper quartile of the tiles with structure:
below it shows nothing there. A quartile, for half of the tiles may be missing."""
SHOWS_IT = 0.7
"""Agreement of a tile alone from which a reference of such faint gradients shows the target's structure all the same,
as of a brain beside a bright scalp. What is missing, or noise alone, does not run as the target does."""
MIN_WEIGHT = 0.02
"""Tiles whose target has less gradient energy than this part of the most are judged by their slice."""


@dataclass(frozen=True)
class GateLimits:
    """agreement, misplacement: (where trust begins to fall, where none is left). named_*: beyond which a reference is
    named as a whole. Of the misplacement, the limit of one slice and what it falls to with many, as 1 / n: what a slice
    gains by chance is less in the mean of several. The displacement, px, counts where it is also more than
    `SIGNIFICANT` of its errors. named_together: a share from which a misplacement, of one slice and of many as before,
    and a displacement count; where it is 0 the latter counts by itself. named_even: misplacement, or displacement in px
    that is also more than `SIGNIFICANT` of its errors, of borders that count alike, without which none of those before
    names; None: not asked. min_trusted: share of the target's structure
    with trust below which it is named."""

    agreement: tuple[float, float]
    misplacement: tuple[float, float]
    named_agreement: float
    named_misplacement: tuple[float, float]
    named_share: float
    named_displacement_px: float
    named_together: tuple[float, tuple[float, float]]
    named_even: tuple[float, float] | None
    min_trusted: float


LIMITS: dict[int, GateLimits] = {
    2: GateLimits((0.7, 0.5), (0.03, 0.06), 0.6, (0.01, 0.01), 0.1, 0.7, (0.0, (0.01, 0.01)), None, 0.75),
    4: GateLimits(
        (0.7, 0.5), (0.02, 0.05), 0.6, (0.02, 0.0147), 0.1, 0.7, (0.05, (0.0151, 0.0094)), (0.0055, 0.4), 0.64
    ),
}
"""By scale."""


@dataclass(frozen=True, eq=False)
class ReferenceGate:
    """What the gate found.

    trust: (S, H, W) float32, 0 to 1, smooth: how far the reference is to be believed at each place; 0 everywhere where
    the whole is named for its agreement or misplacement. agreement: -1 to 1, of the whole. misplacement: what the whole
    would gain in agreement if each place lay where it fits best, 0 to 2. share: that over what there is to gain.
    displacement_px, displacement_error_px: how far the whole lies off, and the standard error of it; both infinite
    where the agreement has no peak here, which names nothing by itself. trusted: share of the target's structure
    (energy of its gradients) with trust. used: the same share of `part`. wrong: whether the reference as a whole is
    named.
    """

    trust: Volume
    agreement: float
    misplacement: float
    share: float
    displacement_px: float
    displacement_error_px: float
    trusted: float
    used: float
    wrong: bool

    @property
    def part(self) -> Volume:
        """(S, H, W) float32, 0 to 1: how much of a picture is to be made with it; nothing where it is half believed."""
        return np.asarray(_beyond_half(self.trust), dtype=np.float32)


def judge_reference(
    upsampled: Volume, reference: Volume, *, scale: int, covered: NDArray[np.bool_] | None = None
) -> ReferenceGate:
    """Judge a reference against an interpolated target on the same grid.

    Parameters
    ----------
    upsampled : (S, H, W) float32
        The target, interpolated from its low resolution: magnitude in any unit.
    reference : (S, H, W) float32
        Magnitude in any unit.
    scale
        2 or 4: what the target was interpolated by.
    covered : (S, H, W)
        Where the reference has data; nothing is judged beyond. None: everywhere.

    Returns
    -------
    ReferenceGate
        A reference without any structure has an agreement of 0 and no trust.

    Raises
    ------
    ScanInvalid
        Where the shapes differ, or a side is shorter than two tiles.

    Examples
    --------
    >>> import numpy as np
    >>> from minet_core.evaluation.reference_gate import judge_reference
    >>> noise = np.random.default_rng(0).random((1, 64, 64))
    >>> target = np.abs(np.fft.ifft2(np.fft.fft2(noise) * (np.abs(np.fft.fftfreq(64)) < 0.25))).astype(np.float32)
    >>> right, moved = (judge_reference(target, 2 - np.roll(target, n, 1), scale=2) for n in (0, 2))
    >>> right.wrong, moved.wrong, right.misplacement < moved.misplacement
    (False, True, True)
    """
    _require_one_grid(upsampled, reference)
    limits = LIMITS[scale]
    found = _judge_tiles(upsampled, reference, covered, scale=scale)
    if limits.named_even is not None and _of_whole(found, limits).elsewhere:
        even = _judge_tiles(upsampled, reference, covered, scale=scale, even=True)
        if not _lies_elsewhere_evenly(even, limits.named_even):
            found = dataclasses.replace(
                found,
                misplacement=even.misplacement,
                displacement_px=even.displacement_px,
                displacement_error_px=even.displacement_error_px,
            )
    whole = _of_whole(found, limits)
    of_slice = _trust(_mean(found.agreement, found), _mean(found.misplacement, found), limits)
    trust = _trust(found.agreement, found.misplacement, limits)
    weak = found.target < MIN_WEIGHT * found.target.max(initial=0.0)
    trust = np.where(found.bare, 0.0, np.where(weak, 1.0, trust) * of_slice)
    trust = trust * (found.weight.sum(axis=(1, 2), keepdims=True) > 0)
    if whole.elsewhere:
        trust = np.zeros_like(
            trust
        )  # another anatomy, or moved: where it happens to agree, it does so by chance
    total = float(found.target.sum())
    trusted = float((found.target * trust).sum()) / total if total > 0 else 1.0
    return ReferenceGate(
        trust=_on_pixels(trust, upsampled.shape),
        agreement=whole.agreement,
        misplacement=whole.misplacement,
        share=whole.share,
        displacement_px=found.displacement_px,
        displacement_error_px=found.displacement_error_px,
        trusted=trusted,
        used=float((found.target * _beyond_half(trust)).sum()) / total if total > 0 else 1.0,
        wrong=whole.elsewhere or trusted < limits.min_trusted,
    )


@dataclass(frozen=True, eq=False)
class _Tiles:
    """By tile, (S, B, C). weight: of both gradients. target: energy of the target's. bare: a reference without any.

    displacement_px, displacement_error_px: of the whole."""

    agreement: Tiles
    misplacement: Tiles
    weight: Tiles
    target: Tiles
    bare: NDArray[np.bool_]
    displacement_px: float
    displacement_error_px: float


@dataclass(frozen=True)
class _Whole:
    """Figures of all tiles. elsewhere: whether they name the reference for where it lies."""

    agreement: float
    misplacement: float
    share: float
    elsewhere: bool


def _of_whole(found: _Tiles, limits: GateLimits) -> _Whole:
    agreement, misplacement = (
        float(_mean(of_tile, found, axes=(0, 1, 2)).item())
        for of_tile in (found.agreement, found.misplacement)
    )
    n_slices = len(found.target)
    share = misplacement / max(1 - agreement, FLAT)
    enough, together = limits.named_together
    elsewhere = (
        agreement < limits.named_agreement
        or misplacement > _of_slices(limits.named_misplacement, n_slices)
        or share > limits.named_share
        or (
            share >= enough
            and (
                _is_displaced(found, limits.named_displacement_px)
                or misplacement > _of_slices(together, n_slices)
            )
        )
    )
    return _Whole(agreement, misplacement, share, elsewhere)


def _lies_elsewhere_evenly(even: _Tiles, limits: tuple[float, float]) -> bool:
    misplacement, displacement_px = limits
    return bool(_mean(even.misplacement, even, axes=(0, 1, 2)).item() > misplacement) or _is_displaced(
        even, displacement_px
    )


def _is_displaced(found: _Tiles, limit_px: float) -> bool:
    return found.displacement_px > max(limit_px, SIGNIFICANT * found.displacement_error_px)


def _judge_tiles(
    upsampled: Volume, reference: Volume, covered: NDArray[np.bool_] | None, *, scale: int, even: bool = False
) -> _Tiles:
    """even: borders count alike, but for what the reference shows."""
    sigma, window = SMOOTHING * scale, WINDOW_TILES * scale
    kept: NDArray[np.bool_] | float = 1.0
    if covered is not None and not covered.all():
        reach = round(3 * sigma) + max(REACH_PX)
        kept = ndimage.minimum_filter(covered, (1, 2 * reach + 1, 2 * reach + 1))
    still, guide = contours_of(upsampled, kept, sigma=sigma), contours_of(reference, kept, sigma=sigma)
    target, shown = sums_over_tiles(still.length**2), sums_over_tiles(guide.length**2)
    with_structure = target >= MIN_WEIGHT * target.max(initial=0.0)
    ratio = np.divide(shown, target, out=np.zeros_like(shown), where=target > 0)
    usual = float(np.quantile(ratio[with_structure], 0.75)) if with_structure.any() else 0.0
    usual = usual or float(ratio.max(initial=0.0))
    alone = agreement_in_tiles(*products_by_tile(still, guide))
    bare = with_structure & (ratio <= MIN_STRUCTURE * usual) & (alone < SHOWS_IT)
    if even:
        still, guide = still.even(), guide.even()
    products = {(0, 0): products_by_tile(still, guide)}
    here, weight = agreement_in_windows(*products[0, 0], window=window)
    best = here
    for offset in OFFSETS:
        products[offset] = products_by_tile(still, guide.moved(offset))
        best = np.maximum(best, agreement_in_windows(*products[offset], window=window)[0])
    shows_nothing = ndimage.binary_dilation(bare, np.ones((1, 3, 3)))
    weight = np.where(shows_nothing, 0.0, weight)
    displacement = displacement_of(
        {offset: np.where(shows_nothing, 0.0, agreed) for offset, (agreed, _) in products.items()}
    )
    return _Tiles(here, best - here, weight, target, bare, *displacement)


def _of_slices(limit: tuple[float, float], n_slices: int) -> float:
    """Of one slice and of many; between them what chance adds falls as 1 / n."""
    single, many = limit
    return many + (single - many) / n_slices


def _mean(of_tile: Tiles, found: _Tiles, *, axes: tuple[int, ...] = (1, 2)) -> Tiles:
    """Weighted by both gradients; 0 without any."""
    total = found.weight.sum(axis=axes, keepdims=True)
    weighted = (of_tile * found.weight).sum(axis=axes, keepdims=True)
    mean: Tiles = np.divide(weighted, total, out=np.zeros_like(total), where=total > 0)
    return mean


def _trust(agreement: Tiles, misplacement: Tiles, limits: GateLimits) -> Tiles:
    return _falling(-agreement, -limits.agreement[0], -limits.agreement[1]) * _falling(
        misplacement, *limits.misplacement
    )


def _beyond_half(trust: Volume | Tiles) -> Tiles:
    """0 up to a trust of a half, then as steep as to reach 1."""
    return np.clip(2 * np.asarray(trust, dtype=np.float64) - 1, 0, 1)


def _falling(figure: Tiles, begins: float, ends: float) -> Tiles:
    """From 1 to 0 without a bend at either end."""
    part = np.clip((ends - figure) / (ends - begins), 0, 1)
    return np.asarray(part * part * (3 - 2 * part))


def _on_pixels(trust: Tiles, shape: tuple[int, ...]) -> Volume:
    """Between the tiles' middles linear, beyond the outermost constant."""
    rows, columns = (np.clip((np.arange(n) + 0.5) / TILE_PX - 0.5, 0, n // TILE_PX - 1) for n in shape[1:])
    places = np.meshgrid(rows, columns, indexing="ij")
    return np.stack(
        [ndimage.map_coordinates(of_slice, places, order=1, mode="nearest") for of_slice in trust]
    ).astype(np.float32)


def _require_one_grid(upsampled: Volume, reference: Volume) -> None:
    if upsampled.shape != reference.shape or upsampled.ndim != 3 or min(upsampled.shape[1:]) < 2 * TILE_PX:
        raise ScanInvalid(
            "a reference cannot be judged",
            got=f"shapes {upsampled.shape} and {reference.shape}",
            expected=f"one shape (slice, row, column), at least {2 * TILE_PX} px an axis",
        )
