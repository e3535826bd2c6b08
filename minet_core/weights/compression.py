"""Fewer bytes on the way up: a site's weights as their change from the global model, in 16 or 8 bits.

    d = w - w_global + r        what is to be sent; r: what the rounds before left unsent
    q = Q(d)                    what is sent
    r <- d - q                  error feedback
    w_server = w_global + q

Error feedback: Seide, Fu, Droppo, Li, Yu: "1-Bit Stochastic Gradient Descent", Interspeech 2014; Karimireddy,
Rebjock, Stich, Jaggi: "Error Feedback Fixes SignSGD and other Gradient Compression Schemes", ICML 2019,
Algorithm 2. What a round rounds away is sent in a later one, and nothing is lost but float32 rounding.

Departures: Q is applied to a site's weights after many steps and not to a single gradient; Q is a rounding to
nearest, deterministic, and no sign.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from minet_core.errors import WeightsRefused
from minet_core.weights.array_check import check_array
from minet_core.weights.manifest import Arrays, WeightManifest

SCALE = "scale/"
"""Prefix of the tensors that hold the step of an int8 tensor, (1,) float32."""

INT8_STEPS = 127
"""Steps on each side of zero; -128 is not used, so that the steps are symmetric."""

_BF16_EXPONENT = 0x7F80
_BF16_LARGEST = np.uint32(0x7F7F)


class Encode(Protocol):
    def __call__(
        self, weights: Arrays, *, reference: Arrays, residual: Arrays
    ) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]]]:
        """Encode weights for their way up.

        Parameters
        ----------
        weights
            float32, after the local training.
        reference
            The global model that came down, of the same names and shapes.
        residual
            What the call of the round before returned; no names at all in the first round.

        Returns
        -------
        tuple of two dicts of arrays
            What travels, and the new residual.

        Raises
        ------
        WeightsRefused
            FM-M302, for another dtype, names or shapes that differ, or a change that is not finite.
        """


class Decode(Protocol):
    def __call__(self, arrays: Arrays, *, reference: Arrays) -> Arrays:
        """Decode weights, w_global + q.

        Parameters
        ----------
        arrays
            What travelled.
        reference
            The global model that the site was sent.

        Returns
        -------
        Arrays
            A lazy mapping: each tensor is decoded when it is asked for.

        Raises
        ------
        WeightsRefused
            FM-M302, for wrong names at once, and when a tensor is asked for, for one of the wrong shape or dtype, a
            pattern or a step that is not a finite number, a step below zero, or weights that are not finite.
        """


@dataclass(frozen=True)
class Codec:
    """A form of the weights on their way up. wire_manifest: what travels for weights of a manifest."""

    name: str
    wire_manifest: Callable[[WeightManifest], WeightManifest]
    encode: Encode
    decode: Decode


@dataclass(frozen=True)
class _Quantiser:
    """One tensor to what travels for it and back.

    tensors: names, shapes and dtypes that travel for a tensor. quantise: from a change, float32 and finite, to
    those tensors. dequantise: their values, float32, not checked to be finite.
    """

    tensors: Callable[[str, tuple[int, ...]], dict[str, tuple[tuple[int, ...], str]]]
    quantise: Callable[[str, NDArray[np.float32]], dict[str, NDArray[Any]]]
    dequantise: Callable[[str, Arrays], NDArray[np.float32]]


def _bf16_tensors(name: str, shape: tuple[int, ...]) -> dict[str, tuple[tuple[int, ...], str]]:
    return {name: (shape, "uint16")}


def _to_bf16(name: str, change: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
    """The upper 16 bits of float32, rounded half to even; beyond the largest bfloat16, that one."""
    bits = np.ascontiguousarray(change).view(np.uint32).reshape(change.shape)
    sign, size = (bits >> 16) & np.uint32(0x8000), bits & np.uint32(0x7FFFFFFF)
    rounded = (size + np.uint32(0x7FFF) + ((size >> 16) & np.uint32(1))) >> 16
    return {name: (sign | np.minimum(rounded, _BF16_LARGEST)).astype(np.uint16)}


def _from_bf16(name: str, sent: Arrays) -> NDArray[np.float32]:
    patterns = sent[name]
    if ((patterns & _BF16_EXPONENT) == _BF16_EXPONENT).any():
        raise WeightsRefused(f"{name} has bfloat16 patterns that are no finite numbers")
    values: NDArray[np.float32] = (patterns.astype(np.uint32) << 16).view(np.float32)
    return values


def _int8_tensors(name: str, shape: tuple[int, ...]) -> dict[str, tuple[tuple[int, ...], str]]:
    return {name: (shape, "int8"), SCALE + name: ((1,), "float32")}


def _to_int8(name: str, change: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
    """Whole steps of max|d| / 127, rounded half to even; all zero where that step is zero in float32."""
    step = np.float32(np.abs(change).max() / np.float32(INT8_STEPS))
    steps = np.zeros(change.shape, dtype=np.float32) if step == 0 else np.rint(change / step)
    # A subnormal step is too coarse a quotient for its tensor's largest value to be 127 of it.
    whole = np.clip(steps, -INT8_STEPS, INT8_STEPS).astype(np.int8)
    return {name: whole, SCALE + name: np.array([step], dtype=np.float32)}


def _from_int8(name: str, sent: Arrays) -> NDArray[np.float32]:
    step = sent[SCALE + name][0]
    if step < 0:
        raise WeightsRefused(f"{name} has a step below zero", got=step, expected="0 or more")
    if (sent[name] < -INT8_STEPS).any():
        raise WeightsRefused(f"{name} has steps out of range", got=-128, expected=f"-{INT8_STEPS} or more")
    with np.errstate(over="ignore"):
        values: NDArray[np.float32] = sent[name].astype(np.float32) * step
    return values


class _Decoded(Mapping[str, NDArray[Any]]):
    """The decoded weights; holds no tensor."""

    def __init__(self, quantiser: _Quantiser, arrays: Arrays, reference: Arrays) -> None:
        self._quantiser = quantiser
        self._arrays = arrays
        self._reference = reference
        self._names = dict.fromkeys(sorted(reference))

    def __getitem__(self, name: str) -> NDArray[Any]:
        if name not in self._names:
            raise KeyError(name)
        before = self._reference[name]
        sent: dict[str, NDArray[Any]] = {}
        for key, (shape, dtype) in self._quantiser.tensors(name, before.shape).items():
            sent[key] = self._arrays[key]
            check_array(key, sent[key], shape=shape, dtype=dtype)
        change = self._quantiser.dequantise(name, sent)
        with np.errstate(over="ignore", invalid="ignore"):
            weights = np.asarray(before + change)
        check_array(name, weights, shape=before.shape, dtype="float32")
        return weights

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def _quantising(name: str, quantiser: _Quantiser) -> Codec:
    def wire_manifest(manifest: WeightManifest) -> WeightManifest:
        entries: list[tuple[str, tuple[int, ...], str]] = []
        for tensor, shape, dtype in manifest.entries:
            if dtype != "float32":
                raise WeightsRefused(f"{tensor} cannot be compressed", got=dtype, expected="float32")
            sent = quantiser.tensors(tensor, shape)
            entries += [(key, sent_shape, sent_dtype) for key, (sent_shape, sent_dtype) in sent.items()]
        if len({key for key, _, _ in entries}) != len(entries):
            raise WeightsRefused(f"the name of a tensor starts with {SCALE}, which {name} takes for itself")
        return WeightManifest(tuple(sorted(entries)))

    def encode(
        weights: Arrays, *, reference: Arrays, residual: Arrays
    ) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]]]:
        _check_same_names(weights, reference, what="the weights to compress")
        if len(residual):
            _check_same_names(residual, reference, what="the residual")
        sent: dict[str, NDArray[Any]] = {}
        unsent: dict[str, NDArray[Any]] = {}
        for tensor in sorted(reference):
            change = _change(tensor, weights[tensor], reference[tensor], residual)
            coded = quantiser.quantise(tensor, change)
            sent.update(coded)
            unsent[tensor] = np.asarray(change - quantiser.dequantise(tensor, coded))
        return sent, unsent

    def decode(arrays: Arrays, *, reference: Arrays) -> Arrays:
        expected = {key for tensor in reference for key in quantiser.tensors(tensor, ())}
        if set(arrays) != expected:
            raise WeightsRefused(
                f"the names of weights in {name} are not those of the model",
                got=f"a difference in {sorted(set(arrays) ^ expected)[:3]}",
                expected=f"{len(expected)} names",
            )
        return _Decoded(quantiser, arrays, reference)

    return Codec(name, wire_manifest, encode, decode)


def _change(
    name: str, weights: NDArray[Any], reference: NDArray[Any], residual: Arrays
) -> NDArray[np.float32]:
    """d, of the shape of the reference, float32 and finite."""
    check_array(name, reference, shape=reference.shape, dtype="float32")
    check_array(name, weights, shape=reference.shape, dtype="float32")
    with np.errstate(over="ignore", invalid="ignore"):
        change: NDArray[np.float32] = np.asarray(weights - reference)
        if len(residual):
            left = residual[name]
            check_array(f"the residual of {name}", left, shape=reference.shape, dtype="float32")
            change += left
    check_array(f"the change of {name}", change, shape=reference.shape, dtype="float32")
    return change


def _check_same_names(arrays: Arrays, reference: Arrays, *, what: str) -> None:
    differing = sorted(set(arrays) ^ set(reference))
    if differing:
        raise WeightsRefused(
            f"the names of {what} are not those of the global model",
            got=f"a difference in {differing[:3]}",
            expected=f"{len(reference)} names",
        )


def _as_they_are(
    weights: Arrays,
    *,
    reference: Arrays,  # noqa: ARG001 - the signature of `Encode`
    residual: Arrays,
) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]]]:
    if len(residual):
        raise WeightsRefused(
            "whole weights leave nothing unsent", got=f"a residual of {len(residual)} tensors"
        )
    return dict(weights), {}


def _taken_as_they_are(arrays: Arrays, *, reference: Arrays) -> Arrays:
    _check_same_names(arrays, reference, what="the weights")
    return arrays


CODECS: dict[str, Codec] = {
    "full": Codec("full", lambda manifest: manifest, _as_they_are, _taken_as_they_are),
    "bf16": _quantising("bf16", _Quantiser(_bf16_tensors, _to_bf16, _from_bf16)),
    "int8": _quantising("int8", _Quantiser(_int8_tensors, _to_int8, _from_int8)),
}
"""`full`: the weights themselves. `bf16`: half of the bytes, changes to 8 bits of precision. `int8`: a quarter,
changes in 255 steps between a tensor's largest change and its opposite."""
