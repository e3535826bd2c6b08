"""Where a reference shows nothing though the target shows anatomy: a part of the frame without signal.

The field of view alone does not say it: a frame filled up with zeros, or with noise where no coil was near, lies on the
target's grid like any other. Looked at in blocks: a block of the target's anatomy is shown where the mean of the
reference is signal in it or in a block beside it, so noise is no signal, and dark tissue and a rim of air take nothing
away.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from minet_core.imaging.volume import Volume
from sites.quality.scan_quality import FOREGROUND_LEVEL, bright_percentile, foreground

BLOCK_MM = 10.0
MAX_UNSHOWN = 0.05
"""From which share of the anatomy on it is said. Nine phantom pairs of three sites (seeds 71, 72, 601) have 0.0000.
Where half of the frame has no signal, but zero or noise, at the least favourable of four angles, 0.30 to 0.37."""


def unshown_share(target: Volume, reference: Volume) -> float:
    """The share of the target's anatomy where the reference shows nothing.

    Parameters
    ----------
    target
        As it is trained on; the slices in question alone.
    reference
        On the target's grid.

    Returns
    -------
    float
        0 to 1: of the target's foreground, what lies in blocks of `BLOCK_MM` in the plane where the reference's mean is
        above `FOREGROUND_LEVEL` neither in the block nor in one beside it.
    """
    edges = tuple(max(1, round(BLOCK_MM / step)) for step in target.spacing_mm[1:])
    anatomy = _in_blocks(foreground(target.magnitude()).astype(np.float32), edges)
    magnitude = reference.magnitude()
    level = FOREGROUND_LEVEL * bright_percentile(magnitude, 99)
    shown = _in_blocks(magnitude, edges) > level * edges[0] * edges[1]
    total = float(anatomy.sum())
    return float(anatomy[~_with_neighbours(shown)].sum()) / total if total else math.nan


def unshown_remark(target: Volume, reference: Volume) -> str | None:
    """What is to be said of a reference that shows a part alone.

    Parameters
    ----------
    target, reference
        As for `unshown_share`.

    Returns
    -------
    str | None
        With the figure; None where nothing is to be said.
    """
    share = unshown_share(target, reference)
    return (
        f"reference: shows nothing in {share:.0%} of the target's anatomy" if share >= MAX_UNSHOWN else None
    )


def _in_blocks(values: NDArray[np.float32], edges: tuple[int, ...]) -> NDArray[np.float64]:
    """The sum over each block in the plane."""
    missing = [(0, -size % edge) for size, edge in zip(values.shape[1:], edges, strict=True)]
    padded = np.pad(values, [(0, 0), *missing])
    n_slices, rows, columns = padded.shape
    blocks = padded.reshape(n_slices, rows // edges[0], edges[0], columns // edges[1], edges[1])
    return np.asarray(blocks.sum(axis=4).sum(axis=2, dtype=np.float64))


def _with_neighbours(blocks: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The blocks, and the eight beside each in its slice."""
    wide = np.pad(blocks, ((0, 0), (1, 1), (1, 1)))
    rows, columns = blocks.shape[1:]
    parts = [
        wide[:, down : down + rows, across : across + columns] for down in range(3) for across in range(3)
    ]
    return np.asarray(np.logical_or.reduce(parts))
