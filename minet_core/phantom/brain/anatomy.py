"""The head in axial slices: scalp, skull, folded cortex, deep grey matter, ventricles, orbits, cerebellum, lesions.

Coordinates in mm: x to the patient's left on the image (columns), y to the front (against rows), z up (slices), zero
near the anterior commissure. Sizes are those of an adult head to about a tenth; `draw_brain` draws a patient,
`paint_brain` paints one slice of it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from minet_core.phantom.brain.cortex import BrainSlice, Cortex, draw_cortex, paint_cortex
from minet_core.phantom.brain.lesions import Lesion, draw_lesions, paint_lesions
from minet_core.phantom.brain.parts import paint_deep_brain, paint_orbits_and_nose, paint_posterior_fossa
from minet_core.phantom.shapes import coverage, ellipse
from minet_core.phantom.signal import Canvas
from minet_core.phantom.texture import Grid, SmoothField, fine_field, smooth_field

Plane = NDArray[np.float32]
Array = NDArray[np.float32]


@dataclass(frozen=True)
class Brain:
    """One patient's head."""

    half_width_mm: float
    half_length_mm: float
    turn_rad: float
    shift_mm: tuple[float, float]
    taper: float  # how much wider the back of the head is than its front
    scalp_mm: float
    skull_mm: float
    ventricles: float  # relative size
    outline: SmoothField
    layers: SmoothField
    bends: tuple[SmoothField, SmoothField]  # what makes inner structures uneven
    cortex: Cortex
    tissue_texture: Array  # (S, H, W)
    bone_texture: Array  # (S, H, W)
    strands: Array  # (S, 48, 512) in (depth, angle)
    lesions: list[Lesion]


def draw_brain(grid: Grid, generator: np.random.Generator) -> Brain:
    """Draw a patient: every number and field of the head.

    Parameters
    ----------
    grid
        Where the fields are evaluated.
    generator
        Draws everything.

    Returns
    -------
    Brain
        To be painted slice by slice.
    """
    uniform = generator.uniform
    return Brain(
        half_width_mm=float(uniform(72.0, 78.0)),
        half_length_mm=float(uniform(91.0, 98.0)),
        turn_rad=float(uniform(-0.10, 0.10)),
        shift_mm=(float(uniform(-4.0, 4.0)), float(uniform(-4.0, 4.0))),
        taper=float(uniform(0.05, 0.14)),
        scalp_mm=float(uniform(4.5, 7.5)),
        skull_mm=float(uniform(5.5, 8.0)),
        ventricles=float(uniform(0.8, 1.25)),
        outline=smooth_field(grid, generator, scale_mm=45.0, slice_scale_mm=40.0),
        layers=smooth_field(grid, generator, scale_mm=22.0, slice_scale_mm=25.0),
        bends=(
            smooth_field(grid, generator, scale_mm=16.0, slice_scale_mm=25.0),
            smooth_field(grid, generator, scale_mm=16.0, slice_scale_mm=25.0),
        ),
        cortex=draw_cortex(grid, generator),
        tissue_texture=fine_field(grid, generator, width_px=0.7),
        bone_texture=fine_field(grid, generator, width_px=0.8),
        strands=_draw_strands(grid.shape[0], generator),
        lesions=draw_lesions(
            generator,
            kinds={"demyelination": (6, 14), "enhancement": (3, 7)},
            extent_mm=(48.0, 62.0, 30.0),
            centre_mm=(0.0, -5.0, 22.0),
        ),
    )


def paint_brain(
    canvas: Canvas, brain: Brain, index: int, *, x: Plane, y: Plane, z_mm: float, edge_mm: float
) -> None:
    """Paint one slice of the head.

    Parameters
    ----------
    canvas
        Painted in place.
    brain
        The patient.
    index
        Of the slice on the patient's grid.
    x, y : (row, column) float32, mm
        Positions in the head's coordinates before the patient's own pose.
    z_mm
        Position of the slice, mm, upwards.
    edge_mm
        The pixel's size, mm.
    """
    cosine, sine = np.float32(math.cos(brain.turn_rad)), np.float32(math.sin(brain.turn_rad))
    right, up = x - np.float32(brain.shift_mm[0]), y - np.float32(brain.shift_mm[1])
    x, y = cosine * right + sine * up, cosine * up - sine * right
    size = math.sqrt(max(0.05, 1 - ((z_mm - 6) / (84.0 if z_mm > 6 else 140.0)) ** 2))
    wide = x * (1 + np.float32(brain.taper / 90) * y)
    skin_depth = -ellipse(
        wide, y, centre=(0.0, -4.0), radii=(brain.half_width_mm * size, brain.half_length_mm * size)
    ) + np.float32(1.5) * brain.outline.at(index)
    texture = brain.tissue_texture[index]
    inner = _paint_scalp_and_skull(canvas, brain, index, depth=skin_depth, x=x, z_mm=z_mm, edge_mm=edge_mm)
    brain_depth = inner - np.float32(2.0) - np.float32(0.7) * brain.layers.at(index)
    x = x + np.float32(1.3) * brain.bends[0].at(index)
    y = y + np.float32(1.3) * brain.bends[1].at(index)
    if z_mm < -4:
        brain_depth = _above_skull_base(
            canvas, x=x, y=y, z_mm=z_mm, depth=brain_depth, edge_mm=edge_mm, bone=texture
        )
    place = BrainSlice(x, y, z_mm, edge_mm)
    pial = paint_cortex(canvas, brain.cortex, index, place, depth=brain_depth, texture=texture)
    _paint_strands(canvas, brain, index, x=x, y=y, pial=pial)
    paint_deep_brain(canvas, x=x, y=y, z_mm=z_mm, size=brain.ventricles, edge_mm=edge_mm, texture=texture)
    if z_mm < -8:
        paint_posterior_fossa(canvas, x=x, y=y, z_mm=z_mm, edge_mm=edge_mm, texture=texture)
    if z_mm < -6:
        paint_orbits_and_nose(canvas, x=x, y=y, z_mm=z_mm, depth=skin_depth, edge_mm=edge_mm, texture=texture)
    paint_lesions(
        canvas, brain.lesions, x=x, y=y, z_mm=z_mm, edge_mm=edge_mm, within=coverage(3.0 - pial, edge_mm=2.0)
    )


