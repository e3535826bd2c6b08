"""Weights in one parcel: exact, deterministic, and checked before use."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minet_core.models.minet import MINet
from minet_core.parcel import packed, unpacked
from minet_core.runtime.errors import WeightsRefused
from minet_core.weights import WeightManifest, learnable

WEIGHTS = learnable(MINet(scale=2, n_groups=1, n_blocks=1, n_features=4, reduction=2))
MANIFEST = WeightManifest.of(WEIGHTS)


def test_a_parcel_opens_to_the_same_bytes() -> None:
    opened = unpacked(packed(WEIGHTS), manifest=MANIFEST)
    assert WeightManifest.of(opened) == MANIFEST
    assert all(opened[name].tobytes() == WEIGHTS[name].tobytes() for name in WEIGHTS)


def test_the_order_of_the_arrays_does_not_show() -> None:
    reversed_ = dict(reversed(list(WEIGHTS.items())))
    assert packed(reversed_).tobytes() == packed(WEIGHTS).tobytes()


@pytest.mark.parametrize("cut", [0, 1, 7, 8, 100, -1])
def test_a_truncated_parcel_is_refused(cut: int) -> None:
    with pytest.raises(WeightsRefused, match="FM-M302"):
        unpacked(packed(WEIGHTS)[:cut], manifest=MANIFEST)


def test_an_oversized_parcel_is_refused_unopened() -> None:
    with pytest.raises(WeightsRefused, match="too large"):
        unpacked(np.zeros(100 * MANIFEST.n_bytes + 2_000_000, np.uint8), manifest=MANIFEST)


@pytest.mark.parametrize("parcel", [np.zeros(9, np.float32), np.zeros((3, 3), np.uint8)])
def test_what_is_not_a_row_of_bytes_is_refused(parcel: np.ndarray) -> None:
    with pytest.raises(WeightsRefused, match="row of bytes"):
        unpacked(parcel, manifest=MANIFEST)


@given(st.binary(max_size=400))
def test_no_bytes_get_past_the_manifest(content: bytes) -> None:
    with pytest.raises(WeightsRefused):
        unpacked(np.frombuffer(content, np.uint8), manifest=MANIFEST)


@given(st.integers(0, 1200), st.integers(0, 255))
def test_a_flipped_byte_never_raises_anything_but_a_refusal(place: int, value: int) -> None:
    parcel = packed(WEIGHTS).copy()
    parcel[place] = value
    try:
        opened = unpacked(parcel, manifest=MANIFEST)
    except WeightsRefused:
        return
    assert WeightManifest.of(opened) == MANIFEST
