# mypy: disallow-untyped-calls=False
"""Where small blocks of one scan are found in another: the evidence that both show one anatomy, place by place.

A block of the target (about 18 mm in the plane, one slice or 4 mm thick) is compared with the other scan at every
displacement within reach by the squared correlation of their voxels. Squared, because one tissue may be bright in one
contrast and dark in the other; local, because within a block two or three tissues have one relation, whatever the
coils' sensitivities do across the head (Ourselin et al., Image and Vision Computing 19, 2001, match blocks for
registration in the same way).

Blocks of one patient are found where registration puts them; blocks of two patients are found anywhere within reach.

N block; s r c slice, row, column.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk  # noqa: N813 (the name its own manual uses)
from numpy.typing import NDArray

from minet_core.imaging.block_means import block_means
from sites.quality.scan_quality import foreground

Floats = NDArray[np.float64]

BLOCK_MM = 18.0
SLAB_MM = 4.0
"""Edge of a block in the plane, and its thickness: large enough that strangers do not fit by chance."""
MIN_BLOCK_PX = 6
"""... and 36 pixels at the least."""
MIN_FOREGROUND = 0.5
MIN_INSIDE = 0.95
"""Share of a block that is no air, and that the other scan covers."""
OUTSIDE = -1.0
"""What no magnitude is."""
BLOCKS_AT_ONCE = 512
"""Whose sums run together: twice as fast as by 64, and few enough for a processor's cache."""
FLAT = 1e-5
"""Variance, as a share of the scan's mean square, below which a block shows no structure."""


@dataclass(frozen=True)
class Blocks:
    """Blocks of the target, and how well each fits the other scan at every displacement.

    corners: (N, 3) first voxel (slice, row, column). centres_mm: (N, 3) world position. agreement: (N, places along
    slice, row, column) squared correlation; the middle place is no displacement. step_mm: (3,) between places.
    inside_share: share of all foreground blocks that the other scan covers; the others are left out.
    """

    corners: NDArray[np.int_]
    centres_mm: Floats
    agreement: NDArray[np.float32]
    step_mm: Floats
    inside_share: float

    @property
    def reach(self) -> tuple[int, int, int]:
        """Places on each side of the middle one."""
        _, s, r, c = self.agreement.shape
        return s // 2, r // 2, c // 2


@dataclass(frozen=True)
class Matches:
    """Where blocks were found.

    centres_mm: (N, 3) world position of each block. displacements_mm: (N, 3) along the target's (slice, row, column),
    from where the transform puts a block to where it is found. in_place: (N,) squared correlation without displacement.
    at_limit: (N,) whether the best place is at the end of the search, which is to be found nowhere.
    """

    centres_mm: Floats
    displacements_mm: Floats
    in_place: Floats
    at_limit: NDArray[np.bool_]
    inside_share: float

    def __len__(self) -> int:
        return len(self.in_place)


def axes_of(image: sitk.Image) -> Floats:
    """The directions of an image's axes.

    Parameters
    ----------
    image
        Three axes; SimpleITK's own order is (column, row, slice).

    Returns
    -------
    NDArray[np.float64]
        (3, 3): unit vectors of (slice, row, column) as columns, world.
    """
    return np.array(image.GetDirection()).reshape(3, 3)[:, ::-1]


def match_blocks(blocks: Blocks) -> Matches:
    """The best place of every block, between the places that were tried by a parabola along each axis.

    Parameters
    ----------
    blocks
        As `compare_blocks` gives them.

    Returns
    -------
    Matches
        N as in `blocks`; displacements in mm along the target's (slice, row, column).
    """
    places, at_limit = _peaks(blocks.agreement)
    reach = np.array(blocks.reach)
    middle = blocks.agreement[:, reach[0], reach[1], reach[2]]
    return Matches(
        centres_mm=blocks.centres_mm,
        displacements_mm=(places - reach) * blocks.step_mm,
        in_place=middle.astype(np.float64),
        at_limit=at_limit,
        inside_share=blocks.inside_share,
    )


