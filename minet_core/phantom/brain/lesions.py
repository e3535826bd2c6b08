"""Lesions that show in one contrast and hardly in the other: copying the reference must not look right."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from minet_core.phantom.shapes import coverage, ellipse, section
from minet_core.phantom.signal import Canvas

Plane = NDArray[np.float32]


@dataclass(frozen=True)
class Lesion:
    """An ellipsoid of one tissue. centre_mm, radii_mm: along (x, y, through the slices)."""

    tissue: str
    centre_mm: tuple[float, float, float]
    radii_mm: tuple[float, float, float]
    angle_rad: float


def draw_lesions(
    generator: np.random.Generator,
    *,
    kinds: dict[str, tuple[int, int]],
    extent_mm: tuple[float, float, float],
    centre_mm: tuple[float, float, float],
) -> list[Lesion]:
    """Draw lesions of several kinds, uniformly in a box.

    Parameters
    ----------
    generator
        Draws their numbers, places and sizes.
    kinds
        By tissue, the smallest and the largest number of them.
    extent_mm : (x, y, through the slices), mm
        Half-widths of the box.
    centre_mm : (x, y, through the slices), mm
        Middle of the box.

    Returns
    -------
    list of Lesion
        Their first radius is 1.2 to 5 mm.
    """
    lesions = []
    for tissue, (fewest, most) in kinds.items():
        for _ in range(int(generator.integers(fewest, most + 1))):
            place = [
                float(generator.uniform(middle - half, middle + half))
                for middle, half in zip(centre_mm, extent_mm, strict=True)
            ]
            radius = float(np.exp(generator.uniform(math.log(1.2), math.log(5.0))))
            squeeze = float(generator.uniform(0.6, 1.0))
            lesions.append(
                Lesion(
                    tissue,
                    (place[0], place[1], place[2]),
                    (radius, radius * squeeze, max(3.5, 1.3 * radius)),
                    float(generator.uniform(0.0, math.pi)),
                )
            )
    return lesions


def paint_lesions(
    canvas: Canvas, lesions: list[Lesion], *, x: Plane, y: Plane, z_mm: float, edge_mm: float, within: Plane
) -> None:
    """Paint the lesions that meet a slice.

    Parameters
    ----------
    canvas
        Painted in place.
    lesions
        Of the patient.
    x, y : (row, column) float32, mm
        Positions in the anatomy's coordinates.
    z_mm
        Position of the slice, mm.
    edge_mm
        The pixel's size, mm.
    within : (row, column) float32
        Share of the host tissue in each pixel, 0 to 1; no lesion leaves it.
    """
    for lesion in lesions:
        share = section(z_mm, centre_mm=lesion.centre_mm[2], half_length_mm=lesion.radii_mm[2])
        if share < 0.3:
            continue
        figure = ellipse(
            x,
            y,
            centre=(lesion.centre_mm[0], lesion.centre_mm[1]),
            radii=(lesion.radii_mm[0] * share, lesion.radii_mm[1] * share),
            angle_rad=lesion.angle_rad,
        )
        canvas.paint(lesion.tissue, within * coverage(figure, edge_mm=1.5 * edge_mm))
