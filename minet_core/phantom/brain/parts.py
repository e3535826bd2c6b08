"""Parts of the head below and within the cortex: ventricles, deep grey nuclei, cerebellum, brain stem, orbits.

Centres and radii [mm] are drawn after a standard atlas; each part is an ellipse whose size follows z.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from minet_core.phantom.shapes import coverage, ellipse, section, segment, smooth_union
from minet_core.phantom.signal import Canvas

Plane = NDArray[np.float32]


def paint_deep_brain(
    canvas: Canvas, *, x: Plane, y: Plane, z_mm: float, size: float, edge_mm: float, texture: Plane
) -> None:
    """Paint thalamus, caudate, putamen, pallidum and the ventricles.

    Parameters
    ----------
    canvas
        Painted in place.
    x, y : (row, column) float32, mm
        Positions in the head's coordinates.
    z_mm
        Position of the slice, mm, upwards.
    size
        Relative size of the ventricles, about 1.
    edge_mm
        The pixel's size, mm.
    texture : (row, column) float32
        Fine texture of unit variance.
    """
    side = np.abs(x)
    for tissue, centre, radii, angle, middle_mm, half_mm in (
        ("deep_grey", (26.0, 3.0), (5.0, 16.0), 0.22, 3.0, 15.0),  # putamen
        ("pallidum", (19.5, 0.0), (4.0, 9.5), 0.30, 1.0, 10.0),
        ("deep_grey", (11.0, -15.0), (9.0, 14.5), 0.35, 7.0, 12.0),  # thalamus
        ("deep_grey", (14.5, 17.0), (5.5, 10.0), -0.25, 11.0, 16.0),  # head of the caudate
        ("deep_grey", (19.0, -4.0), (2.6, 20.0), 0.15, 24.0, 10.0),  # its body
    ):
        share = section(z_mm, centre_mm=middle_mm, half_length_mm=half_mm)
        if share > 0.15:
            figure = ellipse(
                side, y, centre=centre, radii=(radii[0] * share, radii[1] * share), angle_rad=angle
            )
            canvas.paint(tissue, coverage(figure, edge_mm=1.5 * edge_mm), texture=texture)
    _paint_ventricles(canvas, side=side, y=y, z_mm=z_mm, size=size, edge_mm=edge_mm, texture=texture)


def _paint_ventricles(
    canvas: Canvas, *, side: Plane, y: Plane, z_mm: float, size: float, edge_mm: float, texture: Plane
) -> None:
    distance: Plane | None = None
    for centre, radii, angle, middle_mm, half_mm in (
        ((8.5, 25.0), (4.5, 12.0), -0.30, 12.0, 17.0),  # frontal horn
        ((12.5, -4.0), (5.5, 32.0), 0.12, 25.0, 10.0),  # body
        ((25.0, -34.0), (6.0, 15.0), 0.25, 9.0, 15.0),  # atrium and occipital horn
        ((0.0, -8.0), (2.2, 13.0), 0.0, 2.0, 12.0),  # third ventricle
    ):
        share = section(z_mm, centre_mm=middle_mm, half_length_mm=half_mm)
        if share > 0.2:
            figure = ellipse(
                side, y, centre=centre, radii=(radii[0] * share * size, radii[1] * share), angle_rad=angle
            )
            distance = figure if distance is None else smooth_union(distance, figure, radius_mm=3.0)
    if distance is None:
        return
    fluid = coverage(distance, edge_mm=edge_mm)
    septum = coverage(side - np.float32(0.7), edge_mm=edge_mm)
    canvas.paint("csf", fluid * (1 - septum) if z_mm > 10 else fluid)
    if 2.0 < z_mm < 32.0:
        plexus = ellipse(side, y, centre=(20.0, -30.0), radii=(2.8, 8.0), angle_rad=0.5)
        canvas.paint(
            "choroid", fluid * coverage(plexus + texture * np.float32(0.5), edge_mm=edge_mm), texture=texture
        )


def paint_posterior_fossa(
    canvas: Canvas, *, x: Plane, y: Plane, z_mm: float, edge_mm: float, texture: Plane
) -> None:
    """Paint cerebellum with folia, brain stem, fourth ventricle and the cisterns around them.

    Parameters
    ----------
    canvas
        Painted in place.
    x, y : (row, column) float32, mm
        Positions in the head's coordinates.
    z_mm
        Position of the slice, mm, upwards; below -8.
    edge_mm
        The pixel's size, mm.
    texture : (row, column) float32
        Fine texture of unit variance.
    """
    low = -z_mm
    growth = min(1.0, math.sqrt(max(0.05, (low - 6.0) / 22.0)))
    side = np.abs(x)
    whole = smooth_union(
        ellipse(side, y, centre=(20.0 * growth, -50.0), radii=(28.0 * growth, 26.0 * growth)),
        ellipse(x, y, centre=(0.0, -52.0), radii=(14.0, 22.0 * growth)),
        radius_mm=6.0,
    )
    stem = ellipse(x, y, centre=(0.0, -18.0), radii=(15.0, 12.0))
    around = smooth_union(whole, stem, radius_mm=4.0) - np.float32(2.2)
    canvas.paint("csf", coverage(around, edge_mm=edge_mm))
    canvas.paint("grey_matter", coverage(whole, edge_mm=edge_mm), texture=texture)
    # Folia follow the surface: fluid, grey and white matter alternate about every 3 mm in its depth and along it.
    phase = (
        np.sin(
            whole * np.float32(2.4) + np.float32(1.6) * np.sin(side * np.float32(0.45) + y * np.float32(0.2))
        )
        + np.float32(0.25) * texture
    )
    canvas.paint("csf", coverage(whole, edge_mm=edge_mm) * np.clip(phase - np.float32(0.45), 0, 1))
    branch = coverage(np.float32(0.55) + phase, edge_mm=0.5) * coverage(whole + np.float32(5.0), edge_mm=3.0)
    canvas.paint("white_matter", branch, texture=texture)
    core = ellipse(side, y, centre=(18.0 * growth, -46.0), radii=(13.0 * growth, 11.0 * growth))
    canvas.paint("white_matter", coverage(core + np.float32(1.2) * phase, edge_mm=edge_mm), texture=texture)
    canvas.paint("white_matter", coverage(stem, edge_mm=edge_mm), texture=texture)
    for arm in (-1.0, 1.0):
        peduncle = segment(x, y, start=(9.0 * arm, -22.0), end=(17.0 * arm, -40.0)) - np.float32(4.5)
        canvas.paint("white_matter", coverage(peduncle, edge_mm=edge_mm), texture=texture)
    fourth = ellipse(x, y, centre=(0.0, -32.0), radii=(6.0, 3.2))
    canvas.paint("csf", coverage(fourth, edge_mm=edge_mm))
    basilar = ellipse(x, y, centre=(0.0, -4.0), radii=(1.7, 1.7))
    canvas.paint("vessel", coverage(basilar, edge_mm=edge_mm))


def paint_orbits_and_nose(
    canvas: Canvas, *, x: Plane, y: Plane, z_mm: float, depth: Plane, edge_mm: float, texture: Plane
) -> None:
    """Paint orbital fat, globes with lens, extraocular muscles, optic nerves, and the ethmoid cells.

    Parameters
    ----------
    canvas
        Painted in place.
    x, y : (row, column) float32, mm
        Positions in the head's coordinates.
    z_mm
        Position of the slice, mm, upwards; they lie below -6.
    depth : (row, column) float32, mm
        Below the skin.
    edge_mm
        The pixel's size, mm.
    texture : (row, column) float32
        Fine texture of unit variance.
    """
    share = section(z_mm, centre_mm=-26.0, half_length_mm=20.0)
    if share < 0.2:
        return
    side = np.abs(x)
    inside = coverage(np.float32(5.0) - depth, edge_mm=edge_mm)
    cone = ellipse(side, y, centre=(29.0, 54.0), radii=(16.0 * share, 26.0 * share), angle_rad=-0.35)
    canvas.paint("cortical_bone", inside * coverage(cone - np.float32(1.8), edge_mm=edge_mm))
    orbit = inside * coverage(cone, edge_mm=edge_mm)
    canvas.paint("fat", orbit, texture=texture)
    for start, end, radius in (((41.0, 62.0), (22.0, 34.0), 1.8), ((19.0, 60.0), (18.0, 34.0), 1.8)):
        muscle = segment(side, y, start=start, end=end) - np.float32(radius * share)
        canvas.paint("muscle", orbit * coverage(muscle, edge_mm=edge_mm), texture=texture)
    nerve = segment(side, y, start=(30.0, 60.0), end=(19.0, 34.0)) - np.float32(1.9)
    if share > 0.85:
        canvas.paint("optic_nerve", orbit * coverage(nerve, edge_mm=edge_mm), texture=texture)
    globe = ellipse(side, y, centre=(31.0, 68.0), radii=(12.2 * share, 12.6 * share))
    canvas.paint("fascia", inside * coverage(globe, edge_mm=edge_mm))
    canvas.paint("csf", inside * coverage(globe + np.float32(1.3), edge_mm=edge_mm))
    lens = ellipse(side, y, centre=(31.5, 76.5), radii=(4.6 * share, 2.2 * share))
    canvas.paint("fascia", inside * coverage(lens, edge_mm=edge_mm))
    cells = ellipse(x, y, centre=(0.0, 60.0), radii=(13.0, 27.0 * share))
    walls = np.abs(np.sin(x * np.float32(0.33) + np.float32(0.9) * np.sin(y * np.float32(0.21)))) + np.abs(
        np.sin(y * np.float32(0.26) + np.float32(1.1) * np.sin(x * np.float32(0.4)))
    )
    canvas.paint("air", inside * coverage(cells, edge_mm=edge_mm))
    mucosa = coverage(np.abs(walls - np.float32(1.0)) * np.float32(3.0) - np.float32(0.5), edge_mm=edge_mm)
    canvas.paint("synovium", inside * coverage(cells, edge_mm=edge_mm) * mucosa, texture=texture)
