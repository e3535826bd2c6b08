"""The forms of a site's weights on their way up: exact values, error feedback, and hostile input."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from minet_core.errors import WeightsRefused
from minet_core.models.minet.model import MINet
from minet_core.weights.compression import CODECS, INT8_STEPS
from minet_core.weights.manifest import WeightManifest, check_weights, learnable
from minet_core.weights.payload import pack, unpack
from tests.support.least_squares import CountingArrays

Arrays = dict[str, np.ndarray[Any, Any]]

REFERENCE: Arrays = {
    "body.weight": np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4),
    "scalar": np.array(0.5, dtype=np.float32),
}
QUANTISED = ["bf16", "int8"]


def moved(seed: int, size: float = 1e-2) -> Arrays:
    generator = np.random.default_rng(seed)
    return {
        name: (array + size * generator.normal(size=array.shape)).astype(np.float32)
        for name, array in REFERENCE.items()
    }


def change_of(arrays: Arrays) -> Arrays:
    return {name: arrays[name].astype(np.float64) - REFERENCE[name] for name in REFERENCE}


@pytest.mark.parametrize("name", CODECS)
def test_what_travels_is_what_the_manifest_says_and_comes_back_with_shape_and_dtype(name: str) -> None:
    codec, weights = CODECS[name], moved(1)
    manifest = WeightManifest.of(REFERENCE)
    sent, _ = codec.encode(weights, reference=REFERENCE, residual={})
    check_weights(sent, codec.wire_manifest(manifest))
    opened = unpack(pack(sent), manifest=codec.wire_manifest(manifest))
    check_weights(codec.decode(opened, reference=REFERENCE), manifest)
    assert codec.name == name


def test_the_manifests_of_what_travels() -> None:
    manifest = WeightManifest((("b", (2, 3), "float32"), ("c", (), "float32")))
    assert CODECS["full"].wire_manifest(manifest) == manifest
    assert CODECS["bf16"].wire_manifest(manifest).entries == (("b", (2, 3), "uint16"), ("c", (), "uint16"))
    assert CODECS["int8"].wire_manifest(manifest).entries == (
        ("b", (2, 3), "int8"),
        ("c", (), "int8"),
        ("scale/b", (1,), "float32"),
        ("scale/c", (1,), "float32"),
    )


def test_a_model_takes_half_and_a_quarter_of_its_bytes() -> None:
    whole = WeightManifest.of(learnable(MINet(scale=2, n_groups=1, n_blocks=1, n_features=8, reduction=2)))
    assert CODECS["bf16"].wire_manifest(whole).n_bytes == whole.n_bytes // 2
    int8 = CODECS["int8"].wire_manifest(whole).n_bytes
    assert int8 == whole.n_bytes // 4 + 4 * len(whole.entries)


def test_full_is_the_identity() -> None:
    weights = moved(1)
    sent, residual = CODECS["full"].encode(weights, reference=REFERENCE, residual={})
    decoded = CODECS["full"].decode(sent, reference=REFERENCE)
    assert residual == {}
    assert all(decoded[name] is weights[name] for name in weights)
    with pytest.raises(WeightsRefused, match="nothing unsent"):
        CODECS["full"].encode(weights, reference=REFERENCE, residual=weights)


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=20))
def test_bf16_is_the_rounding_of_torch_but_never_to_infinity(values: list[float]) -> None:
    change = np.array(values, dtype=np.float32)
    sent, _ = CODECS["bf16"].encode({"w": change}, reference={"w": np.zeros_like(change)}, residual={})
    expected = torch.from_numpy(change).to(torch.bfloat16)
    largest = torch.finfo(torch.bfloat16).max
    expected = expected.clamp(-largest, largest)
    assert sent["w"].tobytes() == expected.view(torch.int16).numpy().tobytes()


def test_bf16_goes_to_the_even_pattern_from_half_way() -> None:
    """Between 1 and its neighbour 1 + 2^-7, and between that and 1 + 2^-6."""
    change = np.array([1 + 2**-8, 1 + 3 * 2**-8, -1 - 2**-8], dtype=np.float32)
    sent, _ = CODECS["bf16"].encode({"w": change}, reference={"w": np.zeros(3, "f4")}, residual={})
    assert sent["w"].tolist() == [0x3F80, 0x3F82, 0xBF80]


def test_int8_of_changes_near_the_smallest_number_is_clipped_and_not_wrapped() -> None:
    """190 units of 2^-149 in steps of 190 / 127, which is rounded to one unit."""
    change = np.array([190, -190, 1], dtype=np.float32) * np.float32(2**-149)
    sent, _ = CODECS["int8"].encode({"w": change}, reference={"w": np.zeros(3, "f4")}, residual={})
    assert sent["w"].tolist() == [127, -127, 1]


def test_int8_steps_in_closed_form() -> None:
    """The largest change is 127 steps; halves go to the even step; the sign is kept."""
    change = np.array([127, -127, 0.5, 1.5, -2.5, 0.49, 0], dtype=np.float32) * np.float32(2**-10)
    sent, residual = CODECS["int8"].encode({"w": change}, reference={"w": np.zeros(7, "f4")}, residual={})
    assert sent["scale/w"].tolist() == [2**-10]
    assert sent["w"].tolist() == [127, -127, 0, 2, -2, 0, 0]
    np.testing.assert_array_equal(residual["w"], change - sent["w"].astype("f4") * np.float32(2**-10))


@pytest.mark.parametrize("size", [0.0, 1e-45, 3e-43, 1e-39, 1e-30, 1e30, 3e38])
@pytest.mark.parametrize("name", QUANTISED)
def test_changes_of_any_size_are_sent_without_a_warning_and_nothing_is_lost(name: str, size: float) -> None:
    change = np.array([size, -size / 2, size / 3], dtype=np.float32)
    codec, zero = CODECS[name], {"w": np.zeros(3, dtype=np.float32)}
    sent, residual = codec.encode({"w": change}, reference=zero, residual={})
    decoded = codec.decode(sent, reference=zero)["w"]
    # The difference of a float32 and a near one of fewer bits is exact.
    np.testing.assert_array_equal(decoded.astype(float) + residual["w"], change.astype(float))


@pytest.mark.parametrize("name", QUANTISED)
def test_weights_that_did_not_move_come_back_as_they_were(name: str) -> None:
    codec = CODECS[name]
    sent, residual = codec.encode(REFERENCE, reference=REFERENCE, residual={})
    decoded = codec.decode(sent, reference=REFERENCE)
    for tensor, array in REFERENCE.items():
        assert decoded[tensor].tobytes() == array.tobytes()
        assert not residual[tensor].any()


@pytest.mark.parametrize(("name", "part"), [("bf16", 2**-8), ("int8", 0.5 / INT8_STEPS)])
def test_a_single_round_is_right_to_its_bits(name: str, part: float) -> None:
    """bf16: half a unit of 8 bits of each change. int8: half a step of the tensor's largest."""
    codec, weights = CODECS[name], moved(2)
    sent, _ = codec.encode(weights, reference=REFERENCE, residual={})
    decoded = codec.decode(sent, reference=REFERENCE)
    for tensor, change in change_of(weights).items():
        error = np.abs(decoded[tensor].astype(float) - weights[tensor])
        size = np.abs(change) if name == "bf16" else np.abs(change).max()
        # The sum of global weight and change is rounded once more, at a weight of about one.
        assert (error <= part * size + 2**-23).all()


