"""Femur, tibia and fibula: signed distances on coronal planes.

x across, h up the leg from the joint line, z forward from the middle of the condyles, all mm; negative inside.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from minet_core.phantom.shapes import ellipse, section, smooth_union

Plane = NDArray[np.float32]

_FAR_MM = 99.0


def femur_distance(x: Plane, h: Plane, z_mm: float) -> Plane:
    """Signed distance of the femur: shaft, two condyles, and the notch between them, which opens to the back.

    Parameters
    ----------
    x, h : (row, column) float32, mm
        Positions in the knee's coordinates.
    z_mm
        Position of the slice, mm.

    Returns
    -------
    (row, column) float32, mm
        Negative inside; far away where the slice does not meet it.
    """
    femur: Plane = np.full_like(x, _FAR_MM)
    trochlea = section(z_mm, centre_mm=-2.0, half_length_mm=27.5)
    if trochlea > 0.1:
        flare = np.maximum(60 - h, 0)
        femur = np.abs(x) - np.float32(14.0 * trochlea) - np.float32(0.0085 * trochlea) * flare * flare
        femur = np.maximum(femur, np.float32(14.0 + 8.0 * (1 - trochlea)) - h) * np.float32(0.85)
        femur = -smooth_union(-femur, np.float32(34.0 + _shaft_length(z_mm)) - h, radius_mm=16.0)
    condyle = section(z_mm, centre_mm=-4.0, half_length_mm=30.0)
    if condyle > 0.15:
        rise = 3.0 + 19.0 * condyle
        for middle, width in ((-22.5, 19.0), (22.0, 20.0)):
            radii = (width * (0.35 + 0.65 * condyle), 19.0 * condyle)
            knob = ellipse(x, h, centre=(middle, rise), radii=radii)
            femur = smooth_union(femur, knob, radius_mm=5.0)
    if z_mm < 14.0:
        height = min(30.0, 12.0 + 0.7 * (14.0 - z_mm))
        femur = np.maximum(femur, -ellipse(x, h, centre=(0.0, 0.0), radii=(8.5, height)))
    return femur


def tibia_distance(x: Plane, h: Plane, z_mm: float) -> Plane:
    """Signed distance of the tibia: plateau with the two spines of its eminence, and the shaft below.

    Parameters
    ----------
    x, h : (row, column) float32, mm
        Positions in the knee's coordinates.
    z_mm
        Position of the slice, mm.

    Returns
    -------
    (row, column) float32, mm
        Negative inside; far away where the slice does not meet it.
    """
    plateau = section(z_mm, centre_mm=-4.0, half_length_mm=31.0)
    if plateau < 0.15:
        return np.full_like(x, _FAR_MM)
    flare = np.exp(np.minimum(h + np.float32(7.0), 0) * np.float32(1 / 16))
    half_width = np.float32(15.0 * plateau) + np.float32(25.0 * plateau) * flare
    side = np.abs(x)
    top: Plane = np.full_like(x, -2.8)
    if -14.0 < z_mm < 12.0:
        top += np.float32(5.5) * np.exp(-((side - np.float32(4.5)) ** 2) * np.float32(1 / 9))
    tibia = smooth_union(
        np.maximum((side - half_width) * np.float32(0.85), h - top + np.float32(2.0)),
        np.maximum((side - half_width + np.float32(3.0)) * np.float32(0.9), h - top),
        radius_mm=2.5,
    )
    return -smooth_union(-tibia, h + np.float32(30.0 + _shaft_length(z_mm)), radius_mm=16.0)


def fibula_distance(x: Plane, h: Plane, z_mm: float) -> Plane:
    """Signed distance of the fibula: head and shaft, to the side and behind.

    Parameters
    ----------
    x, h : (row, column) float32, mm
        Positions in the knee's coordinates.
    z_mm
        Position of the slice, mm.

    Returns
    -------
    (row, column) float32, mm
        Negative inside; far away where the slice does not meet it.
    """
    share = section(z_mm, centre_mm=-18.0, half_length_mm=14.0)
    if share < 0.2:
        return np.full_like(x, _FAR_MM)
    head = ellipse(x, h, centre=(34.0, -22.0), radii=(9.0 * share, 11.0 * share))
    stem = np.maximum(np.abs(x - np.float32(35.0)) - np.float32(5.0 * share), h + np.float32(24.0))
    return smooth_union(head, stem, radius_mm=4.0)


def _shaft_length(z_mm: float) -> float:
    """How far a shaft reaches beyond its flared end, mm: shafts are round, before and behind them is none."""
    return 110.0 * section(z_mm, centre_mm=-2.0, half_length_mm=16.0)
