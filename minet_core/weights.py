"""The weights that travel: what they must look like, and their mean over the sites.

Only parameters that learn travel. A manifest of name, shape and dtype is fixed at the start of a run, and both
ends check every set of weights against it before using a number of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from minet_core.runtime.errors import WeightsRefused

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class WeightManifest:
    """Name, shape and dtype of every array, sorted by name. A dtype is written as numpy does: "float32"."""

    entries: tuple[tuple[str, tuple[int, ...], str], ...]

    @classmethod
    def of(cls, arrays: Arrays) -> WeightManifest:
        return cls(tuple((name, arrays[name].shape, str(arrays[name].dtype)) for name in sorted(arrays)))

    @property
    def n_values(self) -> int:
        return sum(math.prod(shape) for _, shape, _ in self.entries)

    @property
    def n_bytes(self) -> int:
        return sum(math.prod(shape) * np.dtype(dtype).itemsize for _, shape, dtype in self.entries)

    def as_json(self) -> list[list[Any]]:
        return [[name, list(shape), dtype] for name, shape, dtype in self.entries]


def learnable(model: nn.Module) -> dict[str, NDArray[Any]]:
    """Copies of the parameters that learn, by name, on the CPU and in C order."""
    return {
        name: np.array(parameter.detach().cpu().numpy(), order="C", copy=True)
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }


def load_weights(model: nn.Module, arrays: Arrays) -> None:
    """Put `arrays` into the model's learnable parameters; all of them, or none and WeightsRefused (FM-M302)."""
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    expected = {name: (tuple(p.shape), str(p.dtype).removeprefix("torch.")) for name, p in parameters.items()}
    manifest = WeightManifest(tuple((name, *expected[name]) for name in sorted(expected)))
    check_weights(arrays, manifest)
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(torch.from_numpy(np.array(arrays[name], copy=True)))


def check_weights(arrays: Arrays, manifest: WeightManifest) -> None:
    """Refuse weights that differ from the manifest in anything, or hold a value that is not finite.

    Nothing is converted and nothing broadcast. Raises WeightsRefused (FM-M302).
    """
    expected = {name: (shape, dtype) for name, shape, dtype in manifest.entries}
    if not expected:
        raise WeightsRefused("a manifest names no weights", got="0 names", expected="at least one")
    missing, extra = sorted(expected.keys() - arrays.keys()), sorted(arrays.keys() - expected.keys())
    if missing or extra:
        raise WeightsRefused(
            "the names of the weights differ from the manifest",
            got=f"missing {missing[:3] or 'none'}, unknown {extra[:3] or 'none'}",
            expected=f"{len(expected)} names",
        )
    for name, (shape, dtype) in expected.items():
        _check_array(name, arrays[name], shape=shape, dtype=dtype)


def weighted_mean(replies: Iterable[tuple[str, float, Arrays]]) -> dict[str, NDArray[Any]]:
    """Mean of the sites' weights, sum_s n_s w_s / sum_s n_s (FedAvg, McMahan et al. 2017, Algorithm 1).

    replies: (site, weight, arrays), the weight being the site's number of training slices. The sum runs in
    float64 and in the order of the sites' names, so the result has the same bytes whatever the order of
    arrival; it is cast back to the arrays' dtype. Raises WeightsRefused (FM-M302) where there is no reply, a
    site twice, a weight that is not positive and finite, or arrays that differ in name, shape or dtype.
    """
    ordered = sorted(replies, key=lambda reply: reply[0])
    if not ordered:
        raise WeightsRefused("there are no weights to average", got="0 replies", expected="at least one")
    sites = [site for site, _, _ in ordered]
    if len(set(sites)) != len(sites):
        raise WeightsRefused("a site replied twice", got=sites, expected="one reply a site")
    manifest = WeightManifest.of(ordered[0][2])
    for site, weight, arrays in ordered:
        if not (math.isfinite(weight) and weight > 0):
            raise WeightsRefused(
                f"the reply of {site} has a wrong weight", got=weight, expected="a number above 0"
            )
        check_weights(arrays, manifest)
    total = math.fsum(weight for _, weight, _ in ordered)
    return {name: _mean(name, ordered, total=total) for name, _, _ in manifest.entries}


def _mean(name: str, ordered: list[tuple[str, float, Arrays]], *, total: float) -> NDArray[Any]:
    first = ordered[0][2][name]
    mean = np.zeros(first.shape, dtype=np.float64)
    for _, weight, arrays in ordered:
        mean += (weight / total) * arrays[name].astype(np.float64)
    return mean.astype(first.dtype)


def _check_array(name: str, array: NDArray[Any], *, shape: tuple[int, ...], dtype: str) -> None:
    if tuple(array.shape) != shape:
        raise WeightsRefused(f"{name} has the wrong shape", got=tuple(array.shape), expected=shape)
    if str(array.dtype) != dtype:
        raise WeightsRefused(f"{name} has the wrong number type", got=array.dtype, expected=dtype)
    if array.size == 0:
        raise WeightsRefused(f"{name} is empty", got=shape, expected="at least one value")
    if not np.isfinite(array).all():
        n_bad = int(np.size(array) - np.isfinite(array).sum())
        raise WeightsRefused(f"{name} has values that are not finite", got=n_bad, expected="none")
