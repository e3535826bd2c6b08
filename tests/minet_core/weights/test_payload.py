"""Weights in one parcel: exact, deterministic, and checked before use."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

from minet_core.errors import WeightsRefused
from minet_core.models.minet.model import MINet
from minet_core.weights.manifest import WeightManifest, learnable
from minet_core.weights.payload import pack, save_parcel, unpack
from tests.support.least_squares import CountingArrays

WEIGHTS = learnable(MINet(scale=2, n_groups=1, n_blocks=1, n_features=4, reduction=2))
MANIFEST = WeightManifest.of(WEIGHTS)


def test_a_parcel_opens_to_the_same_bytes() -> None:
    opened = unpack(pack(WEIGHTS), manifest=MANIFEST)
    assert WeightManifest.of(opened) == MANIFEST
    assert all(opened[name].tobytes() == WEIGHTS[name].tobytes() for name in WEIGHTS)


def test_the_order_of_the_arrays_does_not_show() -> None:
    reversed_ = dict(reversed(list(WEIGHTS.items())))
    assert pack(reversed_).tobytes() == pack(WEIGHTS).tobytes()


MIXED = {
    "b": np.arange(3, dtype=np.int8),
    "a": np.arange(3, dtype=np.uint16),
    "scale/b": np.array([0.5], dtype=np.float32),
    "é": np.array(1.5),
    "empty": np.zeros((2, 0), dtype=np.float32),
}


@pytest.mark.parametrize("arrays", [WEIGHTS, MIXED, {}], ids=["weights", "mixed", "none"])
def test_the_bytes_are_those_that_safetensors_writes(arrays: dict[str, np.ndarray], tmp_path: Path) -> None:
    ordered = {name: arrays[name] for name in sorted(arrays)}
    assert pack(arrays).tobytes() == safetensors.numpy.save(ordered)
    save_parcel(tmp_path / "parcel", arrays)
    assert (tmp_path / "parcel").read_bytes() == pack(arrays).tobytes()


def test_tensors_in_any_memory_layout_are_packed_in_c_order() -> None:
    array = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    expected = pack({"w": array}).tobytes()
    assert pack({"w": np.asfortranarray(array)}).tobytes() == expected
    assert pack({"w": array.astype(">f4")}).tobytes() == expected


def test_a_lazy_mapping_is_packed_with_one_tensor_in_memory_beside_the_parcel() -> None:
    arrays = {f"w{n}": np.full(2**18, n, dtype=np.float32) for n in range(16)}
    alive = [0, 0]
    lazy = CountingArrays(arrays, alive)
    tracemalloc.start()
    try:
        parcel = pack(lazy, manifest=WeightManifest.of(arrays))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert alive == [0, 1]
    assert lazy.n_reads == 16
    # The parcel of 16 MiB, one tensor of 1 MiB, and small things.
    assert peak < parcel.nbytes + 1.5 * 2**20
    assert parcel.tobytes() == pack(arrays).tobytes()


def test_arrays_that_cannot_travel_or_are_not_those_of_the_manifest_are_refused(tmp_path: Path) -> None:
    manifest = WeightManifest.of({"w": np.ones(2, np.float32)})
    for arrays in ({}, {"v": np.ones(2, np.float32)}, {"w": np.ones(3, np.float32)}, {"w": np.ones(2)}):
        with pytest.raises(WeightsRefused, match="manifest"):
            pack(arrays, manifest=manifest)
        with pytest.raises(WeightsRefused, match="manifest"):
            save_parcel(tmp_path / "parcel", arrays, manifest=manifest)
    for dtype in (object, np.complex64, "U3"):
        with pytest.raises(WeightsRefused, match="cannot travel"):
            pack({"w": np.ones(2).astype(dtype)})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("cut", [0, 1, 7, 8, 100, -1])
def test_a_truncated_parcel_is_refused(cut: int) -> None:
    with pytest.raises(WeightsRefused, match="FM-M302"):
        unpack(pack(WEIGHTS)[:cut], manifest=MANIFEST)


def test_an_oversized_parcel_is_refused_unopened() -> None:
    with pytest.raises(WeightsRefused, match="too large"):
        unpack(np.zeros(100 * MANIFEST.n_bytes + 2_000_000, np.uint8), manifest=MANIFEST)


@pytest.mark.parametrize("parcel", [np.zeros(9, np.float32), np.zeros((3, 3), np.uint8)])
def test_what_is_not_a_row_of_bytes_is_refused(parcel: np.ndarray) -> None:
    with pytest.raises(WeightsRefused, match="row of bytes"):
        unpack(parcel, manifest=MANIFEST)


@given(st.binary(max_size=400))
def test_no_bytes_get_past_the_manifest(content: bytes) -> None:
    with pytest.raises(WeightsRefused):
        unpack(np.frombuffer(content, np.uint8), manifest=MANIFEST)


@given(st.integers(0, 1200), st.integers(0, 255))
def test_a_flipped_byte_never_raises_anything_but_a_refusal(place: int, value: int) -> None:
    parcel = pack(WEIGHTS).copy()
    parcel[place] = value
    try:
        opened = unpack(parcel, manifest=MANIFEST)
    except WeightsRefused:
        return
    assert WeightManifest.of(opened) == MANIFEST
