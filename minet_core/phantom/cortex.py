"""The folded cortex: sulci, a ribbon of grey matter of even thickness around them, white matter within.

Sulci are the zero lines of a band-passed random field. |field| / |gradient| is the distance to the nearest of them to
first order, so cerebrospinal fluid, grey matter and white matter are level sets of one distance: that of the pial
surface, be it the outside of the brain, a fissure or a sulcus.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from minet_core.phantom.shapes import coverage, ellipse, polyline, section
from minet_core.phantom.signal import Canvas
from minet_core.phantom.texture import Grid, SmoothField, smooth_field

Plane = NDArray[np.float32]


@dataclass(frozen=True)
class Cortex:
    """One patient's folds."""

    folds: SmoothField
    small_folds: SmoothField
    depth: SmoothField
    width: SmoothField
    thickness: SmoothField
    sulcus_mm: float  # half-width of a sulcus at depth
    ribbon_mm: float  # mean thickness of grey matter
    reach_mm: float  # mean depth that sulci reach


def draw_cortex(grid: Grid, generator: np.random.Generator) -> Cortex:
    """Draw the folds of one patient."""

    def field(scale_mm: float, *, band_pass: bool = False) -> SmoothField:
        return smooth_field(grid, generator, scale_mm=scale_mm, slice_scale_mm=14.0, band_pass=band_pass)

    return Cortex(
        folds=field(generator.uniform(7.0, 8.2), band_pass=True),
        small_folds=field(4.2, band_pass=True),
        depth=field(18.0),
        width=field(12.0),
        thickness=field(14.0),
        sulcus_mm=float(generator.uniform(0.35, 0.65)),
        ribbon_mm=float(generator.uniform(2.6, 3.1)),
        reach_mm=float(generator.uniform(17.0, 22.0)),
    )


def paint_cortex(
    canvas: Canvas, cortex: Cortex, index: int, *, x: Plane, y: Plane, z_mm: float, depth: Plane, edge_mm: float,
    texture: Plane,
) -> Plane:
    """Paint fluid, grey and white matter where depth [mm below the brain's surface] is positive.

    Returns the distance to the pial surface, (row, column) mm: how deep in tissue each point lies.
    """
    open_surface = np.minimum(depth, _fissures(x, y, z_mm))
    sulcus = _distance_to_sulci(cortex, index, open_surface)
    wide = 1 + np.float32(0.45) * cortex.width.at(index) + np.exp(-np.maximum(depth, 0) / 3)
    fluid_width = np.float32(cortex.sulcus_mm) * np.maximum(wide, np.float32(0.15))
    pial = np.minimum(sulcus - fluid_width, open_surface)
    ribbon = np.float32(cortex.ribbon_mm) * (1 + np.float32(0.12) * cortex.thickness.at(index))
    within = coverage(-depth, edge_mm=edge_mm)
    canvas.paint("csf", within)
    canvas.paint("grey_matter", within * coverage(-pial, edge_mm=edge_mm), texture=texture)
    canvas.paint("white_matter", within * coverage(ribbon - pial, edge_mm=edge_mm), texture=texture)
    return pial


def _distance_to_sulci(cortex: Cortex, index: int, open_surface: Plane) -> Plane:
    """Distance to the nearest sulcus, growing where the tissue lies deeper than sulci reach."""
    distance = _zero_line_distance(cortex.folds, index)
    small = _zero_line_distance(cortex.small_folds, index) + np.float32(1.2)
    reach = np.float32(cortex.reach_mm) * (1 + np.float32(0.28) * cortex.depth.at(index))
    distance += np.float32(0.8) * np.maximum(open_surface - reach, 0)
    small += np.float32(0.8) * np.maximum(open_surface - np.float32(0.3) * reach, 0)
    return np.minimum(distance, small)


def _zero_line_distance(field: SmoothField, index: int) -> Plane:
    steepness = field.steepness_at(index)
    return np.abs(field.at(index)) / (steepness + np.float32(0.3) * steepness.mean())


def _fissures(x: Plane, y: Plane, z_mm: float) -> Plane:
    """Distance to the interhemispheric and Sylvian fissures, mm; far away where neither is."""
    wobble = np.float32(0.9) * np.sin(y * np.float32(0.11))
    distance = np.abs(x + wobble) - np.float32(0.5)
    bridge = section(z_mm, centre_mm=4.0, half_length_mm=36.0)  # corpus callosum, ventricles, brain stem
    if bridge > 0:
        middle = ellipse(x, y, centre=(0.0, -5.0), radii=(45.0, 40.0 * bridge))
        distance = np.maximum(distance, -middle)
    if -14.0 < z_mm < 26.0:
        # The fissure opens to the side and runs in and forward, then along the insula.
        inner = 37.0 + 0.1 * abs(z_mm)
        insula = [(66.0, -4.0), (48.0, -2.0), (inner + 1.5, 17.0)]
        arm = [(48.0, -2.0), (inner, -20.0)]
        side = np.abs(x)
        sylvian = np.minimum(polyline(side, y, points=insula), polyline(side, y, points=arm))
        distance = np.minimum(distance, sylvian - np.float32(0.9))
    return distance
