"""What an image shows, small enough to be compared with every other image of a store.

A signature is the image on a grid of 4 mm in the patient's axes (RAS), centred on its foreground, each voxel's
deviation from the mean of its neighbourhood in units of the neighbourhood's spread. Gain, receive field, file type,
storage order, frame and small noise leave it as it is; a rigid motion turns and shifts it, and `similarity` finds
that motion before it compares. It is a picture of the patient: it stays in the store.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from minet_core.imaging.block_means import block_means
from minet_core.imaging.volume import Volume
from sites.quality.scan_quality import FOREGROUND_LEVEL, bright_percentile

Floats = NDArray[np.float32]

STEP_MM = 4.0
EDGE = 48
"""Voxels along each axis: 192 mm hold a brain; of a larger field of view the middle is compared."""
NEIGHBOURHOOD_MM = 6.0
"""Standard deviation of the neighbourhood. Wider ones hold what all heads have in common: of 14 mm, the phantom
knees of strangers are alike to 0.89, of 9 mm to 0.86, of 6 mm to 0.81."""
LEVELS = 32
"""Steps of one standard deviation in the eight bits that are kept."""
MOST = 3.0
FOREGROUND_SHARE = 0.5
COARSE = 3
"""Edge of a voxel of the coarse grid, in voxels: 12 mm."""
TURNS_RAD = (-0.14, 0.0, 0.14)
"""8 degrees: refinement reaches from each to half way to the next, and beyond the last."""
SHIFTS = (-1, 0, 1)
"""Of the turned images, in coarse voxels."""
FAR_SHIFTS = (-3, -2, -1, 0, 1, 2, 3)
"""Of the image as it lies: the middle of half a head is 40 mm from the whole one's."""
MIN_VOXELS = 50
MIN_SHARED = 0.3
"""Share of the smaller foreground that must overlap: a crop to a third of the slices is still compared."""
N_POINTS = 3000
N_ITERATIONS = 10
N_STARTS = 2


OUTSIDE = -128
"""The value of what is no foreground."""


@dataclass(frozen=True)
class Signature:
    """One image. values: int8 (x, y, z), deviations in steps of 1/32, or OUTSIDE."""

    values: NDArray[np.int8]

    @cached_property
    def mask(self) -> NDArray[np.bool_]:
        return np.asarray(self.values != OUTSIDE)

    @cached_property
    def fine(self) -> Floats:
        return np.asarray(np.where(self.mask, self.values, 0) / LEVELS, np.float32)

    @cached_property
    def smooth(self) -> Floats:
        """The same at 6 mm: what a refinement begins on."""
        return np.asarray(ndimage.gaussian_filter(self.fine, 1.5), np.float32)

    @cached_property
    def coarse(self) -> Floats:
        """(2, voxel): the image at 12 mm, and its foreground there."""
        images = [block_means(one, (COARSE,) * 3) for one in (self._blurred, self.mask.astype(np.float32))]
        return np.stack(
            [(images[0] * (images[1] > FOREGROUND_SHARE)).ravel(), (images[1] > FOREGROUND_SHARE).ravel()]
        )

    def moved(self, where: NDArray[np.intp]) -> tuple[Floats, Floats, Floats]:
        """The coarse image moved in every way of MOTIONS.

        Parameters
        ----------
        where
            (voxel,) numbers of coarse voxels, the only ones that are asked for: others need more time, and are air.

        Returns
        -------
        tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]
            (motion, voxel) the image, and 1 where it shows anatomy; (motion,) the anatomy's voxels of the whole grid.
        """
        edge, most = EDGE // COARSE, max(FAR_SHIFTS)
        wide = edge + 2 * most
        steps = np.array([wide**2, wide, 1])
        places = np.array(np.unravel_index(where, (edge,) * 3)).T @ steps + most * steps.sum()
        turned = np.pad(self._turned(), [(0, 0), (0, 0), *[(most, most)] * 3])
        windows = turned[1]
        for axis in (1, 2, 3):  # (rotation, shift along x, y, z): the anatomy's voxels
            windows = np.lib.stride_tricks.sliding_window_view(windows, edge, axis=axis).sum(axis=-1)
        moved = np.empty((2, len(MOTIONS), len(where)), np.float32)
        counts = np.empty(len(MOTIONS), np.float32)
        for index, (numbers, shifts) in enumerate(zip(*_MOTIONS_BY_TURN, strict=True)):
            at = (shifts @ steps)[:, None] + places
            moved[:, numbers] = turned[:, index].reshape(2, -1).take(at, axis=1)
            counts[numbers] = windows[index][tuple((shifts + most).T)]
        return moved[0], moved[1], counts

    def _turned(self) -> Floats:
        """(2, rotation, x, y, z): the coarse image turned in every way, and 1 where it shows anatomy."""
        edge = EDGE // COARSE
        corners, weights = _turned_grids()
        flat = np.stack([self._blurred, self.mask.astype(np.float32)]).reshape(2, -1)
        turned = np.zeros((2, *corners.shape[1:]), np.float32)
        for corner, weight in zip(corners, weights, strict=True):
            for values, sums in zip(flat, turned, strict=True):
                sums += values.take(corner) * weight
        turned[1] = turned[1] > FOREGROUND_SHARE
        turned[0] *= turned[1]
        return turned.reshape(2, -1, edge, edge, edge)

    @cached_property
    def _blurred(self) -> Floats:
        return np.asarray(ndimage.gaussian_filter(self.fine, 2.0), np.float32)

    @cached_property
    def smooth_slopes(self) -> tuple[Floats, Floats]:
        return _slopes(self.smooth, self.points)

    @cached_property
    def fine_slopes(self) -> tuple[Floats, Floats]:
        return _slopes(self.fine, self.points)

    @cached_property
    def points(self) -> Floats:
        """(point, axis): a fixed sample of the foreground, voxels from the centre."""
        places = np.argwhere(self.mask)
        if len(places) > N_POINTS:
            places = places[np.random.default_rng(0).choice(len(places), N_POINTS, replace=False)]
        return np.asarray(places - _MIDDLE, np.float32)


