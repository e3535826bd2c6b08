"""One phantom patient: anatomy drawn, painted, and scanned in two contrasts."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from minet_core.errors import InvalidSetting
from minet_core.imaging.volume import Volume
from minet_core.phantom.acquisition import Acquisition, Contrast
from minet_core.phantom.brain.anatomy import draw_brain, paint_brain
from minet_core.phantom.knee.anatomy import draw_knee, paint_knee
from minet_core.phantom.scanner import acquire, distorted_positions, receive_field
from minet_core.phantom.signal import Canvas, SignalTable
from minet_core.phantom.texture import Grid, grid_of
from minet_core.phantom.tissues import TISSUES
from minet_core.phantom.variety import Variety, aged_brain, aged_knee, draw_variety
from minet_core.seeds import numpy_generator


@dataclass(frozen=True)
class PhantomScan:
    """What the scanner gives for one patient: two complex64 volumes on one grid, in the site's units."""

    target: Volume
    reference: Volume


def with_slices(acquisition: Acquisition, n_slices: int) -> Acquisition:
    """The same protocol with another number of slices about the same centre.

    Parameters
    ----------
    acquisition
        A site's protocol; left as it is.
    n_slices
        1 or more; their thickness stays.

    Returns
    -------
    Acquisition
        A copy.

    Raises
    ------
    InvalidSetting
        FM-C102, for less than one slice.
    """
    if n_slices < 1:
        raise InvalidSetting("the number of slices is out of range", got=n_slices, expected="1 or more")
    return dataclasses.replace(acquisition, n_slices=n_slices)


def make_patient(acquisition: Acquisition, *, seed: int, varied: bool = False) -> PhantomScan:
    """Draw a patient and scan it.

    The same acquisition and seed give the same bytes; another seed gives another patient. Anatomy, coil and noise
    have their own generators: a change of noise leaves the anatomy as it was.

    Parameters
    ----------
    acquisition
        The site's protocol, such as `SITES["sms"]`.
    seed
        Of the patient.
    varied
        Whether patients differ in more than the shape of their anatomy: see `minet_core.phantom.variety`.

    Returns
    -------
    PhantomScan
        Target and reference, (slice, row, column) complex64 in the site's units.

    Examples
    --------
    >>> import dataclasses
    >>> from minet_core.phantom.acquisition import SITES
    >>> from minet_core.phantom.patient import make_patient
    >>> coarse = dataclasses.replace(SITES["sms"], matrix=(64, 64), n_slices=2)
    >>> scan = make_patient(coarse, seed=1)
    >>> scan.reference.contrast, scan.target.contrast, scan.target.array.shape
    ('T1', 'T2', (2, 64, 64))
    """
    variety = draw_variety(acquisition, seed=seed) if varied else None
    if variety is not None:
        acquisition = variety.acquisition
    grid = grid_of(acquisition)
    signals = _painted(acquisition, grid, seed=seed, variety=variety)
    coil_generator = numpy_generator(seed, acquisition.name, "coil")
    sensitivity = receive_field(grid, coil_generator, acquisition=acquisition)
    volumes = []
    for contrast, signal in zip(acquisition.contrasts, signals, strict=True):
        image = acquire(
            signal,
            sensitivity=sensitivity,
            blur_px=acquisition.blur_px,
            noise=acquisition.noise,
            generator=numpy_generator(seed, acquisition.name, "noise", contrast.name),
            moved_px=_moved_px(acquisition, contrast, variety),
        )
        image *= np.float32(acquisition.units)
        volumes.append(Volume(image, acquisition.spacing_mm, affine_of(acquisition, grid), contrast.name))
    reference, target = volumes
    return PhantomScan(target=target, reference=reference)


def affine_of(acquisition: Acquisition, grid: Grid) -> NDArray[np.float64]:
    """From (slice, row, column) indices to RAS+ mm.

    Brain: axial, rows run from front to back, columns from the patient's right to left (radiological display), slices
    upwards. Knee: coronal, rows run down the leg, columns as above, slices forwards.

    Parameters
    ----------
    acquisition
        Anatomy and spacing.
    grid
        That of the acquisition.

    Returns
    -------
    (4, 4) float64
        mm.
    """
    slice_mm, row_mm, column_mm = acquisition.spacing_mm
    slice_axis, row_axis = (2, 1) if acquisition.anatomy == "brain" else (1, 2)
    affine = np.zeros((4, 4))
    affine[slice_axis, 0], affine[row_axis, 1], affine[0, 2] = slice_mm, -row_mm, -column_mm
    affine[slice_axis, 3] = float(grid.slices_mm[0])
    affine[row_axis, 3] = -float(grid.rows_mm[0])
    affine[0, 3] = -float(grid.columns_mm[0])
    affine[3, 3] = 1.0
    return affine


def _moved_px(
    acquisition: Acquisition, contrast: Contrast, variety: Variety | None
) -> tuple[float, float, float] | None:
    """The patient's movement in a contrast, in pixels; None where there was none."""
    movement = None if variety is None else variety.movements.get(contrast.name)
    if movement is None:
        return None
    _, row_mm, column_mm = acquisition.spacing_mm
    return movement.rows_mm / row_mm, movement.columns_mm / column_mm, movement.since


def _painted(
    acquisition: Acquisition, grid: Grid, *, seed: int, variety: Variety | None
) -> NDArray[np.float32]:
    """Noiseless signal of both contrasts, (contrast, slice, row, column) float32."""
    generator = numpy_generator(seed, acquisition.name, "anatomy")
    tissues = TISSUES if variety is None else variety.tissues
    table = SignalTable(acquisition.contrasts, fat_residual=acquisition.fat_residual, tissues=tissues)
    x, y = distorted_positions(grid, distortion=acquisition.distortion)
    signals = np.empty((table.n_contrasts, *grid.shape), np.float32)
    brain = draw_brain(grid, generator) if acquisition.anatomy == "brain" else None
    knee = draw_knee(grid, generator) if acquisition.anatomy == "knee" else None
    if variety is not None:
        own = numpy_generator(seed, acquisition.name, "ageing")
        brain = None if brain is None else aged_brain(brain, variety.ageing, own)
        knee = None if knee is None else aged_knee(knee, variety.ageing, own)
    for index, position in enumerate(grid.slices_mm):
        canvas = Canvas(table, acquisition.matrix)
        if brain is not None:
            paint_brain(canvas, brain, index, x=x, y=y, z_mm=float(position), edge_mm=grid.pixel_mm)
        if knee is not None:
            paint_knee(canvas, knee, index, x=x, y=y, z_mm=float(position), edge_mm=grid.pixel_mm)
        signals[:, index] = canvas.planes
    return signals
