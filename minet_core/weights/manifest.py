"""The weights that travel: what they must look like, and their mean over the sites.

Only parameters that learn travel. A manifest of name, shape and dtype is fixed at the start of a run, and both
ends check every set of weights against it before using a number of it.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from minet_core.algorithms.weighted_mean import mean_over_sites, weight_by_site
from minet_core.errors import WeightsRefused
from minet_core.weights.array_check import check_array

if TYPE_CHECKING:
    from torch import nn

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class WeightManifest:
    """Name, shape and dtype of every array, sorted by name. A dtype is written as numpy does: "float32"."""

    entries: tuple[tuple[str, tuple[int, ...], str], ...]

    @classmethod
    def of(cls, arrays: Arrays) -> WeightManifest:
        """The manifest of some arrays.

        Parameters
        ----------
        arrays
            Each is read once.

        Returns
        -------
        WeightManifest
            Sorted by name.
        """
        return cls(tuple((name, *_shape_and_dtype(arrays[name])) for name in sorted(arrays)))

    @property
    def n_values(self) -> int:
        return sum(math.prod(shape) for _, shape, _ in self.entries)

    @property
    def n_bytes(self) -> int:
        return sum(math.prod(shape) * np.dtype(dtype).itemsize for _, shape, dtype in self.entries)

    def as_json(self) -> list[list[Any]]:
        """The manifest in plain lists.

        Returns
        -------
        list of [name, shape, dtype]
            Sorted by name.
        """
        return [[name, list(shape), dtype] for name, shape, dtype in self.entries]


def learnable(model: nn.Module) -> dict[str, NDArray[Any]]:
    """Copies of the parameters that learn.

    Parameters
    ----------
    model
        On any device.

    Returns
    -------
    dict of arrays
        By name, of the parameters' dtype, on the CPU and in C order.
    """
    return {
        name: np.array(parameter.detach().cpu().numpy(), order="C", copy=True)
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }


def load_weights(model: nn.Module, arrays: Arrays) -> None:
    """Put arrays into the model's learnable parameters: all of them, or none.

    Parameters
    ----------
    model
        Changed in place; it stays on its device.
    arrays
        One for each parameter that learns, of its shape and dtype.

    Raises
    ------
    WeightsRefused
        FM-M302, where they differ from the parameters in anything, or hold a value that is not finite.
    """
    import torch  # here alone: a manifest is names and numbers, and the settings of a federation name algorithms

    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    expected = {name: (tuple(p.shape), str(p.dtype).removeprefix("torch.")) for name, p in parameters.items()}
    manifest = WeightManifest(tuple((name, *expected[name]) for name in sorted(expected)))
    check_weights(arrays, manifest)
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(torch.from_numpy(np.array(arrays[name], copy=True)))


def check_weights(arrays: Arrays, manifest: WeightManifest) -> None:
    """Refuse weights that differ from the manifest in anything, or hold a value that is not finite.

    Nothing is converted and nothing broadcast. A lazy mapping is read tensor by tensor, each once.

    Parameters
    ----------
    arrays
        By name.
    manifest
        All that they must be.

    Raises
    ------
    WeightsRefused
        FM-M302, with what differs.
    """
    expected = {name: (shape, dtype) for name, shape, dtype in manifest.entries}
    if not expected:
        raise WeightsRefused("a manifest names no weights", got="0 names", expected="at least one")
    # Sets of names, for `in` on a lazy mapping may read the tensor.
    missing, extra = sorted(set(expected) - set(arrays)), sorted(set(arrays) - set(expected))
    if missing or extra:
        raise WeightsRefused(
            "the names of the weights differ from the manifest",
            got=f"missing {missing[:3] or 'none'}, unknown {extra[:3] or 'none'}",
            expected=f"{len(expected)} names",
        )
    for name, (shape, dtype) in expected.items():
        check_array(name, arrays[name], shape=shape, dtype=dtype)


def weighted_mean(replies: Iterable[tuple[str, float, Arrays]]) -> dict[str, NDArray[Any]]:
    """Mean of the sites' weights, sum_s n_s w_s / sum_s n_s.

    Parameters
    ----------
    replies : (site, weight, arrays)
        The weight is the site's number of training slices; `mean_over_sites` has how the mean is computed.

    Returns
    -------
    dict of arrays
        Of the sites' names, shapes and dtypes.

    Raises
    ------
    WeightsRefused
        FM-M302, where there is no reply, a site twice, a weight that is not positive and finite, or arrays that
        differ in name, shape or dtype.

    References
    ----------
    McMahan et al.: "Communication-Efficient Learning of Deep Networks from Decentralized Data", AISTATS 2017,
    Algorithm 1.
    """
    listed = list(replies)
    weight_of = weight_by_site((site, weight) for site, weight, _ in listed)
    arrays_of = {site: arrays for site, _, arrays in listed}
    manifest = WeightManifest.of(arrays_of[min(arrays_of)])
    for site in sorted(arrays_of):
        check_weights(arrays_of[site], manifest)
    return {
        name: mean_over_sites(name, arrays_of, weight_of=weight_of, shape=shape, dtype=dtype)
        for name, shape, dtype in manifest.entries
    }


@functools.lru_cache(maxsize=64)
def dtype_name(dtype: np.dtype[Any]) -> str:
    """A number type as numpy writes it, kept: numpy makes the name anew for every tensor.

    Parameters
    ----------
    dtype
        Of an array.

    Returns
    -------
    str
        "float32", or ">f4" where the bytes are in the other order.
    """
    return str(dtype)


def _shape_and_dtype(array: NDArray[Any]) -> tuple[tuple[int, ...], str]:
    return array.shape, dtype_name(array.dtype)
