"""The knee in coronal slices: femur, tibia, fibula, patella, cartilage, menisci, ligaments, fluid, muscle and fat.

Coordinates in mm: x across (columns), h up the leg (against rows), z forward through the slices; the joint line is at
h = 0, the middle of the condyles at z = 0. `draw_knee` draws a patient, `paint_knee` paints one slice of it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from minet_core.phantom.brain.lesions import Lesion, draw_lesions, paint_lesions
from minet_core.phantom.knee.bones import femur_distance, fibula_distance, tibia_distance
from minet_core.phantom.knee.parts import (
    Joint,
    KneeSlice,
    paint_bone,
    paint_fat_pad,
    paint_joint,
    paint_patella_and_tendons,
    paint_side_ligaments,
)
from minet_core.phantom.shapes import coverage, section
from minet_core.phantom.signal import Canvas
from minet_core.phantom.texture import Grid, SmoothField, fine_field, smooth_field

Plane = NDArray[np.float32]
Array = NDArray[np.float32]


@dataclass(frozen=True)
class Knee:
    """One patient's knee."""

    size: float
    turn_rad: float
    shift_mm: tuple[float, float]
    lateral: float  # +1 or -1: on which side of the image the fibula is
    joint: Joint
    outline: SmoothField
    septa: SmoothField
    fascicles: SmoothField  # three times longer along the rows than across
    trabeculae: Array  # (S, H, W)
    fibres: Array  # (S, H, W), long along the rows
    lesions: list[Lesion]


def draw_knee(grid: Grid, generator: np.random.Generator) -> Knee:
    """Draw a patient: every number and field of the knee.

    Parameters
    ----------
    grid
        Where the fields are evaluated.
    generator
        Draws everything.

    Returns
    -------
    Knee
        To be painted slice by slice.
    """
    uniform = generator.uniform
    return Knee(
        size=float(uniform(0.92, 1.08)),
        turn_rad=float(uniform(-0.07, 0.07)),
        shift_mm=(float(uniform(-4.0, 4.0)), float(uniform(-6.0, 6.0))),
        lateral=float(generator.choice([-1.0, 1.0])),
        joint=Joint(
            cartilage_mm=float(uniform(1.7, 2.6)),
            gap_mm=float(uniform(0.5, 1.1)),
            effusion_mm=float(uniform(0.6, 3.0)),
            fat_mm=float(uniform(6.0, 14.0)),
        ),
        outline=smooth_field(grid, generator, scale_mm=24.0, slice_scale_mm=18.0),
        septa=smooth_field(grid, generator, scale_mm=3.4, slice_scale_mm=5.0, band_pass=True),
        fascicles=smooth_field(
            Grid(grid.slices_mm, grid.rows_mm / np.float32(3.0), grid.columns_mm),
            generator,
            scale_mm=5.5,
            slice_scale_mm=8.0,
        ),
        trabeculae=fine_field(grid, generator, width_px=0.75),
        fibres=fine_field(grid, generator, width_px=0.75, along_rows_px=4.0),
        lesions=draw_lesions(
            generator,
            kinds={"marrow_oedema": (4, 9), "fatty_focus": (2, 5)},
            extent_mm=(34.0, 34.0, 26.0),
            centre_mm=(0.0, 0.0, 3.0),
        ),
    )


