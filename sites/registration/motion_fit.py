"""One motion from many blocks' displacements: a robust fit, and how far it can be trusted.

The motion is rigid and a small stretch: x -> x + t + A (x - c), A any 3 x 3 matrix. Its symmetric part (stretch and
shear) is held near zero by a prior, since scanners' gradients differ by about one part in a hundred and not by ten;
its antisymmetric part, a rotation, is free.

The error is what a sub-volume would change. Blocks near each other share their errors (a fold that two contrasts show
differently, a vessel that moved), so the blocks are divided into eight sub-volumes. Two things are put together: how
the fitted motion changes when one of them is left out (jackknife), and how far the blocks of each lie, on the whole,
from the fitted motion: a bending that no stretch follows. What all blocks share is not seen by either; the place of a
block between two places that were tried is found to STEP_ERROR.

N block.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

STRETCH_PRIOR = 0.006
"""Standard deviation of the prior of stretch and shear. Two contrasts of one session differ by up to 0.013 along the
slices (measured on the clinical pairs of open_ms_data)."""
ROUNDS = 20
"""Of reweighting; it has settled after about ten."""
WIDE_ROUNDS = 8
"""The first of them, which look farther than the biweight."""
SETTLED = 1e-6
"""Largest change of a parameter, mm and parts of a length, from which on no further round is made."""
SETTLED_NEAR = 1e-4
"""The same where a fit goes on from another one: of what their difference says a thousandth, or less."""
TUKEY = 4.685
"""Tukey's biweight: 95% efficient for normal errors."""
MIN_SCALE_MM = 0.05
"""Blocks are not trusted more than this each: places are a millimetre apart."""
NEAR_MM = 3.0
"""Blocks farther from the motion were found in a wrong place, and say nothing about the others' spread."""
N_PARAMETERS = 12
STEP_ERROR = 0.016
"""Of the step: the root mean square of what is left on two brains of one pixel a step with a made-up second contrast,
where all else is smaller (0.022 to 0.028 mm)."""
MIN_BLOCKS = 24
"""Two equations of three a parameter."""

_STRETCHES = [
    np.array([[1, 0, 0], [0, 0, 0], [0, 0, 0]]), np.array([[0, 0, 0], [0, 1, 0], [0, 0, 0]]),
    np.array([[0, 0, 0], [0, 0, 0], [0, 0, 1]]), np.array([[0, 1, 0], [1, 0, 0], [0, 0, 0]]) / 2**0.5,
    np.array([[0, 0, 1], [0, 0, 0], [1, 0, 0]]) / 2**0.5, np.array([[0, 0, 0], [0, 0, 1], [0, 1, 0]]) / 2**0.5,
]  # fmt: skip
_ROTATIONS = [
    np.array([[0, 1, 0], [-1, 0, 0], [0, 0, 0]]) / 2**0.5, np.array([[0, 0, 1], [0, 0, 0], [-1, 0, 0]]) / 2**0.5,
    np.array([[0, 0, 0], [0, 0, 1], [0, -1, 0]]) / 2**0.5,
]  # fmt: skip
_BASES = np.array(_STRETCHES + _ROTATIONS)  # (9, 3, 3)


@dataclass(frozen=True)
class MotionFit:
    """x -> x + shift_mm + matrix (x - centre_mm), in any axes that all three share.

    scale_mm: (3,) spread of the blocks about it. weights: (N,) 0 for a block that does not follow it, else up to 1.
    """

    centre_mm: Floats
    shift_mm: Floats
    matrix: Floats
    scale_mm: Floats
    weights: Floats

    def displacements_at(self, points_mm: Floats) -> Floats:
        """Where the motion moves points to.

        Parameters
        ----------
        points_mm
            (N, 3), in the axes of the fit.

        Returns
        -------
        NDArray[np.float64]
            (N, 3) displacements, mm.
        """
        moved: Floats = self.shift_mm + (points_mm - self.centre_mm) @ self.matrix.T
        return moved


