"""One slice of one patient, beside what each method makes of it.

A panel holds pixels: it is made from phantoms anywhere and from a patient's scan only at the site that owns it.
"""

# H row, W column of the high-resolution slice; h, w of the low-resolution one

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from minet_core.errors import ScanInvalid

FloatImage = NDArray[np.float32]
METHODS = ("sinc", "bicubic", "output")
GREY_PERCENTILE, ERROR_PERCENTILE = 99.8, 99.5
"""Upper ends of the grey and of the error scale: the brightest vessels and edges saturate, as in a viewer."""
TINY = float(np.finfo(np.float32).tiny)


def on_half_pixels(low_res: FloatImage, scale: int) -> FloatImage:
    """A low-resolution image as blocks of one value: what was measured and no more.

    Sample n lies at sample scale n of the high-resolution grid (`minet_core.imaging.degradation`), and its block has
    its middle there. That needs half pixels: repeating each pixel `scale` times would show the image moved by (scale
    - 1) / 2.

    Parameters
    ----------
    low_res : (h, w) float32
        In any unit.
    scale
        Between the two resolutions.

    Returns
    -------
    (2 scale h, 2 scale w) float32
        In the same unit.
    """
    blocks = np.repeat(np.repeat(low_res, 2 * scale, axis=0), 2 * scale, axis=1)
    early = scale - 1
    return np.pad(blocks[early:, early:], ((0, early), (0, early)), mode="edge")


@dataclass(frozen=True)
class Panel:
    """Magnitude images of one slice, float32.

    low_res: (h, w), what the method is given. reference, sinc, bicubic, target: (H, W) on one grid.
    output: (H, W), the global model's image. slice_number: where in its volume the slice is, from 0.
    Raises ScanInvalid (FM-D202) where the shapes disagree or a value is not finite.
    """

    low_res: FloatImage
    reference: FloatImage
    sinc: FloatImage
    bicubic: FloatImage
    output: FloatImage
    target: FloatImage
    slice_number: int

    def __post_init__(self) -> None:
        for name in ("low_res", "reference", *METHODS, "target"):
            image = getattr(self, name)
            if image.ndim != 2 or (name != "low_res" and image.shape != self.target.shape):
                raise ScanInvalid(
                    f"a panel's {name} image has the wrong shape", got=image.shape, expected=self.target.shape
                )
            if not np.isfinite(image).all():
                raise ScanInvalid(f"a panel's {name} image is not finite", expected="finite values")
        rows, columns = self.target.shape
        if rows % self.low_res.shape[0] or rows * self.low_res.shape[1] != columns * self.low_res.shape[0]:
            raise ScanInvalid(
                "a panel's low-resolution image does not divide its target",
                got=f"{self.low_res.shape} in {self.target.shape}",
            )

    @property
    def scale(self) -> int:
        return int(self.target.shape[0] // self.low_res.shape[0])

    def low_res_shown(self, window: tuple[slice, slice] | None = None) -> FloatImage:
        """The low-resolution image as `on_half_pixels`, or of it what lies in a window of the target's grid.

        Parameters
        ----------
        window : (rows, columns) of the target's grid, or None
            None for the whole image.

        Returns
        -------
        (2 H, 2 W) float32
            Or twice the window's rows and columns.
        """
        shown = on_half_pixels(self.low_res, self.scale)
        return shown if window is None else shown[tuple(slice(2 * w.start, 2 * w.stop) for w in window)]

    def error(self, method: str) -> FloatImage:
        """Absolute difference of a method's image from the target.

        Parameters
        ----------
        method
            A name of `METHODS`.

        Returns
        -------
        (H, W) float32
            As a fraction of the target's maximum, 0 or more.
        """
        difference = np.abs(getattr(self, method) - self.target)
        return np.asarray(difference / self.target_maximum, dtype=np.float32)

    @property
    def target_maximum(self) -> float:
        return max(float(self.target.max()), TINY)

    def error_ceiling(self) -> float:
        """The upper end of the one error scale that all methods share."""
        ceiling = max(float(np.percentile(self.error(method), ERROR_PERCENTILE)) for method in METHODS)
        return max(ceiling, TINY)

    def detail_window(self) -> tuple[slice, slice]:
        """The quarter-edge square in the middle of the slice in which the target has most detail.

        The choice looks at the target alone, never at a method's error, so that it favours none. The outer
        sixth on each side is left out: the rim of skin and fat would always win. Its edges fall on
        low-resolution pixels.

        Returns
        -------
        (rows, columns)
            Slices of the target's grid, of a quarter of its shorter edge each.
        """
        step = self.scale
        edge = max(step, min(self.target.shape) // 4 // step * step)
        down, right = np.gradient(self.target.astype(np.float64))
        energy = np.pad(np.hypot(down, right), ((1, 0), (1, 0))).cumsum(axis=0).cumsum(axis=1)
        sums = energy[edge:, edge:] - energy[:-edge, edge:] - energy[edge:, :-edge] + energy[:-edge, :-edge]
        margins = [length // 6 // step * step for length in self.target.shape]
        inner = sums[margins[0] : -margins[0] or None : step, margins[1] : -margins[1] or None : step]
        row, column = np.unravel_index(int(np.argmax(inner)), inner.shape)
        top, left = margins[0] + int(row) * step, margins[1] + int(column) * step
        return slice(top, top + edge), slice(left, left + edge)


def display_ceiling(image: FloatImage) -> float:
    """The value that is drawn white; 0 is drawn black.

    Parameters
    ----------
    image : float32
        Magnitude in any unit.

    Returns
    -------
    float
        In the same unit, above zero.
    """
    return max(float(np.percentile(image, GREY_PERCENTILE)), TINY)