def _above_skull_base(
    canvas: Canvas, *, x: Plane, y: Plane, z_mm: float, depth: Plane, edge_mm: float, bone: Plane
) -> Plane:
    """Paint the skull's base before the temporal poles and return the brain's depth behind it.

    The lower the slice, the further back the base reaches; the temporal poles stay in front of its middle.
    """
    poles = np.float32(20.0) * np.exp((np.abs(x) - np.float32(36.0)) ** 2 * np.float32(-1 / 17.0**2))
    wall = np.float32(50.0 + 1.7 * (z_mm + 4)) + poles * np.float32(min(1.0, -z_mm / 22)) - y
    before = coverage(-depth - np.float32(1.5), edge_mm=edge_mm) * coverage(
        wall + np.float32(1.8), edge_mm=edge_mm
    )
    canvas.paint("cortical_bone", before)
    cells = before * coverage(wall + np.float32(4.0), edge_mm=edge_mm)
    canvas.paint("diploe", cells, texture=bone)
    canvas.paint("trabecula", cells * np.clip(np.float32(0.8) * bone, 0, np.float32(0.9)))
    behind: Plane = np.minimum(depth, wall)
    return behind


def _paint_scalp_and_skull(
    canvas: Canvas, brain: Brain, index: int, *, depth: Plane, x: Plane, z_mm: float, edge_mm: float
) -> Plane:
    """Paint skin, fat with septa, temporal muscle, and the skull's tables and marrow; return depth below the skull."""
    bone = brain.bone_texture[index]
    layers = brain.layers.at(index)
    scalp = np.float32(brain.scalp_mm) * (1 + np.float32(0.18) * layers)
    low = max(0.0, min(1.0, (34.0 - z_mm) / 30.0))
    lateral = np.clip(np.abs(x) * np.float32(1 / 22) - np.float32(1.9), 0, 1)
    muscle = np.float32(9.0 * low) * lateral
    skull = (
        np.float32(brain.skull_mm) * (1 - np.float32(0.15) * layers) * (1 - np.float32(0.35 * low) * lateral)
    )

    def below(level: Plane | float) -> Plane:
        return coverage(level - depth, edge_mm=edge_mm)

    canvas.paint("skin", below(0.0), texture=bone)
    canvas.paint("fat", below(1.7), texture=bone)
    septa = np.clip(bone - np.float32(1.0), 0, 1) * below(1.9)
    canvas.paint("fascia", septa * np.float32(0.8))
    canvas.paint("fascia", below(scalp - np.float32(0.8)))
    canvas.paint("muscle", below(scalp), texture=bone)
    outer = scalp + muscle
    canvas.paint("cortical_bone", below(outer))
    marrow = np.minimum(
        coverage(outer + np.float32(1.6) - depth, edge_mm=edge_mm),
        coverage(depth - outer - skull + np.float32(1.4), edge_mm=edge_mm),
    )
    canvas.paint("diploe", marrow, texture=bone)
    canvas.paint("trabecula", marrow * np.clip(np.float32(0.9) * bone, 0, np.float32(0.9)))
    canvas.paint("dura", below(outer + skull - np.float32(0.4)))
    canvas.paint("csf", below(outer + skull + np.float32(0.5)))
    inner: Plane = depth - outer - skull
    return inner


def _draw_strands(n_slices: int, generator: np.random.Generator) -> Array:
    """Perivascular spaces and medullary veins: thin radial lines, as noise in (depth, angle), one map a slice."""
    noise = generator.standard_normal((n_slices, 48, 512), dtype=np.float32)
    noise = ndimage.gaussian_filter(noise, (0.0, 1.6, 0.8), mode="wrap")
    strands: Array = noise / noise.std()
    return strands


def _paint_strands(canvas: Canvas, brain: Brain, index: int, *, x: Plane, y: Plane, pial: Plane) -> None:
    """Paint perivascular spaces (fluid) and medullary veins in white matter, pointing at the ventricles."""
    side = np.abs(x) - np.float32(14.0)
    angle = np.arctan2(y, side) * np.float32(512 / (2 * math.pi)) + np.where(
        x > 0, np.float32(256), np.float32(0)
    )
    radius = np.sqrt(side * side + y * y) * np.float32(0.5)
    strand = ndimage.map_coordinates(
        brain.strands[index], np.stack([radius, angle]), order=1, mode="grid-wrap", output=np.float32
    )
    white = np.clip(pial * np.float32(0.5) - np.float32(1.5), 0, 1) * np.clip(
        side * np.float32(0.1) + 1, 0, 1
    )
    canvas.paint("csf", white * np.clip(np.float32(0.45) * strand - np.float32(0.55), 0, np.float32(0.55)))
    canvas.paint("vessel", white * np.clip(np.float32(-0.25) * strand - np.float32(0.4), 0, np.float32(0.35)))
