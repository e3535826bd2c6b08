"""The weights that travel: every way in which a set can be wrong, and the mean over the sites."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from minet_core.errors import WeightsRefused
from minet_core.models.minet.model import MINet
from minet_core.settings.federation import TrainingSettings
from minet_core.training.batches import Batch
from minet_core.training.loop import StepPlan, train_steps
from minet_core.weights.manifest import WeightManifest, check_weights, learnable, load_weights, weighted_mean
from tests.support.least_squares import CountingArrays

Arrays = dict[str, np.ndarray[Any, Any]]


def make_arrays() -> Arrays:
    generator = np.random.default_rng(0)
    return {
        "head.weight": generator.normal(size=(4, 1, 3, 3)).astype(np.float32),
        "head.bias": generator.normal(size=4).astype(np.float32),
        "temperature": np.array([10.0], dtype=np.float32),
    }


MANIFEST = WeightManifest.of(make_arrays())


def make_model(*, bicubic_skip: bool = True) -> MINet:
    torch.manual_seed(0)
    return MINet(scale=2, n_groups=1, n_blocks=1, n_features=8, reduction=2, bicubic_skip=bicubic_skip)


def test_weights_that_fit_the_manifest_pass() -> None:
    check_weights(make_arrays(), MANIFEST)
    assert MANIFEST.n_values == 41
    assert MANIFEST.n_bytes == 164
    assert MANIFEST.as_json()[0] == ["head.bias", [4], "float32"]


def attack(change: str) -> Arrays:
    arrays = make_arrays()
    if change == "missing key":
        del arrays["head.bias"]
    elif change == "extra key":
        arrays["patient"] = np.zeros(3, dtype=np.float32)
    elif change == "renamed key":
        arrays["head.bias "] = arrays.pop("head.bias")
    elif change == "no keys":
        arrays = {}
    elif change == "transposed":
        arrays["head.weight"] = arrays["head.weight"].transpose(1, 0, 2, 3)
    elif change == "broadcast (1,)":
        arrays["head.bias"] = np.ones(1, dtype=np.float32)
    elif change == "scalar for (1,)":
        arrays["temperature"] = np.array(10.0, dtype=np.float32)
    elif change == "empty":
        arrays["head.bias"] = np.zeros(0, dtype=np.float32)
    elif change == "float64":
        arrays["head.bias"] = arrays["head.bias"].astype(np.float64)
    elif change == "float16":
        arrays["head.bias"] = arrays["head.bias"].astype(np.float16)
    elif change == "integer":
        arrays["head.bias"] = arrays["head.bias"].astype(np.int32)
    elif change == "big-endian":
        arrays["head.bias"] = arrays["head.bias"].astype(">f4")
    elif change == "object":
        arrays["head.bias"] = arrays["head.bias"].astype(object)
    else:
        arrays["head.weight"][3, 0, 2, 1] = {"NaN": np.nan, "+Inf": np.inf, "-Inf": -np.inf}[change]
    return arrays


ATTACKS = {
    "missing key": "names",
    "extra key": "names",
    "renamed key": "names",
    "no keys": "names",
    "transposed": "shape",
    "broadcast (1,)": "shape",
    "scalar for (1,)": "shape",
    "empty": "shape",
    "float64": "number type",
    "float16": "number type",
    "integer": "number type",
    "big-endian": "number type",
    "object": "number type",
    "NaN": "not finite",
    "+Inf": "not finite",
    "-Inf": "not finite",
}


@pytest.mark.parametrize("change", ATTACKS)
def test_weights_that_differ_from_the_manifest_are_refused(change: str) -> None:
    with pytest.raises(WeightsRefused, match=f"FM-M302.*{ATTACKS[change]}"):
        check_weights(attack(change), MANIFEST)


def test_a_manifest_of_nothing_lets_nothing_pass() -> None:
    with pytest.raises(WeightsRefused, match="no weights"):
        check_weights({}, WeightManifest(()))
    empty = {"bias": np.zeros(0, dtype=np.float32)}
    with pytest.raises(WeightsRefused, match="is empty"):
        check_weights(empty, WeightManifest.of(empty))


def test_a_lazy_mapping_is_checked_with_one_tensor_in_memory_and_each_read_once() -> None:
    alive = [0, 0]
    lazy = CountingArrays(make_arrays(), alive)
    check_weights(lazy, MANIFEST)
    assert (alive, lazy.n_reads) == ([0, 1], 3)
    assert WeightManifest.of(lazy) == MANIFEST
    assert (alive, lazy.n_reads) == ([0, 1], 6)


def test_only_parameters_that_learn_travel_and_they_come_back_exactly() -> None:
    model = make_model()
    model.target_head[0].weight.requires_grad_(False)
    model.to(memory_format=torch.channels_last)
    arrays = learnable(model)
    assert "target_head.0.weight" not in arrays
    assert not [name for name in arrays if "bands" in name]
    assert all(array.flags.c_contiguous for array in arrays.values())
    changed = {name: array + np.float32(1) for name, array in arrays.items()}
    load_weights(model, changed)
    for name, array in learnable(model).items():
        np.testing.assert_array_equal(array, changed[name])


def test_learnable_weights_are_copies() -> None:
    model = make_model()
    arrays = learnable(model)
    arrays["target_head.0.bias"] += 1
    assert (learnable(model)["target_head.0.bias"] != arrays["target_head.0.bias"]).all()


def test_refused_weights_leave_the_model_as_it_was() -> None:
    model = make_model()
    before = learnable(model)
    wrong = {name: array + np.float32(1) for name, array in before.items()}
    wrong["target_reconstruction.bias"] = np.array([np.nan], dtype=np.float32)
    with pytest.raises(WeightsRefused):
        load_weights(model, wrong)
    for name, array in learnable(model).items():
        np.testing.assert_array_equal(array, before[name])


def test_mean_is_weighted_by_slices() -> None:
    ones = {"bias": np.ones(3, dtype=np.float32)}
    fives = {"bias": np.full(3, 5, dtype=np.float32)}
    mean = weighted_mean([("sms", 30, ones), ("umr", 10, fives)])
    np.testing.assert_array_equal(mean["bias"], np.full(3, 2, dtype=np.float32))
    assert mean["bias"].dtype == np.float32


def test_mean_of_equal_weights_is_that_weight() -> None:
    arrays = make_arrays()
    mean = weighted_mean([(site, weight, arrays) for site, weight in (("a", 3), ("b", 7), ("c", 11))])
    for name, array in arrays.items():
        np.testing.assert_array_equal(mean[name], array)


def test_mean_is_accumulated_in_float64() -> None:
    """In float32 the ones would vanish beside 2^25."""
    values = [2.0**25, 1.0, 1.0, 1.0, -(2.0**25)]
    replies = [(f"s{n}", 1.0, {"bias": np.array([v], dtype=np.float32)}) for n, v in enumerate(values)]
    assert weighted_mean(replies)["bias"][0] == pytest.approx(0.6, rel=1e-6)


@given(
    order=st.permutations(range(5)),
    weights=st.lists(st.integers(1, 10_000), min_size=5, max_size=5),
    seed=st.integers(0, 2**32 - 1),
)
def test_mean_has_the_same_bytes_for_any_order_of_arrival(
    order: list[int], weights: list[int], seed: int
) -> None:
    generator = np.random.default_rng(seed)
    replies = [
        (f"site-{n}", float(weight), {"w": generator.normal(size=(3, 2)).astype(np.float32)})
        for n, weight in enumerate(weights)
    ]
    expected = weighted_mean(replies)["w"].tobytes()
    assert weighted_mean(replies[n] for n in order)["w"].tobytes() == expected


def test_no_reply_and_a_double_reply_are_refused() -> None:
    with pytest.raises(WeightsRefused, match="no weights to average"):
        weighted_mean([])
    with pytest.raises(WeightsRefused, match="replied twice"):
        weighted_mean([("sms", 1, make_arrays()), ("sms", 1, make_arrays())])


@pytest.mark.parametrize("weight", [0, -1, float("nan"), float("inf")])
def test_a_weight_that_is_no_count_is_refused_with_the_site_named(weight: float) -> None:
    with pytest.raises(WeightsRefused, match="reply of umr"):
        weighted_mean([("sms", 1, make_arrays()), ("umr", weight, make_arrays())])


def test_replies_that_differ_in_shape_are_not_broadcast() -> None:
    with pytest.raises(WeightsRefused, match="shape"):
        weighted_mean([("sms", 1, make_arrays()), ("umr", 1, attack("broadcast (1,)"))])


def test_one_federated_full_batch_sgd_step_is_the_pooled_step() -> None:
    """Three sites of 1, 2 and 4 slices: the mean of their steps, weighted by slices, is the step on all seven."""
    generator = torch.Generator().manual_seed(4)
    low_res = torch.randn(7, 1, 6, 6, generator=generator)
    upsampled, reference, target = (torch.randn(7, 1, 12, 12, generator=generator) for _ in range(3))
    pooled = Batch(low_res=low_res, upsampled=upsampled, reference=reference, target=target)

    def step(rows: slice) -> Arrays:
        model = make_model(bicubic_skip=False)
        batch = Batch(
            low_res=pooled.low_res[rows],
            upsampled=pooled.upsampled[rows],
            reference=pooled.reference[rows],
            target=pooled.target[rows],
        )
        train_steps(
            model,
            iter([batch]),
            StepPlan(
                settings=TrainingSettings(
                    learning_rate=1.0, warmup_steps=0, decay_fraction=0.0, clip_norm=None, alpha=0.9, beta=0.1
                ),
                n_steps=1,
                total_steps=1,
            ),
            optimizer=torch.optim.SGD(model.parameters(), lr=0.0),
        )
        return learnable(model)

    sites = {"sms": slice(0, 1), "umr": slice(1, 3), "fastmri": slice(3, 7)}
    federated = weighted_mean((site, rows.stop - rows.start, step(rows)) for site, rows in sites.items())
    start = learnable(make_model(bicubic_skip=False))
    for name, expected in step(slice(0, 7)).items():
        moved = np.abs(expected - start[name]).max()
        assert moved > 0, name
        # Each weight is rounded once to float32 at a site and once more in the mean; its gradient is a sum of up
        # to 1e3 float32 terms, so is right to 1e3 x 2^-24 of itself.
        tolerance = np.spacing(np.abs(expected).max()) + 1e3 * 2**-24 * moved
        assert np.abs(federated[name] - expected).max() <= tolerance, name
