"""Real numbers as the 16-bit whole numbers that a DICOM image stores, with one slope and intercept for a series.

value = slope * stored + intercept. The slope is the step: no value is off by more than half of it. Both are rounded
to what a decimal string of DICOM holds before anything is divided by them, so a reader finds just these numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from minet_core.errors import ScanInvalid

LARGEST = 65535


@dataclass(frozen=True)
class Stored:
    """values: as stored. slope: the step between neighbouring values."""

    values: NDArray[np.uint16]
    slope: float
    intercept: float


def stored_values(array: NDArray[np.float32]) -> Stored:
    """Whole numbers for an image.

    Parameters
    ----------
    array
        Of any shape.

    Returns
    -------
    Stored
        The intercept is 0 where no value is negative; the largest value is stored as 65535 or slightly less.

    Raises
    ------
    ScanInvalid
        FM-D202: NaN or infinite.
    """
    if not np.isfinite(array).all():
        raise ScanInvalid("an image cannot be stored", got="NaN or infinite values", expected="numbers")
    low, high = float(array.min()), float(array.max())
    intercept = float(f"{low * (1 + 1e-8):.8e}") if low < 0 else 0.0
    span = high - intercept
    slope = float(f"{span / LARGEST * (1 + 1e-8):.8e}") if span > 0 else 1.0
    exact = (array.astype(np.float64) - intercept) / slope
    return Stored(np.clip(np.rint(exact), 0, LARGEST).astype(np.uint16), slope, intercept)


def decimal(value: float) -> str:
    """A number as a decimal string of DICOM: at most 16 characters.

    Parameters
    ----------
    value
        Finite.

    Returns
    -------
    str
        With nine significant digits or more.
    """
    plain = repr(float(value)).removesuffix(".0")
    return (
        plain
        if len(plain) <= 16
        else next(text for digits in range(15, 7, -1) if len(text := f"{value:.{digits}g}") <= 16)
    )
