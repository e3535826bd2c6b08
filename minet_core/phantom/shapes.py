"""Signed distances of plane figures, and how much of a pixel lies inside.

Distances are in mm, negative inside. They are exact on the boundary and to first order near it, which is where they
are used: a figure is drawn with a linear edge as wide as a pixel, that is, with its share of each pixel.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float32]


def coverage(distance: Plane, *, edge_mm: float) -> Plane:
    """Share of each pixel inside a figure.

    Parameters
    ----------
    distance : (row, column) float32, mm
        Signed, negative inside.
    edge_mm
        The pixel's size, mm.

    Returns
    -------
    (row, column) float32
        0 to 1.
    """
    share: Plane = np.clip(np.float32(0.5) - distance * np.float32(1 / edge_mm), np.float32(0), np.float32(1))
    return share


def ellipse(
    x: Plane, y: Plane, *, centre: tuple[float, float], radii: tuple[float, float], angle_rad: float = 0.0
) -> Plane:
    """Signed distance of an ellipse.

    Parameters
    ----------
    x, y : (row, column) float32, mm
        Positions.
    centre : (x, y), mm
        Of the ellipse.
    radii : mm
        Along its own axes.
    angle_rad
        From x to the first of its axes, radians.

    Returns
    -------
    (row, column) float32, mm
        Negative inside.
    """
    cosine, sine = np.float32(math.cos(angle_rad)), np.float32(math.sin(angle_rad))
    right, up = x - np.float32(centre[0]), y - np.float32(centre[1])
    u = (cosine * right + sine * up) * np.float32(1 / radii[0])
    v = (cosine * up - sine * right) * np.float32(1 / radii[1])
    rho = np.sqrt(u * u + v * v)
    u *= np.float32(1 / radii[0])
    v *= np.float32(1 / radii[1])
    slope = np.sqrt(u * u + v * v)
    small = np.float32(1e-4)
    distance: Plane = np.subtract(rho, np.float32(1))
    distance *= rho + small
    distance /= slope + small * np.float32(1 / min(radii))
    return distance


def segment(x: Plane, y: Plane, *, start: tuple[float, float], end: tuple[float, float]) -> Plane:
    """Distance to a straight line between two points.

    Parameters
    ----------
    x, y : (row, column) float32, mm
        Positions.
    start, end : (x, y), mm
        Two different points.

    Returns
    -------
    (row, column) float32, mm
        Never negative.
    """
    along_x, along_y = end[0] - start[0], end[1] - start[1]
    length_squared = along_x**2 + along_y**2
    right, up = x - np.float32(start[0]), y - np.float32(start[1])
    position = (right * np.float32(along_x) + up * np.float32(along_y)) * np.float32(1 / length_squared)
    np.clip(position, np.float32(0), np.float32(1), out=position)
    right -= position * np.float32(along_x)
    up -= position * np.float32(along_y)
    distance: Plane = np.sqrt(right * right + up * up)
    return distance


def polyline(x: Plane, y: Plane, *, points: list[tuple[float, float]]) -> Plane:
    """Distance to a chain of straight lines.

    Parameters
    ----------
    x, y : (row, column) float32, mm
        Positions.
    points : list of (x, y), mm
        At least two.

    Returns
    -------
    (row, column) float32, mm
        Never negative.
    """
    distance = segment(x, y, start=points[0], end=points[1])
    for start, end in itertools.pairwise(points[1:]):
        distance = np.minimum(distance, segment(x, y, start=start, end=end))
    return distance


def smooth_union(first: Plane, second: Plane, *, radius_mm: float) -> Plane:
    """Union of two figures with a fillet where they meet.

    Parameters
    ----------
    first, second : (row, column) float32, mm
        Signed distances.
    radius_mm
        Of the fillet, about, mm.

    Returns
    -------
    (row, column) float32, mm
        Signed distance.
    """
    blend = np.maximum(np.float32(radius_mm) - np.abs(first - second), np.float32(0))
    union: Plane = np.minimum(first, second) - blend * blend * np.float32(0.25 / radius_mm)
    return union


def section(position_mm: float, *, centre_mm: float, half_length_mm: float) -> float:
    """Relative size of an ellipsoid's cross-section at a position along its axis.

    Parameters
    ----------
    position_mm
        Where the section is, mm.
    centre_mm, half_length_mm
        Of the ellipsoid along the axis, mm.

    Returns
    -------
    float
        0, outside of it, to 1.
    """
    return math.sqrt(max(0.0, 1.0 - ((position_mm - centre_mm) / half_length_mm) ** 2))