def paint_knee(
    canvas: Canvas, knee: Knee, index: int, *, x: Plane, y: Plane, z_mm: float, edge_mm: float
) -> None:
    """Paint one slice of the knee.

    Parameters
    ----------
    canvas
        Painted in place.
    knee
        The patient.
    index
        Of the slice on the patient's grid.
    x, y : (row, column) float32, mm
        Positions, y up the leg, before the patient's own pose and size.
    z_mm
        Position of the slice, mm, forward.
    edge_mm
        The pixel's size, mm.
    """
    cosine, sine = np.float32(math.cos(knee.turn_rad)), np.float32(math.sin(knee.turn_rad))
    right, up = x - np.float32(knee.shift_mm[0]), y - np.float32(knee.shift_mm[1])
    scale = np.float32(knee.lateral / knee.size)
    x = (cosine * right + sine * up) * scale
    h = (cosine * up - sine * right) * np.float32(1 / knee.size)
    z_mm = z_mm / knee.size
    texture, fibres = knee.trabeculae[index], knee.fibres[index]
    contour = knee.outline.at(index)
    wobble = np.float32(0.7) * contour
    _paint_soft_tissue(canvas, knee, index, x=x, h=h, z_mm=z_mm, edge_mm=edge_mm)
    if z_mm > 10.0:
        paint_fat_pad(canvas, x=x, h=h, z_mm=z_mm, texture=texture)
    femur, tibia = femur_distance(x, h, z_mm) + wobble, tibia_distance(x, h, z_mm) + wobble
    fibula = fibula_distance(x, h, z_mm)
    paint_side_ligaments(canvas, x=x + wobble, h=h, z_mm=z_mm, edge_mm=edge_mm, texture=fibres)
    place = KneeSlice(x, h, z_mm, edge_mm, texture, fibres)
    paint_joint(canvas, knee.joint, place, femur=femur, tibia=tibia)
    for bone in (femur, tibia, fibula):
        paint_bone(canvas, bone, h=h, edge_mm=edge_mm, texture=texture, scar=knee.fascicles.at(index))
    inside = coverage(np.minimum(femur, tibia) + np.float32(2.0), edge_mm=2.0)
    paint_lesions(canvas, knee.lesions, x=x, y=h, z_mm=z_mm, edge_mm=edge_mm, within=inside)
    paint_patella_and_tendons(canvas, knee.joint, place)


def _paint_soft_tissue(
    canvas: Canvas, knee: Knee, index: int, *, x: Plane, h: Plane, z_mm: float, edge_mm: float
) -> None:
    """Paint skin, subcutaneous fat with septa and veins, and the muscles with fascia and fat between bundles."""
    texture, fibres, contour = knee.trabeculae[index], knee.fibres[index], knee.outline.at(index)
    sheath = knee.fascicles.at(index)
    girth = section(z_mm, centre_mm=-6.0, half_length_mm=70.0)
    taper = np.float32(1) + np.float32(0.0016) * h + np.float32(0.00001) * h * h
    depth = np.float32(61.0 * girth) * taper - np.abs(x) + np.float32(1.5) * contour
    below_skin = coverage(np.float32(1.6) - depth, edge_mm=edge_mm)
    canvas.paint("skin", coverage(-depth, edge_mm=edge_mm), texture=texture)
    canvas.paint("fat", below_skin, texture=texture)
    lines = np.abs(knee.septa.at(index)) / (knee.septa.steepness_at(index) + np.float32(0.15))
    strength = np.clip(np.float32(0.45) + np.float32(0.3) * sheath, 0, np.float32(0.8))
    canvas.paint("fascia", strength * below_skin * coverage(lines - np.float32(0.1), edge_mm=edge_mm))
    fat = np.float32(knee.joint.fat_mm) * (1 + np.float32(0.2) * contour)
    veins = np.clip(texture - np.float32(2.7), 0, 1) * coverage(depth - fat, edge_mm=edge_mm) * below_skin
    canvas.paint("slow_blood", veins)
    # Muscle: quadriceps above to both sides, calf below at the back; the joint's own level holds fat and capsule.
    bulge = np.float32(2.5) * contour
    rise = np.maximum(np.float32(32.0 + 0.3 * max(0.0, z_mm)) - h, 0)
    fall = np.maximum(h + np.float32(14.0), 0)
    above = fat + np.float32(2.0) + bulge + np.float32(0.03) * rise * rise
    below = fat + np.float32(4.0 + max(0.0, 0.8 * (z_mm + 4.0))) - bulge + np.float32(0.04) * fall * fall
    muscle = np.minimum(above, below) - depth
    canvas.paint("fascia", coverage(muscle - np.float32(0.6), edge_mm=edge_mm))
    bundle = coverage(muscle, edge_mm=edge_mm)
    canvas.paint("muscle", bundle, texture=fibres)
    canvas.paint("fat", bundle * np.clip(np.float32(0.7) * fibres - np.float32(0.6), 0, np.float32(0.85)))
    cleft = np.abs(sheath) / (knee.fascicles.steepness_at(index) + np.float32(0.05))
    width = np.float32(0.2) + np.float32(0.25) * contour
    canvas.paint("fat", bundle * coverage(cleft - width, edge_mm=edge_mm))
