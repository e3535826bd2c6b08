"""The folded cortex: sulci, a ribbon of grey matter of even thickness around them, white matter within.

Sulci are the zero lines of a band-passed random field. |field| / |gradient| is the distance to the nearest of them to
first order, so cerebrospinal fluid, grey matter and white matter are level sets of one distance: that of the pial
surface, be it the outside of the brain, a fissure or a sulcus.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from minet_core.phantom.shapes import coverage, ellipse, polyline, section
from minet_core.phantom.signal import Canvas
from minet_core.phantom.texture import Grid, SmoothField, smooth_field

Plane = NDArray[np.float32]

# Folds near the surface are drawn in (depth, arc): arc is measured on a circle of this radius.
_ARC_RADIUS_MM = 60.0
_ARC_STEPS = 1024
_DEPTH_STEPS = 100
# A fold is this much longer in depth than it is wide: sulci run straight in from the surface.
_FOLD_LENGTH = 4.0


@dataclass(frozen=True)
class Cortex:
    """One patient's folds."""

    radial_folds: SmoothField  # in (depth, arc): near the surface
    folds: SmoothField  # in (row, column): deeper
    small_folds: SmoothField
    depth: SmoothField
    width: SmoothField
    sulcus_mm: float  # half-width of a sulcus at depth
    ribbon_mm: float  # mean thickness of grey matter
    reach_mm: float  # mean depth that sulci reach


@dataclass(frozen=True)
class BrainSlice:
    """The points of one slice. x, y: (row, column) mm; z_mm: of the slice; edge_mm: width of a tissue's edge."""

    x: Plane
    y: Plane
    z_mm: float
    edge_mm: float


def draw_cortex(grid: Grid, generator: np.random.Generator) -> Cortex:
    """Draw the folds of one patient.

    Parameters
    ----------
    grid
        Where the fields are evaluated.
    generator
        Draws everything.

    Returns
    -------
    Cortex
        To be painted slice by slice.
    """
    arc_mm = np.linspace(0, 2 * math.pi * _ARC_RADIUS_MM, _ARC_STEPS, dtype=np.float32)
    depth_mm = np.arange(_DEPTH_STEPS, dtype=np.float32) / np.float32(_FOLD_LENGTH)

    def field(on: Grid, scale_mm: float, *, band_pass: bool = False) -> SmoothField:
        return smooth_field(on, generator, scale_mm=scale_mm, slice_scale_mm=14.0, band_pass=band_pass)

    return Cortex(
        radial_folds=field(
            Grid(grid.slices_mm, depth_mm, arc_mm), generator.uniform(6.0, 7.0), band_pass=True
        ),
        folds=field(grid, generator.uniform(6.6, 7.6), band_pass=True),
        small_folds=field(grid, 4.0, band_pass=True),
        depth=field(grid, 18.0),
        width=field(grid, 9.0),
        sulcus_mm=float(generator.uniform(0.30, 0.50)),
        ribbon_mm=float(generator.uniform(1.8, 2.2)),
        reach_mm=float(generator.uniform(17.0, 21.0)),
    )


