"""The weights as one parcel: the bytes of a safetensors file, in one array.

Flower moves every array of a message as objects of its own, each with its own requests at each of its hops. The `quick`
model has 93 arrays; one parcel takes one object. docs/decisions/0003 has the times and what they do not separate.
Names, shapes and dtypes travel inside and are checked against the manifest; opening runs no code.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from safetensors import SafetensorError

from minet_core.runtime.errors import WeightsRefused
from minet_core.weights import Arrays, WeightManifest, check_weights

MAX_OVERHEAD_BYTES = 1_000_000
"""What names and shapes may add to the weights' own bytes; the `paper` model's take 60 kB."""


def packed(arrays: Arrays) -> NDArray[np.uint8]:
    """The parcel of `arrays`, (bytes,) uint8; the same arrays give the same bytes."""
    ordered = {
        name: np.ascontiguousarray(arrays[name]).reshape(arrays[name].shape) for name in sorted(arrays)
    }
    return np.frombuffer(safetensors.numpy.save(ordered), dtype=np.uint8)


def unpacked(parcel: NDArray[Any], *, manifest: WeightManifest) -> dict[str, NDArray[Any]]:
    """The arrays of a parcel, checked against `manifest`.

    Raises WeightsRefused (FM-M302) for what is no parcel, is larger than the manifest's weights need, or holds
    other weights than the manifest names. The message repeats nothing that the other end chose.
    """
    if parcel.dtype != np.uint8 or parcel.ndim != 1:
        raise WeightsRefused("a parcel of weights is not a row of bytes")
    if parcel.nbytes > manifest.n_bytes + MAX_OVERHEAD_BYTES:
        raise WeightsRefused(
            "a parcel of weights is too large",
            got=f"{parcel.nbytes} bytes",
            expected=f"{manifest.n_bytes} and names",
        )
    try:
        arrays = safetensors.numpy.load(parcel.tobytes())
    except (SafetensorError, KeyError, TypeError, ValueError, AttributeError) as failure:
        raise WeightsRefused("a parcel of weights cannot be opened") from failure
    check_weights(arrays, manifest)
    return arrays
