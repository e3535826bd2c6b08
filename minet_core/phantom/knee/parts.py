"""Parts of the knee: bone with trabeculae, the joint's layers, menisci, ligaments, patella and its tendons."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from minet_core.phantom.shapes import coverage, ellipse, polyline, section, segment
from minet_core.phantom.signal import Canvas

Plane = NDArray[np.float32]


@dataclass(frozen=True)
class Joint:
    """Thicknesses of one patient's joint, mm: cartilage, fluid film, effusion in the recesses, subcutaneous fat."""

    cartilage_mm: float
    gap_mm: float
    effusion_mm: float
    fat_mm: float


@dataclass(frozen=True)
class KneeSlice:
    """The points of one slice and what is drawn on them. x: to the side, h: up the leg, (row, column) mm; z_mm: of the
    slice; edge_mm: width of an edge between tissues; texture, fibres: of the tissues, standard normal.
    """

    x: Plane
    h: Plane
    z_mm: float
    edge_mm: float
    texture: Plane
    fibres: Plane


def paint_bone(canvas: Canvas, bone: Plane, *, h: Plane, edge_mm: float, texture: Plane, scar: Plane) -> None:
    """Paint cortical bone, marrow and trabeculae, and the line where the growth plate closed.

    Parameters
    ----------
    canvas
        Painted in place.
    bone : (row, column) float32, mm
        Signed distance of the bone, negative inside.
    h : (row, column) float32, mm
        Up the leg from the joint line.
    edge_mm
        The pixel's size, mm.
    texture : (row, column) float32
        Of the trabeculae, of unit variance.
    scar : (row, column) float32
        Waves of the growth plate's line, about unit variance.
    """
    cortex = np.float32(1.0) + np.float32(0.018) * np.maximum(
        np.minimum(np.abs(h), np.float32(70.0)) - np.float32(18.0), 0
    )
    canvas.paint("cortical_bone", coverage(bone, edge_mm=edge_mm))
    marrow = coverage(bone + cortex, edge_mm=edge_mm)
    canvas.paint("marrow", marrow, texture=texture)
    # Trabeculae are dense below the joint and thin out along the shaft.
    density = np.float32(0.15) + np.float32(0.55) * np.exp(-np.abs(h) * np.float32(1 / 24))
    grain = np.clip(np.float32(0.45) * texture + np.float32(0.1), 0, np.float32(0.9))
    canvas.paint("trabecula", marrow * density * grain)
    line = np.abs(np.abs(h - np.float32(5.0)) - np.float32(31.0) + np.float32(1.6) * scar) - np.float32(0.25)
    canvas.paint("trabecula", np.float32(0.8) * marrow * coverage(line, edge_mm=edge_mm))


def paint_joint(canvas: Canvas, joint: Joint, place: KneeSlice, *, femur: Plane, tibia: Plane) -> None:
    """Paint capsule, fluid, cartilage, menisci, the notch with its cruciate ligaments.

    Parameters
    ----------
    canvas
        Painted in place.
    joint
        Thicknesses of the patient's layers.
    place
        The points of the slice.
    femur, tibia : (row, column) float32, mm
        Signed distances, negative inside.
    """
    edge_mm, texture = place.edge_mm, place.texture
    if abs(place.z_mm + 4.0) > 30.0:
        return
    side = np.abs(place.x)
    between = np.maximum(np.maximum(femur, tibia) - np.float32(5.5), side - np.float32(40.0))
    canvas.paint("synovium", coverage(between, edge_mm=edge_mm), texture=texture)
    canvas.paint(
        "synovial_fluid",
        coverage(np.maximum(femur, tibia) - np.float32(2.0 + joint.effusion_mm), edge_mm=edge_mm)
        * coverage(side - np.float32(39.0), edge_mm=edge_mm),
    )
    if place.z_mm < 12.0:
        _paint_notch(canvas, place)
    surface = np.minimum(femur, tibia)
    near_joint = (
        coverage(np.abs(place.h - np.float32(3.0)) - np.float32(13.0), edge_mm=6.0)
        * coverage(side - np.float32(38.5), edge_mm=2.0)
        * coverage(np.float32(8.5) - side, edge_mm=5.0)
    )
    cartilage = coverage(surface - np.float32(joint.cartilage_mm), edge_mm=edge_mm) * near_joint
    canvas.paint("cartilage", cartilage, texture=texture)
    film = np.abs(femur - tibia) - np.float32(0.5 * joint.gap_mm)
    canvas.paint("synovial_fluid", coverage(film, edge_mm=edge_mm) * near_joint)
    _paint_menisci(canvas, place)


