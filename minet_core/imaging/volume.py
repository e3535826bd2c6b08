"""A volume of one contrast, and the pair of them that a site trains on.

Axes are (slice, row, column) throughout the project.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from minet_core.errors import ScanInvalid

Image = NDArray[np.float32] | NDArray[np.complex64]


@dataclass(frozen=True)
class Volume:
    """One contrast of one examination.

    array: (slice, row, column), float32 magnitude, or complex64 where raw k-space exists.
    spacing_mm: distance between voxel centres along (slice, row, column), mm.
    affine: (4, 4) float64, from (slice, row, column) indices to RAS+ mm.
    contrast: "T1", "T2", "PD" or "FS-PD".
    """

    array: Image
    spacing_mm: tuple[float, float, float]
    affine: NDArray[np.float64]
    contrast: str

    def __post_init__(self) -> None:
        if self.array.ndim != 3:
            raise ScanInvalid(
                f"the {self.contrast} volume has the wrong number of axes",
                got=self.array.shape,
                expected="(slice, row, column)",
            )
        if self.array.dtype not in (np.float32, np.complex64):
            raise ScanInvalid(
                f"the {self.contrast} volume has the wrong number type",
                got=self.array.dtype,
                expected="float32 or complex64",
            )
        if self.affine.shape != (4, 4):
            raise ScanInvalid("an affine has the wrong shape", got=self.affine.shape, expected="(4, 4)")

    @property
    def n_slices(self) -> int:
        return int(self.array.shape[0])

    def magnitude(self) -> NDArray[np.float32]:
        """The magnitude image.

        Returns
        -------
        (slice, row, column) float32
            In the units of `array`; `array` itself where it is one already, so not to be written into.
        """
        if self.array.dtype == np.float32 and float(self.array.min(initial=0)) >= 0:
            return self.array.astype(np.float32, copy=False)
        return np.abs(self.array).astype(np.float32, copy=False)


@dataclass(frozen=True)
class Pair:
    """A target to be super-resolved and the reference that guides it, on one grid.

    target: T2-weighted or FS-PD. reference: T1-weighted or PD; the same shape and affine as the target.
    patient: the pseudonym under which the store keeps the pair; never the hospital's own identifier.
    """

    target: Volume
    reference: Volume
    patient: str

    def __post_init__(self) -> None:
        if self.target.array.shape != self.reference.array.shape:
            raise ScanInvalid(
                "target and reference are on different grids",
                got=f"{self.target.array.shape} and {self.reference.array.shape}",
                expected="one grid",
            )