def paint_cortex(
    canvas: Canvas,
    cortex: Cortex,
    index: int,
    place: BrainSlice,
    *,
    depth: Plane,
    texture: Plane,
) -> Plane:
    """Paint fluid, grey and white matter.

    Parameters
    ----------
    canvas
        Painted in place.
    cortex
        The patient's folds.
    index
        Of the slice on the patient's grid.
    place
        The points of the slice.
    depth : (row, column) float32, mm
        Below the brain's surface; painted is where it is positive.
    texture : (row, column) float32
        Fine texture of unit variance.

    Returns
    -------
    (row, column) float32, mm
        Distance to the pial surface: how deep in tissue each point lies.
    """
    z_mm, edge_mm = place.z_mm, place.edge_mm
    open_surface = np.minimum(depth, _fissures(place.x, place.y, z_mm))
    sulcus = _distance_to_sulci(cortex, index, place, depth=depth, open_surface=open_surface)
    # The nuclei and their capsules hold no sulci.
    core = ellipse(place.x, place.y, centre=(0.0, -4.0), radii=(31.0, 40.0))
    sulcus += np.float32(0.9 * section(z_mm, centre_mm=6.0, half_length_mm=36.0)) * np.maximum(-core, 0)
    wide = 1 + np.float32(0.7) * cortex.width.at(index) + np.exp(np.maximum(depth, 0) * np.float32(-1 / 3))
    fluid_width = np.float32(cortex.sulcus_mm) * np.maximum(wide, np.float32(0.1))
    pial: Plane = np.minimum(sulcus - fluid_width, open_surface)
    within = coverage(-depth, edge_mm=edge_mm)
    canvas.paint("csf", within)
    canvas.paint("grey_matter", within * coverage(-pial, edge_mm=edge_mm), texture=texture)
    ribbon = np.float32(cortex.ribbon_mm) * (1 + np.float32(0.10) * cortex.depth.at(index))
    canvas.paint("white_matter", within * coverage(ribbon - pial, edge_mm=1.3 * edge_mm), texture=texture)
    return pial


def _distance_to_sulci(
    cortex: Cortex, index: int, place: BrainSlice, *, depth: Plane, open_surface: Plane
) -> Plane:
    """Distance to the nearest sulcus, growing where the tissue lies deeper than sulci reach."""
    x, y = place.x, place.y
    turn = np.arctan2(x, y) * np.float32((_ARC_STEPS - 1) / (2 * math.pi)) + np.float32((_ARC_STEPS - 1) / 2)
    places = np.stack([np.clip(depth, 0, _DEPTH_STEPS - 1), turn])
    radial = ndimage.map_coordinates(
        cortex.radial_folds.at(index), places, order=1, mode="nearest", output=np.float32
    )
    near_surface = np.exp(np.maximum(depth, 0) ** 2 * np.float32(-1 / 15.0**2))
    folds = near_surface * radial + (1 - near_surface) * cortex.folds.at(index)
    down, across = np.gradient(folds, np.float32(place.edge_mm))
    distance = _zero_line_distance(folds, np.sqrt(down * down + across * across))
    small = _zero_line_distance(cortex.small_folds.at(index), cortex.small_folds.steepness_at(index))
    reach = np.float32(cortex.reach_mm) * (1 + np.float32(0.28) * cortex.depth.at(index))
    distance += np.float32(0.8) * np.maximum(open_surface - reach, 0)
    small += np.float32(0.9) + np.float32(0.8) * np.maximum(open_surface - np.float32(0.3) * reach, 0)
    nearest: Plane = np.minimum(distance, small)
    return nearest


def _zero_line_distance(field: Plane, steepness: Plane) -> Plane:
    """|field| / |gradient| [mm], kept finite on ridges."""
    distance: Plane = np.abs(field)
    distance /= steepness + np.float32(0.25) * steepness.mean()
    return distance


def _fissures(x: Plane, y: Plane, z_mm: float) -> Plane:
    """Distance to the interhemispheric and Sylvian fissures, mm; far away where neither is."""
    wobble = np.float32(0.9) * np.sin(y * np.float32(0.11))
    distance: Plane = np.abs(x + wobble) - np.float32(0.5)
    bridge = section(z_mm, centre_mm=4.0, half_length_mm=36.0)  # corpus callosum, ventricles, brain stem
    if bridge > 0:
        middle = ellipse(x, y, centre=(0.0, -5.0), radii=(45.0, 40.0 * bridge))
        distance = np.maximum(distance, -middle)
    if -14.0 < z_mm < 17.0:
        # The fissure opens to the side and runs in and forward, then along the insula.
        inner = 37.0 + 0.1 * abs(z_mm)
        insula = [(66.0, -4.0), (48.0, -2.0), (inner + 1.5, 17.0)]
        arm = [(48.0, -2.0), (inner, -20.0)]
        side = np.abs(x) + np.float32(1.4) * np.sin(y * np.float32(0.38))
        sylvian = np.minimum(polyline(side, y, points=insula), polyline(side, y, points=arm))
        distance = np.minimum(distance, sylvian - np.float32(0.6))
    return distance