def _slopes(image: Floats, points: Floats) -> tuple[Floats, Floats]:
    """(point,) the image's values, and (point, 6) their derivatives by three turns and three shifts."""
    along = [np.asarray(np.gradient(image, axis=axis), np.float32) for axis in range(3)]
    slopes = np.stack([_sample(slope, points) for slope in along], axis=1)  # (point, axis)
    return _sample(image, points), np.concatenate([np.cross(points, slopes), slopes], axis=1)


_MIDDLE = (EDGE - 1) / 2
_GRID_1D = (np.arange(EDGE // COARSE, dtype=np.float32) * COARSE + (COARSE - 1) / 2) - _MIDDLE
_STEPS = np.array([EDGE**2, EDGE, 1], np.int32)
_COARSE_GRID = np.stack(np.meshgrid(_GRID_1D, _GRID_1D, _GRID_1D, indexing="ij"), axis=-1).reshape(-1, 3)


def _rotation(angles: NDArray[np.float64]) -> Floats:
    """The rotation by a vector of angles (Rodrigues' formula)."""
    angle = float(np.linalg.norm(angles))
    if angle == 0:
        return np.eye(3, dtype=np.float32)
    x, y, z = angles / angle
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    turned = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    return np.asarray(turned, np.float32)


_ROTATIONS = [_rotation(np.array(angles)) for angles in product(TURNS_RAD, repeat=3)]
MOTIONS = [(index, shift) for index in range(len(_ROTATIONS)) for shift in product(SHIFTS, repeat=3)] + [
    (len(_ROTATIONS) // 2, shift) for shift in product(FAR_SHIFTS, repeat=3) if max(map(abs, shift)) > 1
]
"""(number of the rotation, shift in coarse voxels)."""
_MOTIONS_BY_TURN = (
    [np.flatnonzero([turn == index for turn, _ in MOTIONS]) for index in range(len(_ROTATIONS))],
    [np.array([shift for turn, shift in MOTIONS if turn == index]) for index in range(len(_ROTATIONS))],
)
"""By number of the rotation, the numbers of its motions, and their shifts."""


@cache
def _turned_grids() -> tuple[NDArray[np.int32], Floats]:
    """Where linear interpolation finds the coarse grid in an image that is turned in every way.

    (corner of a voxel, rotation, coarse voxel) each: the number of a voxel of the image, and its weight; 0 outside.
    """
    places = np.stack([_COARSE_GRID @ rotation.T for rotation in _ROTATIONS]) + _MIDDLE
    there = ((places >= 0) & (places <= EDGE - 1)).all(axis=-1)
    whole = np.clip(np.floor(places).astype(np.int32), 0, EDGE - 2)
    part = np.asarray(places - whole, np.float32)
    first = whole @ _STEPS
    corners = np.stack([first + np.array(corner, np.int32) @ _STEPS for corner in np.ndindex(2, 2, 2)])
    x, y, z = ((1 - one, one) for one in np.moveaxis(part, -1, 0))
    x = tuple(one * there for one in x)
    weights = np.stack([x[i] * y[j] * z[k] for i, j, k in np.ndindex(2, 2, 2)])
    return corners, weights


def signature_of(volume: Volume) -> Signature:
    """The signature of one image of a pair.

    Parameters
    ----------
    volume
        Any grid; its affine says where the patient's axes lie.

    Returns
    -------
    Signature
        (EDGE, EDGE, EDGE) int8 at `STEP_MM`; all OUTSIDE where there is no foreground.
    """
    magnitude = volume.magnitude()
    factors = tuple(max(1, int(STEP_MM / 2 / step)) for step in volume.spacing_mm)
    few = magnitude[:, ::3, ::3]  # the percentile of a whole volume takes longer than all that follows
    level, limit = (np.float32(bright_percentile(few, percent)) for percent in (99, 99.5))
    anatomy = block_means(magnitude > FOREGROUND_LEVEL * level, factors)
    image = block_means(np.minimum(magnitude, limit), factors)
    affine = volume.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ ((np.array(factors) - 1) / 2)
    affine[:3, :3] = affine[:3, :3] * np.array(factors)
    sigma = 0.5 * STEP_MM / np.linalg.norm(affine[:3, :3], axis=0)
    image, anatomy = (ndimage.gaussian_filter(one, sigma) for one in (image, anatomy))
    mask = anatomy > FOREGROUND_SHARE
    if not mask.any():
        return Signature(np.full((EDGE,) * 3, OUTSIDE, np.int8))
    centre = affine[:3, :3] @ np.array(ndimage.center_of_mass(mask)) + affine[:3, 3]
    to_image = np.linalg.inv(affine[:3, :3])
    matrix = to_image * STEP_MM
    offset = to_image @ (centre - affine[:3, 3]) - matrix @ np.full(3, _MIDDLE)
    onto = {"offset": offset, "output_shape": (EDGE,) * 3, "order": 1}
    there = ndimage.affine_transform(mask.astype(np.float32), matrix, **onto) > FOREGROUND_SHARE
    return _normalised(ndimage.affine_transform(image, matrix, **onto), there)


def _normalised(image: Floats, mask: NDArray[np.bool_]) -> Signature:
    """Deviations from the neighbourhood's mean, in units of its spread; both of the foreground alone."""
    inside = mask.astype(np.float32)
    sigma = NEIGHBOURHOOD_MM / STEP_MM
    weight = np.maximum(ndimage.gaussian_filter(inside, sigma), 1e-3)
    mean = ndimage.gaussian_filter(image * inside, sigma) / weight
    deviation = (image - mean) * inside
    spread = np.sqrt(ndimage.gaussian_filter(deviation**2, sigma) / weight)
    floor = 0.3 * float(np.median(spread[mask])) if mask.any() else 1.0
    values = np.clip(deviation / np.maximum(spread + floor, 1e-12), -MOST, MOST)
    return Signature(np.where(mask, np.rint(values * LEVELS), OUTSIDE).astype(np.int8))


def _sample(image: Floats, points: Floats) -> Floats:
    """The image's values at points, voxels from the centre; 0 outside."""
    return np.asarray(
        ndimage.map_coordinates(image, (points + _MIDDLE).T, order=1, mode="constant"), np.float32
    )


def rank(one: Signature, others: Floats) -> tuple[Floats, NDArray[np.intp]]:
    """How like one image is to many, at 12 mm, in whichever of MOTIONS fits best.

    Parameters
    ----------
    one
        The image that is moved.
    others
        (2, other, voxel): the coarse images and their foregrounds, as `Signature.coarse` gives them.

    Returns
    -------
    tuple[NDArray[np.float32], NDArray[np.intp]]
        (other,) the correlation over the common foreground, -1 where too little is shared; and (N_STARTS, other) the
        best motions, numbers of MOTIONS, the best first.
    """
    n_shown = others[1].sum(axis=1)
    where = np.flatnonzero(others[1].any(axis=0))
    images, inside, n_inside = one.moved(where)
    other_images, other_inside = others[..., where]
    product_of = images @ other_images.T  # (motion, other)
    np.square(images, out=images)
    own = images @ other_inside.T
    theirs = inside @ (other_images**2).T
    shared = inside @ other_inside.T
    least = np.minimum(n_inside[:, None], n_shown[None])
    likeness = product_of / np.sqrt(np.maximum(own * theirs, 1e-12))
    likeness = np.where(shared >= MIN_SHARED * least, likeness, -1)
    best = np.argsort(-likeness, axis=0)[:N_STARTS]
    return likeness.max(axis=0), best


def similarity(one: Signature, other: Signature, *, starts: NDArray[np.intp]) -> float:
    """How like two images are, after rigid alignment.

    Parameters
    ----------
    one, other
        The images; `one` is moved.
    starts
        Numbers of MOTIONS to begin from, as `rank` gives them for `other`.

    Returns
    -------
    float
        The correlation over the common foreground, -1 to 1; -1 where too little is shared.

    References
    ----------
    Baker and Matthews, Lucas-Kanade 20 Years On: A Unifying Framework, IJCV 56 (2004).
    """
    poses = []
    for start in starts:
        index, shift = MOTIONS[start]
        # A variant is one(R (x + s)): the other's point x is one's point R x + R s.
        rotation = _ROTATIONS[index]
        pose = (rotation, rotation @ (np.array(shift, np.float32) * COARSE))
        poses.append(_refined(other.smooth_slopes, one.smooth, other.points, pose))
    poses.sort(key=lambda pose: -_fit(other.smooth_slopes[0], one.smooth, other.points, pose))
    return _correlation(other, one, _refined(other.fine_slopes, one.fine, other.points, poses[0]))


def _fit(wanted: Floats, moving: Floats, points: Floats, pose: tuple[Floats, Floats]) -> float:
    found = _sample(moving, points @ pose[0].T + pose[1])
    length = float(np.linalg.norm(found) * np.linalg.norm(wanted * (found != 0)))
    return float(found @ wanted) / length if length else -1.0


def _refined(
    fixed: tuple[Floats, Floats], moving: Floats, points: Floats, pose: tuple[Floats, Floats]
) -> tuple[Floats, Floats]:
    """The pose that brings moving(R x + t) nearest to fixed(x): Gauss-Newton, inverse compositional.

    fixed: its values at the points, and their derivatives by the six motions.

    Source: Baker and Matthews, Lucas-Kanade 20 Years On, IJCV 56 (2004).
    """
    rotation, shift = pose
    wanted, jacobian = fixed
    hessian = jacobian.T @ jacobian + 1e-3 * np.eye(6)
    for _ in range(N_ITERATIONS):
        found = _sample(moving, points @ rotation.T + shift)
        inside = found != 0
        step = np.linalg.solve(hessian, jacobian.T @ ((found - wanted) * inside))
        # The fixed image moves by the step; the pose by its inverse.
        turn = _rotation(-step[:3])
        rotation, shift = rotation @ turn, shift + rotation @ turn @ (-step[3:]).astype(np.float32)
        if np.abs(step[:3]).max() < 1e-3 and np.abs(step[3:]).max() < 2e-2:
            break
    return rotation, shift


def _correlation(fixed: Signature, moving: Signature, pose: tuple[Floats, Floats]) -> float:
    points = np.asarray(np.argwhere(fixed.mask) - _MIDDLE, np.float32)
    places = points @ pose[0].T + pose[1]
    both = _sample(moving.mask.astype(np.float32), places) > FOREGROUND_SHARE
    least = MIN_SHARED * min(int(fixed.mask.sum()), int(moving.mask.sum()))
    if both.sum() < max(least, MIN_VOXELS):
        return -1.0
    a, b = _sample(fixed.fine, points[both]), _sample(moving.fine, places[both])
    a, b = a - a.mean(), b - b.mean()
    length = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / length if length else -1.0