def compare_blocks(
    fixed: sitk.Image,
    moving: sitk.Image,
    transform: sitk.Transform,
    *,
    reach_mm: tuple[float, float, float],
    max_blocks: int | None = None,
    step_mm: float = 1.5,
    slab_mm: float = SLAB_MM,
) -> Blocks:
    """Compare blocks of one scan with another scan at every displacement within reach.

    Parameters
    ----------
    fixed
        The scan that the blocks are cut from.
    moving
        The scan in which they are looked for.
    transform
        From points of `fixed` to points of `moving`, world mm.
    reach_mm
        The farthest displacement along (slice, row, column); 0: none along that axis.
    max_blocks
        Drawn with a fixed seed where there are more; None: all.
    step_mm
        Wanted distance of places between slices; within a slice it is the pixel of `fixed`.
    slab_mm
        A block's thickness.

    Returns
    -------
    Blocks
        Those that are foreground for the most part, that `moving` covers, and that show structure.

    References
    ----------
    Ourselin et al., Reconstructing a 3D structure from serial histological sections, Image and Vision
    Computing 19 (2001).
    """
    cut = _blocks_of(fixed, max_blocks=max_blocks, step_mm=step_mm, slab_mm=slab_mm)
    size, finer = cut.size, cut.finer
    spacing = np.array(fixed.GetSpacing())[::-1]
    step = spacing / [finer, 1, 1]
    reach = np.ceil(np.array(reach_mm) / step).astype(int)
    seen = _seen_through(moving, fixed, transform, cut=cut, reach=reach)
    inside = seen.shares_inside(cut, reach=reach) > MIN_INSIDE
    corners = cut.corners[inside]
    parts = [
        _compare(cut, seen, corners=some, reach=reach)
        for some in np.array_split(corners, max(1, -(-len(corners) // BLOCKS_AT_ONCE)))
    ]
    shown = np.concatenate([structured for structured, _ in parts])
    corners = corners[shown]
    points = (corners + (size - 1) / 2) * spacing @ axes_of(fixed).T + np.array(fixed.GetOrigin())
    return Blocks(
        corners=corners,
        centres_mm=points,
        agreement=np.concatenate([agreement for _, agreement in parts]),
        step_mm=step,
        inside_share=float(inside.mean()) if len(inside) else 0.0,
    )


def covered_share(
    fixed: sitk.Image,
    moving: sitk.Image,
    transform: sitk.Transform,
    *,
    max_blocks: int,
    step_mm: float = 1.5,
    slab_mm: float = SLAB_MM,
) -> float:
    """The share of the foreground's blocks that the other scan covers: `Blocks.inside_share` without a comparison.

    Parameters
    ----------
    fixed, moving, transform, max_blocks, step_mm, slab_mm
        As for `compare_blocks`; the transform is an affine one.

    Returns
    -------
    float
        0 to 1; 0 where there is no block.
    """
    cut = _blocks_of(fixed, max_blocks=max_blocks, step_mm=step_mm, slab_mm=slab_mm)
    if not len(cut.corners):
        return 0.0
    window = [(cut.size[0] - 1) * cut.finer + 1, *cut.size[1:]]
    within = np.array(list(np.ndindex(*window))) / [cut.finer, 1, 1]  # (V, 3) indices within a block
    origin, places = _index_map(fixed, moving, transform)
    # The map is affine: a block's places are its corner's and those within any block, added.
    corners = (cut.corners @ places.T + origin)[:, None]  # (N, 1, 3)
    indices = corners + within @ places.T
    inside = ((indices >= -0.5) & (indices <= np.array(moving.GetSize())[::-1] - 0.5)).all(axis=2)
    return float((inside.mean(axis=1) > MIN_INSIDE).mean())


def _index_map(fixed: sitk.Image, moving: sitk.Image, transform: sitk.Transform) -> tuple[Floats, Floats]:
    """Where an affine transform puts index 0 of `fixed` in `moving`, and its steps as columns: (slice, row, column)."""

    def seen_at(index: tuple[int, int, int]) -> Floats:
        point = transform.TransformPoint(fixed.TransformIndexToPhysicalPoint(index[::-1]))
        return np.array(moving.TransformPhysicalPointToContinuousIndex(point))[::-1]

    origin = seen_at((0, 0, 0))
    return origin, np.array([seen_at(one) - origin for one in ((1, 0, 0), (0, 1, 0), (0, 0, 1))]).T


@dataclass(frozen=True)
class _Cut:
    """Blocks of `fixed`. level: the root mean square of its voxels. corners: (N, 3). size: (s, r, c) voxels.

    finer: places between two slices.
    """

    voxels: NDArray[np.float32]
    level: float
    corners: NDArray[np.int_]
    size: NDArray[np.int_]
    finer: int


def _blocks_of(fixed: sitk.Image, *, max_blocks: int | None, step_mm: float, slab_mm: float) -> _Cut:
    """The blocks to compare: of the foreground, drawn with a fixed seed where there are too many."""
    voxels: NDArray[np.float32] = sitk.GetArrayViewFromImage(fixed)
    spacing = np.array(fixed.GetSpacing())[::-1]  # (slice, row, column)
    edges = [max(MIN_BLOCK_PX, round(BLOCK_MM / s)) for s in spacing[1:]]
    size = np.minimum([max(1, round(slab_mm / spacing[0])), *edges], voxels.shape)
    corners = _foreground_corners(voxels, size)
    if max_blocks is not None and len(corners) > max_blocks:
        drawn = np.random.default_rng(0).choice(len(corners), max_blocks, replace=False)
        corners = corners[np.sort(drawn)]
    level = float(np.linalg.norm(voxels)) / max(voxels.size, 1) ** 0.5
    return _Cut(voxels, level, corners, size, finer=max(1, round(spacing[0] / step_mm)))


def _foreground_corners(voxels: NDArray[np.float32], size: NDArray[np.int_]) -> NDArray[np.int_]:
    """First voxel of every block, without overlap, that is foreground for the most part: (N, 3)."""
    n_blocks = np.array(voxels.shape) // size
    if n_blocks.min() < 1:
        return np.zeros((0, 3), dtype=int)
    first = (np.array(voxels.shape) - n_blocks * size) // 2
    anatomy = foreground(voxels)[
        tuple(slice(f, f + n * s) for f, n, s in zip(first, n_blocks, size, strict=True))
    ]
    share = block_means(anatomy, size.tolist())
    corners: NDArray[np.int_] = np.argwhere(share >= MIN_FOREGROUND) * size + first
    return corners


@dataclass(frozen=True)
class _Seen:
    """`moving` on a grid of `fixed` that holds all blocks and what is beside them.

    voxels: in units of their root mean square, 0 where there is no data. covered: where there is; None: everywhere.
    first: voxel of `fixed` at which the grid begins, but for a margin of the reach.
    """

    voxels: NDArray[np.float32]
    covered: NDArray[np.bool_] | None
    first: NDArray[np.int_]

    def shares_inside(self, cut: _Cut, *, reach: NDArray[np.int_]) -> Floats:
        """(N,) the share of each block, where the transform puts it, that has data."""
        if self.covered is None:
            return np.ones(len(cut.corners))
        window = ((int(cut.size[0]) - 1) * cut.finer + 1, int(cut.size[1]), int(cut.size[2]))
        places = (cut.corners - self.first) * [cut.finer, 1, 1] + reach
        views = np.lib.stride_tricks.sliding_window_view(self.covered, window)
        shares: Floats = views[tuple(places.T)].mean(axis=(1, 2, 3))
        return shares


def _seen_through(
    moving: sitk.Image, fixed: sitk.Image, transform: sitk.Transform, *, cut: _Cut, reach: NDArray[np.int_]
) -> _Seen:
    """`moving` where the blocks of `fixed` lie, `finer` times as many slices, with a margin of `reach` places."""
    first, stop = np.zeros(3, int), np.ones(3, int)
    if len(cut.corners):
        first, stop = cut.corners.min(axis=0), cut.corners.max(axis=0) + cut.size
    spacing = np.array(fixed.GetSpacing()) / [1, 1, cut.finer]
    size = (stop - first)[::-1]
    size[2] = (size[2] - 1) * cut.finer + 1
    margin = reach[::-1]
    direction = np.array(fixed.GetDirection()).reshape(3, 3)
    corner = np.array(fixed.TransformIndexToPhysicalPoint(first[::-1].tolist()))
    grid = sitk.ResampleImageFilter()
    grid.SetSize((size + 2 * margin).tolist())
    grid.SetOutputSpacing(spacing.tolist())
    grid.SetOutputDirection(fixed.GetDirection())
    grid.SetOutputOrigin((corner - direction @ (spacing * margin)).tolist())
    grid.SetTransform(transform)
    grid.SetInterpolator(sitk.sitkLinear)
    grid.SetDefaultPixelValue(OUTSIDE)
    seen: NDArray[np.float32] = sitk.GetArrayFromImage(grid.Execute(moving))
    covered, n_covered = None, seen.size
    if seen.min() < 0:
        covered = seen != OUTSIDE
        n_covered = int(np.count_nonzero(covered))
        np.maximum(seen, 0, out=seen)
    level = float(np.linalg.norm(seen)) / max(n_covered, 1) ** 0.5
    if level > 0:
        seen *= np.float32(1 / level)
    return _Seen(seen, covered, first)


def _windows(
    array: NDArray[np.float32], corners: NDArray[np.int_], size: NDArray[np.int_]
) -> NDArray[np.float32]:
    """Blocks of `size` cut at `corners`: (s, r, c, N), blocks last, so that each sum runs along all of them."""
    flat = array.reshape(-1)
    _, rows, columns = array.shape
    first = (corners[:, 0] * rows + corners[:, 1]) * columns + corners[:, 2]
    cut = np.empty((*size, len(corners)), np.float32)
    in_row = first + np.arange(size[2])[:, None]  # (c, N)
    for s, r in np.ndindex(*size[:2]):
        flat.take(in_row + (s * rows + r) * columns, out=cut[s, r], mode="clip")
    return cut


def _compare(
    cut: _Cut, seen: _Seen, *, corners: NDArray[np.int_], reach: NDArray[np.int_]
) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
    """Which blocks show structure, (n,); of these (N, places along slice, row, column) the squared correlation."""
    here = _windows(cut.voxels, corners, cut.size)
    if cut.level > 0:  # k-space of a knee has values of 1e-6, a scanner's image of 1e3
        here *= np.float32(1 / cut.level)
    here -= here.mean(axis=(0, 1, 2))
    shown = np.einsum("srcn,srcn->n", here, here) > FLAT * cut.size.prod()
    if not shown.all():
        here, corners = np.ascontiguousarray(here[..., shown]), corners[shown]
    finer = np.array([cut.finer, 1, 1])
    window = (cut.size - 1) * finer + 1 + 2 * reach
    there = _windows(seen.voxels, (corners - seen.first) * finer, window)
    return shown, np.moveaxis(_squared_correlations(here, there, finer=cut.finer, reach=reach), -1, 0)


def _squared_correlations(
    centred: NDArray[np.float32], there: NDArray[np.float32], *, finer: int, reach: NDArray[np.int_]
) -> NDArray[np.float32]:
    """(places along slice, row, column, N): squared correlation of each block at each displacement.

    centred: (s, r, c, N) about each block's mean. there: the same with the reach around it; it is used up.
    """
    s, r, c, n_blocks = centred.shape
    n, places = s * r * c, 2 * reach + 1
    shared = np.empty((*places, n_blocks), np.float32)
    in_rows = np.lib.stride_tricks.sliding_window_view(there, c, axis=2)  # (s, r, place along the row, N, c)
    for ds, dr in np.ndindex(*places[:2]):
        at = in_rows[ds : ds + (s - 1) * finer + 1 : finer, dr : dr + r]
        np.einsum("srpnc,srcn->pn", at, centred, out=shared[ds, dr])
    total = _window_sums(there, (s, r, c), finer=finer)
    np.multiply(there, there, out=there)
    spread_there = _window_sums(there, (s, r, c), finer=finer)
    total *= total
    total /= np.float32(n)
    spread_there -= total
    spread = np.einsum("srcn,srcn->n", centred, centred)
    shared *= shared
    shared /= np.maximum(spread * spread_there, np.float32(1e-20))
    shared[spread_there <= FLAT * n] = 0
    return shared


def _window_sums(
    array: NDArray[np.float32], size: tuple[int, int, int], *, finer: int
) -> NDArray[np.float32]:
    """(places along slice, row, column, N): the sum over a block's voxels at every place, one axis after the other."""
    for axis, edge, step in ((2, size[2], 1), (1, size[1], 1), (0, size[0], finer)):
        n_places = array.shape[axis] - (edge - 1) * step
        before = (slice(None),) * axis
        total = array[(*before, slice(0, n_places))].copy()
        for place in range(step, edge * step, step):
            total += array[(*before, slice(place, place + n_places))]
        array = total
    return array


def _peaks(agreement: NDArray[np.float32]) -> tuple[Floats, NDArray[np.bool_]]:
    """Place of the highest agreement of each block, between places by a parabola along each axis; whether at an end."""
    n_blocks, *places = agreement.shape
    if n_blocks == 0:
        return np.zeros((0, 3)), np.zeros(0, dtype=bool)
    best = agreement.reshape(n_blocks, -1).argmax(axis=1)
    indices = np.array(np.unravel_index(best, places)).T  # (N, 3)
    peaks = indices.astype(np.float64)
    rows = np.arange(n_blocks)
    searched = [axis for axis, n_places in enumerate(places) if n_places > 1]
    for axis in searched:
        n_places = places[axis]
        middle = np.clip(indices[:, axis], 1, n_places - 2)
        at = [indices[:, 0], indices[:, 1], indices[:, 2]]
        low, mid, high = (_values(agreement, rows, at, axis=axis, places=middle + o) for o in (-1, 0, 1))
        bend = low - 2 * mid + high
        offset = np.where(bend < 0, 0.5 * (low - high) / np.where(bend < 0, bend, -1), 0)
        peaks[:, axis] = middle + np.clip(offset, -1, 1)
    at_end = (indices == 0) | (indices == np.array(places) - 1)
    return peaks, at_end[:, searched].any(axis=1)


def _values(
    agreement: NDArray[np.float32],
    rows: NDArray[np.int_],
    at: list[NDArray[np.int_]],
    *,
    axis: int,
    places: NDArray[np.int_],
) -> Floats:
    moved = [places if index == axis else place for index, place in enumerate(at)]
    return agreement[rows, moved[0], moved[1], moved[2]].astype(np.float64)