def fit_motion(
    points_mm: Floats, displacements_mm: Floats, *, max_stretch: float, near: MotionFit | None = None
) -> MotionFit:
    """The motion that most blocks share, by Tukey's biweight.

    Parameters
    ----------
    points_mm
        (N, 3) places of the blocks.
    displacements_mm
        (N, 3) along the same axes as the places.
    max_stretch
        0 allows rotation and shift alone; above it a small stretch is fitted too. The stretch itself is not
        bounded.
    near
        The fit of most of these blocks, from which this one goes on; None: nothing is known, and it begins wide.

    Returns
    -------
    MotionFit
        With a weight of each block.
    """
    centre = np.median(points_mm, axis=0) if near is None else near.centre_mm
    design = _design(points_mm - centre)  # (N, 3, 12)
    rows = design.reshape(-1, N_PARAMETERS)  # (3 N, 12): an equation each
    if near is None:
        parameters = np.concatenate([np.median(displacements_mm, axis=0), np.zeros(9)])
    else:
        parameters = np.concatenate([near.shift_mm, np.einsum("kij,ij->k", _BASES, near.matrix)])
    weights, scale = np.ones(len(points_mm)), np.ones(3)
    prior = np.full(N_PARAMETERS, 1e-9)
    prior[3:9] = STRETCH_PRIOR**-2 if max_stretch > 0 else 1e12
    for round_number in range(0 if near is None else WIDE_ROUNDS, ROUNDS):
        residuals = displacements_mm - design @ parameters
        close = np.linalg.norm(residuals, axis=1) < NEAR_MM
        if close.sum() >= MIN_BLOCKS / 2:
            scale = np.maximum(1.4826 * np.median(np.abs(residuals[close]), axis=0), MIN_SCALE_MM)
        # Begin wide: half of the blocks may be found in a wrong place.
        reach = TUKEY * max(1.0, 3.0 - 2.0 * round_number / WIDE_ROUNDS)
        distance = np.linalg.norm(residuals / scale, axis=1) / reach
        weights = np.where(distance < 1, (1 - distance**2) ** 2, 0.0)
        if weights.sum() < MIN_BLOCKS / 2:
            break
        weighted = (rows * (weights[:, None] / scale**2).reshape(-1, 1)).T
        former = parameters
        parameters = np.linalg.solve(weighted @ rows + np.diag(prior), weighted @ displacements_mm.ravel())
        settled = SETTLED if near is None else SETTLED_NEAR
        if round_number > WIDE_ROUNDS and np.abs(parameters - former).max() < settled:
            break
    matrix = np.einsum("k,kij->ij", parameters[3:], _BASES)
    return MotionFit(centre, parameters[:3], matrix, scale, weights)


def _design(offsets: Floats) -> Floats:
    """(N, 3, 12): how each parameter moves each point."""
    shifts = np.broadcast_to(np.eye(3), (len(offsets), 3, 3))
    return np.concatenate([shifts, np.einsum("kij,nj->nik", _BASES, offsets)], axis=2)


def sub_volumes(points_mm: Floats) -> NDArray[np.int_]:
    """The octant about the median in which each point lies.

    Parameters
    ----------
    points_mm
        (N, 3).

    Returns
    -------
    NDArray[np.int_]
        (N,) 0 to 7.
    """
    above = points_mm > np.median(points_mm, axis=0)
    octants: NDArray[np.int_] = above @ np.array([4, 2, 1])
    return octants


def error_of(
    fit: MotionFit, points_mm: Floats, displacements_mm: Floats, *, step_mm: float, max_stretch: float
) -> float:
    """How far the motion is from the true one, estimated from the blocks themselves.

    Parameters
    ----------
    fit
        The motion of these blocks.
    points_mm, displacements_mm
        (N, 3) each, as they were given to `fit_motion`.
    step_mm
        Distance of the places at which blocks were looked for.
    max_stretch
        As it was given to `fit_motion`.

    Returns
    -------
    float
        Root mean square over the blocks' places, mm. Infinite where fewer than `MIN_BLOCKS` blocks in four sub-volumes
        follow the motion.
    """
    kept = fit.weights > 0
    points, seen = points_mm[kept], displacements_mm[kept]
    octants = sub_volumes(points)
    groups = [octants == octant for octant in range(8) if (octants == octant).sum() >= 3]
    if len(points) < MIN_BLOCKS or len(groups) < 4:
        return float("inf")
    whole = fit.displacements_at(points_mm)
    without = [
        fit_motion(points[~group], seen[~group], max_stretch=max_stretch, near=fit) for group in groups
    ]
    changes = [((one.displacements_at(points_mm) - whole) ** 2).sum(axis=1).mean() for one in without]
    jackknife = (len(groups) - 1) / len(groups) * float(sum(changes))
    residuals = seen - fit.displacements_at(points)
    weights = fit.weights[kept]
    bending = 0.0
    for group in groups:
        share = weights[group] / weights[group].sum()
        mean = share @ residuals[group]
        noise = (share**2) @ (residuals[group] - mean) ** 2
        bending += float(np.maximum(mean**2 - noise, 0).sum()) / len(groups)
    return float(np.sqrt(jackknife + bending + (STEP_ERROR * step_mm) ** 2))