def _paint_menisci(canvas: Canvas, place: KneeSlice) -> None:
    """Wedges at the rim of each plateau; at the horns, front and back, they reach further in."""
    h, edge_mm = place.h, place.edge_mm
    side = np.abs(place.x)
    horn = min(1.0, max(0.0, (abs(place.z_mm + 2.0) - 14.0) / 14.0))
    tip, rim = 27.0 - 13.0 * horn, 40.0 - 3.0 * horn
    across = side - np.float32(tip)
    thickness = np.float32(3.6 / (rim - tip)) * across
    wedge = np.maximum(np.abs(h + np.float32(1.4)) - thickness, side - np.float32(rim))
    figure = coverage(np.maximum(wedge, -across), edge_mm=edge_mm)
    canvas.paint("meniscus", figure, texture=place.texture)
    tear = segment(side, h, start=(rim - 5.0, -1.0), end=(rim - 0.5, 0.2)) - np.float32(0.2)
    canvas.paint("synovial_fluid", np.float32(0.45) * figure * coverage(tear, edge_mm=edge_mm))


def _paint_notch(canvas: Canvas, place: KneeSlice) -> None:
    """Fat and synovium in the notch; the anterior cruciate ligament in front, the posterior one behind, vessels."""
    x, h, z_mm, edge_mm = place.x, place.h, place.z_mm, place.edge_mm
    texture, fibres = place.texture, place.fibres
    room = np.maximum(ellipse(x, h, centre=(0.0, 2.0), radii=(9.5, 30.0)), -h - np.float32(1.0))
    canvas.paint("fat", coverage(room, edge_mm=edge_mm), texture=texture)
    canvas.paint("synovium", coverage(room, edge_mm=edge_mm) * np.clip(texture * np.float32(0.4), 0, 1))
    lean = 0.35 * z_mm
    if z_mm > -18.0:
        front = segment(x, h, start=(-3.0, 1.0), end=(6.0, 17.0 - lean)) - np.float32(2.9)
        canvas.paint("synovial_fluid", coverage(front - np.float32(0.9), edge_mm=edge_mm))
        canvas.paint("ligament", coverage(front, edge_mm=edge_mm), texture=fibres)
    if z_mm < 4.0:
        back = segment(x, h, start=(-5.5, 15.0 + 0.4 * lean), end=(0.0, 2.0 + lean)) - np.float32(3.6)
        canvas.paint("synovial_fluid", coverage(back - np.float32(0.7), edge_mm=edge_mm))
        canvas.paint("ligament", coverage(back, edge_mm=edge_mm), texture=fibres)


def paint_side_ligaments(
    canvas: Canvas, *, x: Plane, h: Plane, z_mm: float, edge_mm: float, texture: Plane
) -> None:
    """Paint the medial and lateral collateral ligaments, the iliotibial band and the fluid beneath them.

    Parameters
    ----------
    canvas
        Painted in place.
    x, h : (row, column) float32, mm
        Positions in the knee's coordinates.
    z_mm
        Position of the slice, mm, forward.
    edge_mm
        The pixel's size, mm.
    texture : (row, column) float32
        Of fibres, of unit variance.
    """
    share = section(z_mm, centre_mm=0.0, half_length_mm=20.0)
    if share < 0.2:
        return
    medial = polyline(x, h, points=[(-42.0, 24.0), (-43.5, 2.0), (-40.0, -14.0), (-31.0, -42.0)])
    lateral = polyline(x, h, points=[(42.0, 22.0), (44.0, 0.0), (38.0, -18.0)])
    band = polyline(x, h, points=[(46.0, 70.0), (47.5, 12.0), (41.0, -12.0)])
    canvas.paint("synovial_fluid", np.float32(0.25) * coverage(medial - np.float32(2.2), edge_mm=edge_mm))
    for line, width in ((medial, 1.3 * share), (lateral, 1.2 * share), (band, 0.9)):
        canvas.paint("ligament", coverage(line - np.float32(width), edge_mm=edge_mm), texture=texture)


