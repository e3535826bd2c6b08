"""An algorithm's own tensors before its first round."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minet_core.errors import WeightsRefused
from minet_core.weights.manifest import Arrays, WeightManifest


def filled_memory(weights: Arrays, value_of: Mapping[str, float]) -> dict[str, NDArray[Any]]:
    """An algorithm's own tensors, each filled with one value.

    Parameters
    ----------
    weights
        The model's shared tensors, by name.
    value_of
        By prefix, the value of its tensors.

    Returns
    -------
    dict of float32 arrays
        One for each weight and prefix, "PREFIX/NAME", of the weight's shape.

    Raises
    ------
    WeightsRefused
        FM-M302, for weights that are no floating numbers: an integer has no gradient.
    """
    entries = WeightManifest.of(weights).entries
    for name, _, dtype in entries:
        if np.dtype(dtype).kind != "f":
            raise WeightsRefused(f"{name} has no gradient to keep", got=dtype, expected="floating numbers")
    return {
        f"{prefix}/{name}": np.full(shape, value, dtype=np.float32)
        for prefix, value in value_of.items()
        for name, shape, _ in entries
    }
