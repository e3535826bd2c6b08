"""One tensor against what it should be: shape, dtype, and values that are numbers."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minet_core.errors import WeightsRefused


def check_array(name: str, array: NDArray[Any], *, shape: tuple[int, ...], dtype: str) -> None:
    """Refuse an array of another shape or dtype, one with no value, and one with a value that is not finite.

    Nothing is converted and nothing broadcast.

    Parameters
    ----------
    name
        Of the tensor, for the message.
    array
        What was received or computed.
    shape
        What it must have.
    dtype
        As numpy writes it, "float32".

    Raises
    ------
    WeightsRefused
        FM-M302, with what differs.
    """
    check_form(name, array, shape=shape, dtype=dtype)
    if not np.isfinite(array).all():
        n_bad = int(np.size(array) - np.isfinite(array).sum())
        raise WeightsRefused(f"{name} has values that are not finite", got=n_bad, expected="none")


def check_form(name: str, array: NDArray[Any], *, shape: tuple[int, ...], dtype: str) -> None:
    """As `check_array`, without a look at the values.

    Parameters
    ----------
    name
        Of the tensor, for the message.
    array
        What was received or computed.
    shape
        What it must have.
    dtype
        As numpy writes it, "float32".

    Raises
    ------
    WeightsRefused
        FM-M302, with what differs.
    """
    if tuple(array.shape) != shape:
        raise WeightsRefused(f"{name} has the wrong shape", got=tuple(array.shape), expected=shape)
    if _written(array.dtype) != dtype:
        raise WeightsRefused(f"{name} has the wrong number type", got=array.dtype, expected=dtype)
    if array.size == 0:
        raise WeightsRefused(f"{name} is empty", got=shape, expected="at least one value")


_written = cache(str)
"""A dtype as numpy writes it, which takes numpy as long as to add ten thousand values."""