def paint_fat_pad(canvas: Canvas, *, x: Plane, h: Plane, z_mm: float, texture: Plane) -> None:
    """Paint Hoffa's fat pad with its septa and vessels, below the patella and before the tibia.

    Parameters
    ----------
    canvas
        Painted in place.
    x, h : (row, column) float32, mm
        Positions in the knee's coordinates.
    z_mm
        Position of the slice, mm, forward; above 8.
    texture : (row, column) float32
        Fine texture of unit variance.
    """
    size = min(1.0, (z_mm - 8.0) / 14.0)
    pad = ellipse(x, h, centre=(0.0, -6.0), radii=(30.0 * size, 20.0 * size)) + np.float32(1.0) * texture
    inside = coverage(pad, edge_mm=4.0)
    canvas.paint("fat", inside, texture=texture)
    canvas.paint(
        "fascia", inside * np.clip(np.float32(0.35) * texture - np.float32(0.15), 0, np.float32(0.7))
    )
    canvas.paint(
        "slow_blood", inside * np.clip(np.float32(-0.5) * texture - np.float32(0.9), 0, np.float32(0.8))
    )


def paint_patella_and_tendons(canvas: Canvas, joint: Joint, place: KneeSlice) -> None:
    """Paint what lies before the femur: patella with cartilage behind it, quadriceps and patellar tendons.

    Parameters
    ----------
    canvas
        Painted in place.
    joint
        Thicknesses of the patient's layers.
    place
        The points of the slice.
    """
    x, h, z_mm, edge_mm = place.x, place.h, place.z_mm, place.edge_mm
    texture, fibres = place.texture, place.fibres
    share = section(z_mm, centre_mm=34.0, half_length_mm=13.0)
    if share < 0.3:
        return
    side = np.abs(x)
    flare = np.float32(9.0) + np.float32(0.0040) * np.maximum(h - np.float32(30.0), 0) ** 2
    quadriceps = np.maximum(side - flare, np.float32(30.0) - h)
    strap = np.maximum(
        side - np.float32(9.0) - np.float32(0.03) * h, np.maximum(h - np.float32(20), -h - np.float32(42.0))
    )
    tendons = np.minimum(quadriceps, strap) + np.float32(0.8) * fibres
    if z_mm > 27.0:
        canvas.paint("ligament", coverage(tendons, edge_mm=3.0), texture=fibres)
    narrow = side * (1 + np.float32(0.012) * np.maximum(np.float32(34.0) - h, 0))
    bone = (
        ellipse(narrow, h, centre=(0.0, 29.0), radii=(22.0 * share, 21.0 * share))
        + np.float32(0.15) * texture
    )
    if z_mm < 30.0:
        canvas.paint(
            "synovial_fluid", coverage(bone - np.float32(0.6 * joint.effusion_mm + 2.0), edge_mm=edge_mm)
        )
        canvas.paint(
            "cartilage", coverage(bone - np.float32(joint.cartilage_mm), edge_mm=edge_mm), texture=texture
        )
    else:
        retinaculum = np.abs(bone - np.float32(1.2)) - np.float32(1.0)
        canvas.paint("ligament", coverage(retinaculum, edge_mm=edge_mm), texture=fibres)
    paint_bone(canvas, bone, h=h, edge_mm=edge_mm, texture=texture, scar=np.full_like(x, 99.0))