@pytest.mark.parametrize("name", QUANTISED)
@given(
    seed=st.integers(0, 2**32 - 1),
    n_rounds=st.integers(1, 12),
    size=st.sampled_from([1e-6, 1e-3, 1.0]),
)
def test_error_feedback_loses_nothing_but_float32_rounding(
    name: str, seed: int, n_rounds: int, size: float
) -> None:
    """Over the rounds, what arrived and what is still unsent are together what the site changed."""
    codec, residual = CODECS[name], {}
    arrived = {tensor: np.zeros(array.shape) for tensor, array in REFERENCE.items()}
    changed = {tensor: np.zeros(array.shape) for tensor, array in REFERENCE.items()}
    largest = 0.0
    for number in range(n_rounds):
        weights = moved(seed + number, size)
        sent, residual = codec.encode(weights, reference=REFERENCE, residual=residual)
        decoded = codec.decode(sent, reference=REFERENCE)
        for tensor, change in change_of(weights).items():
            changed[tensor] += change
            arrived[tensor] += decoded[tensor].astype(float) - REFERENCE[tensor]
            largest = max(largest, float(np.abs(weights[tensor]).max()), float(np.abs(decoded[tensor]).max()))
    # A round rounds w - w_global, the sum with the residual, d - q, and w_global + q: four times, each by at most
    # half a unit of a number no larger than twice the largest weight.
    tolerance = n_rounds * 4 * 2**-24 * 2 * largest
    for tensor, unsent in residual.items():
        assert np.abs(arrived[tensor] + unsent - changed[tensor]).max() <= tolerance


def test_without_error_feedback_small_changes_would_be_lost() -> None:
    """Beside a change of one, 1e-3 is less than half an int8 step; its sum over rounds arrives all the same."""
    codec, residual = CODECS["int8"], {}
    zero = {"w": np.zeros(2, dtype=np.float32)}
    weights = {"w": np.array([1.0, 1e-3], dtype=np.float32)}
    arrived = np.zeros(2)
    for _ in range(100):
        sent, residual = codec.encode(weights, reference=zero, residual=residual)
        arrived += codec.decode(sent, reference=zero)["w"]
    assert not codec.encode(weights, reference=zero, residual={})[0]["w"][1]
    # At most half a step, 1 / 254, is still to come.
    assert arrived[1] == pytest.approx(0.1, abs=1 / 250)


@pytest.mark.parametrize("name", QUANTISED)
def test_the_same_weights_give_the_same_bytes(name: str) -> None:
    parcels = set()
    for order in (1, -1):
        weights = dict(list(moved(3).items())[::order])
        sent, _ = CODECS[name].encode(weights, reference=REFERENCE, residual=moved(4))
        parcels.add(pack(sent).tobytes())
    assert len(parcels) == 1


