"""How the three sites of the paper scan: field of view, matrix, contrasts, and what their scanners add.

Repetition and echo times, matrices and fields of view of SMS and uMR are those of Section 3 of the paper. Readings:

- The times of uMR's second contrast are printed as T1's: read as T2's, since the first pair is already T1's.
- TR = 2001 ms without an inversion is not a short TR. At the printed values the "T1-weighted" spin echo is mild in
  T1: white matter is about 5% brighter than grey matter. (A scanner would reach such times with an inversion pulse,
  T1-FLAIR; the paper prints none, so the phantom applies none.)
- The field of view is printed without its axes: (rows, columns), that is (anterior-posterior, left-right).
- fastMRI's times lie within those of its knee protocol (Zbontar et al., arXiv:1811.08839: TR 2200 to 3000 ms,
  TE 27 to 34 ms, 0.5 mm in-plane, 3 mm slices, matrix 320 x 320). About 36 slices there, 20 here.

What the paper does not give (noise, bias, phase, blur, distortion, units) is chosen here, and differs between the
sites as it does between scanners.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Contrast:
    """One spin-echo contrast: repetition time TR [ms], echo time TE [ms], and whether fat is suppressed."""

    name: Literal["T1", "T2", "PD", "FS-PD"]
    repetition_time_ms: float
    echo_time_ms: float
    fat_suppressed: bool = False


@dataclass(frozen=True)
class Acquisition:
    """A site's protocol and the signature of its scanner.

    field_of_view_mm, matrix: (rows, columns). slice_centre_mm: position of the middle of the slab along its normal,
    in the anatomy's own coordinates.
    noise: standard deviation of each channel of the complex image, in units of the signal of water (PD = 1).
    bias: relative strength of the receive field. phase_cycles: turns of the coil phase across the field of view.
    blur_px: Gaussian point spread (standard deviation, px). distortion: relative radial displacement at 100 mm.
    fat_residual: share of the fat signal that suppression leaves. units: stored value of the signal of water.
    """

    name: str
    anatomy: Literal["brain", "knee"]
    field_of_view_mm: tuple[float, float]
    matrix: tuple[int, int]
    n_slices: int
    slice_thickness_mm: float
    slice_centre_mm: float
    reference: Contrast
    target: Contrast
    noise: float
    bias: float
    phase_cycles: float
    blur_px: float
    distortion: float
    units: float
    fat_residual: float = 0.06

    @property
    def contrasts(self) -> tuple[Contrast, Contrast]:
        """(reference, target)."""
        return (self.reference, self.target)

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance between voxel centres along (slice, row, column), mm."""
        rows, columns = self.matrix
        return (
            self.slice_thickness_mm,
            self.field_of_view_mm[0] / rows,
            self.field_of_view_mm[1] / columns,
        )


T1_WEIGHTED = Contrast("T1", repetition_time_ms=2001.0, echo_time_ms=10.72)
T2_WEIGHTED = Contrast("T2", repetition_time_ms=4511.0, echo_time_ms=112.86)

SMS = Acquisition(
    name="sms",
    anatomy="brain",
    field_of_view_mm=(230.0, 200.0),
    matrix=(320, 320),
    n_slices=20,
    slice_thickness_mm=5.0,
    slice_centre_mm=19.0,
    reference=T1_WEIGHTED,
    target=T2_WEIGHTED,
    noise=0.0032,
    bias=0.10,
    phase_cycles=0.6,
    blur_px=0.25,
    distortion=0.010,
    units=1500.0,
)

UMR = Acquisition(
    name="umr",
    anatomy="brain",
    field_of_view_mm=(220.0, 250.0),
    matrix=(320, 320),
    n_slices=19,
    slice_thickness_mm=4.0,
    slice_centre_mm=21.0,
    reference=T1_WEIGHTED,
    target=T2_WEIGHTED,
    noise=0.0042,
    bias=0.13,
    phase_cycles=1.1,
    blur_px=0.32,
    distortion=-0.015,
    units=4200.0,
)

FASTMRI = Acquisition(
    name="fastmri",
    anatomy="knee",
    field_of_view_mm=(160.0, 160.0),
    matrix=(320, 320),
    n_slices=20,
    slice_thickness_mm=3.0,
    slice_centre_mm=6.0,
    reference=Contrast("PD", repetition_time_ms=2750.0, echo_time_ms=27.0),
    target=Contrast("FS-PD", repetition_time_ms=2850.0, echo_time_ms=33.0, fat_suppressed=True),
    noise=0.0034,
    bias=0.16,
    phase_cycles=1.6,
    blur_px=0.22,
    distortion=0.006,
    units=4e-4,
)

SITES: dict[str, Acquisition] = {"sms": SMS, "umr": UMR, "fastmri": FASTMRI}
"""The acquisitions of the paper's sites, by the site's name."""