@pytest.mark.parametrize("name", QUANTISED)
def test_decoding_is_lazy_and_reads_each_tensor_when_it_is_asked_for(name: str) -> None:
    codec = CODECS[name]
    sent, _ = codec.encode(moved(1), reference=REFERENCE, residual={})
    alive = [0, 0]
    lazy_sent, lazy_reference = CountingArrays(sent, alive), CountingArrays(REFERENCE, alive)
    decoded = codec.decode(lazy_sent, reference=lazy_reference)
    assert list(decoded) == sorted(REFERENCE)
    assert len(decoded) == 2
    assert "scalar" in decoded
    assert "scale/scalar" not in decoded
    assert (lazy_sent.n_reads, lazy_reference.n_reads) == (0, 0)
    assert decoded["scalar"].shape == ()
    assert lazy_reference.n_reads == 1
    assert lazy_sent.n_reads == {"bf16": 1, "int8": 2}[name]
    assert alive[0] == 0
    with pytest.raises(KeyError):
        decoded["patient"]


def hostile(name: str, **changed: np.ndarray[Any, Any]) -> Any:
    zero = {"w": np.zeros(3, dtype=np.float32)}
    sent, _ = CODECS[name].encode({"w": np.ones(3, dtype=np.float32)}, reference=zero, residual={})
    arrays = {**sent, **{key.replace("scale_", "scale/"): array for key, array in changed.items()}}
    return CODECS[name].decode(arrays, reference=zero)["w"]


@pytest.mark.parametrize("pattern", [0x7F80, 0xFF80, 0x7FC0, 0xFFFF, 0x7F81])
def test_bf16_patterns_that_are_no_finite_numbers_are_refused(pattern: int) -> None:
    with pytest.raises(WeightsRefused, match="no finite numbers"):
        hostile("bf16", w=np.array([0, pattern, 0], dtype=np.uint16))
    assert hostile("bf16", w=np.array([0, 0x7F7F, 0xFF7F], dtype=np.uint16))[1] > 3e38


@pytest.mark.parametrize(
    ("step", "match"),
    [(np.nan, "not finite"), (np.inf, "not finite"), (-np.inf, "not finite"), (-1e-3, "below zero")],
)
def test_int8_steps_that_are_no_size_are_refused(step: float, match: str) -> None:
    with pytest.raises(WeightsRefused, match=match):
        hostile("int8", scale_w=np.array([step], dtype=np.float32))


def test_int8_numbers_that_no_site_sends_are_refused() -> None:
    with pytest.raises(WeightsRefused, match="out of range"):
        hostile("int8", w=np.array([-128, 0, 0], dtype=np.int8))
    with pytest.raises(WeightsRefused, match="not finite"):
        hostile("int8", scale_w=np.array([3e38], dtype=np.float32))


@pytest.mark.parametrize("name", QUANTISED)
@pytest.mark.parametrize(
    "wrong",
    [np.ones(3, "f4"), np.ones(1, "u2"), np.ones(1, "i1"), np.ones((3, 1), "u2"), np.ones((3, 1), "i1")],
)
def test_a_received_tensor_of_another_shape_or_dtype_is_refused(name: str, wrong: np.ndarray) -> None:
    with pytest.raises(WeightsRefused, match="wrong"):
        hostile(name, w=wrong)


@pytest.mark.parametrize("name", CODECS)
def test_received_names_that_differ_are_refused_at_once(name: str) -> None:
    sent, _ = CODECS[name].encode(moved(1), reference=REFERENCE, residual={})
    for arrays in ({}, {**sent, "patient": np.ones(1)}, {k: sent[k] for k in list(sent)[1:]}):
        with pytest.raises(WeightsRefused, match="names"):
            CODECS[name].decode(arrays, reference=REFERENCE)


@pytest.mark.parametrize("name", QUANTISED)
def test_weights_that_cannot_be_sent_are_refused(name: str) -> None:
    codec = CODECS[name]
    one, zero = {"w": np.ones(2, np.float32)}, {"w": np.zeros(2, np.float32)}
    huge = {"w": np.full(2, 3e38, np.float32)}
    for weights, reference, residual in (
        ({"w": np.ones(2)}, zero, {}),
        ({"w": np.ones(1, np.float32)}, zero, {}),
        ({"w": np.array([1, np.nan], np.float32)}, zero, {}),
        ({"v": np.ones(2, np.float32)}, zero, {}),
        (one, zero, {"v": np.ones(2, np.float32)}),
        (one, zero, {"w": np.ones(1, np.float32)}),
        (huge, {"w": -huge["w"]}, {}),
    ):
        with pytest.raises(WeightsRefused):
            codec.encode(weights, reference=reference, residual=residual)
    with pytest.raises(WeightsRefused, match="cannot be compressed"):
        codec.wire_manifest(WeightManifest((("w", (2,), "float64"),)))


def test_a_tensor_named_like_a_step_is_refused() -> None:
    manifest = WeightManifest((("scale/w", (1,), "float32"), ("w", (2,), "float32")))
    with pytest.raises(WeightsRefused, match="scale/"):
        CODECS["int8"].wire_manifest(manifest)
