"""No site moves the mean by more than its bound, and no rule's bytes depend on the order of arrival."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minet_core.algorithms import influence
from minet_core.algorithms.fedavg import FEDAVG, averaging
from minet_core.algorithms.influence import (
    RULES,
    Combination,
    Shortened,
    agreements,
    capped_weights,
    geometric_median_weights,
    trimmed_mean,
    turned_shares,
    update_products,
)
from minet_core.algorithms.interface import Reply
from minet_core.algorithms.registry import ALGORITHMS, make_algorithm
from minet_core.algorithms.weighted_mean import shares
from minet_core.errors import InvalidSetting, WeightsRefused
from minet_core.settings.algorithm import AlgorithmSettings

COUNTS = st.dictionaries(st.sampled_from("abcdefg"), st.integers(1, 10**6), min_size=1, max_size=7)


def test_half_goes_to_the_largest_and_the_rest_to_the_others_by_slices() -> None:
    found = shares(capped_weights({"a": 1_000_000, "b": 30, "c": 10}, max_share=0.5))
    assert found == pytest.approx({"a": 0.5, "b": 0.375, "c": 0.125})


def test_one_that_the_excess_lifts_above_the_bound_is_bounded_too() -> None:
    found = shares(capped_weights({"a": 1000, "b": 500, "c": 10, "d": 10}, max_share=0.4))
    assert found == pytest.approx({"a": 0.4, "b": 0.4, "c": 0.1, "d": 0.1})


@pytest.mark.parametrize("counts", [{"a": 7}, {"a": 10**6, "b": 1}, {"a": 50, "b": 30, "c": 20}])
def test_nothing_changes_where_nobody_is_above_the_bound_or_only_two_replied(counts: dict[str, int]) -> None:
    assert capped_weights(counts, max_share=0.5) is counts


@given(counts=COUNTS, most=st.floats(0.01, 1.0))
def test_no_share_is_above_the_bound_and_their_order_stays(counts: dict[str, int], most: float) -> None:
    found = shares(capped_weights(counts, max_share=most))
    assert sum(found.values()) == pytest.approx(1)
    for one, other in itertools.combinations(counts, 2):
        if counts[one] <= counts[other]:
            assert found[one] <= found[other] * (1 + 1e-12)
    if len(counts) >= 3:
        assert max(found.values()) <= float(max(Fraction(most), Fraction(1, len(counts)))) * (1 + 1e-12)


def updates(n_sites: int, seed: int = 0) -> tuple[dict[str, np.ndarray], dict[str, dict[str, np.ndarray]]]:  # type: ignore[type-arg]
    generator = np.random.default_rng(seed)
    start = {"w": generator.normal(size=(3, 5)).astype(np.float32), "b": np.zeros(4, np.float32)}
    arrays_of = {
        f"site{index}": {
            name: (array + 0.1 * generator.normal(size=array.shape)).astype(np.float32)
            for name, array in start.items()
        }
        for index in range(n_sites)
    }
    return start, arrays_of


@pytest.mark.parametrize("n_sites", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("block", [1, 7, 2**20])
def test_the_median_is_numpys_whatever_the_block(
    monkeypatch: pytest.MonkeyPatch, n_sites: int, block: int
) -> None:
    monkeypatch.setattr(influence, "_BLOCK_VALUES", block)
    _, arrays_of = updates(n_sites)
    trimmed = Combination("median").n_trimmed(n_sites)
    assert trimmed is not None
    found = trimmed_mean("w", arrays_of, n_trimmed=trimmed, shape=(3, 5), dtype="float32")
    expected = np.median(np.stack([a["w"] for a in arrays_of.values()]).astype(np.float64), axis=0)
    np.testing.assert_allclose(found, expected, rtol=1e-15)


def test_the_geometric_median_is_the_point_of_least_distance() -> None:
    start, arrays_of = updates(5)
    found = geometric_median_weights(update_products(arrays_of, start))
    rows = np.stack([np.concatenate([a[n].ravel() for n in sorted(a)]) for a in arrays_of.values()]).astype(
        np.float64
    )

    def distance(point: np.ndarray) -> float:  # type: ignore[type-arg]
        return float(np.linalg.norm(rows - point, axis=1).sum())

    middle = found @ rows
    generator = np.random.default_rng(1)
    assert all(
        distance(middle) <= distance(middle + 1e-3 * generator.normal(size=len(middle))) for _ in range(50)
    )


def test_agreement_is_the_cosine_to_the_mean_direction_of_the_others() -> None:
    directions = np.array([[1.0, 0.0], [2.0, 0.0], [-5.0, 0.0]])
    assert agreements(directions @ directions.T) == pytest.approx([0.0, 0.0, -1.0])
    assert agreements(np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 1.0]])) == pytest.approx(
        [0, 0, 0]
    )


def literal_turned_shares(of_tensors: np.ndarray) -> list[float]:  # type: ignore[type-arg]
    """As the docstring of `turned_shares` says it: by pairs of the others, tensor by tensor."""
    found = []
    for site in range(of_tensors.shape[1]):
        others = [other for other in range(of_tensors.shape[1]) if other != site]
        agreed, against = 0, 0
        for products in of_tensors:
            lengths = np.sqrt(np.diag(products))
            of = products / np.outer(lengths, lengths)
            mean = float(np.mean([of[a, b] for a in others for b in others if a < b]))
            own = sum(of[site, a] for a in others) / math.sqrt(sum(of[a, b] for a in others for b in others))
            agreed += mean > influence.AGREED
            against += mean > influence.AGREED and own < -influence.AGAINST * mean
        found.append(against / agreed if agreed >= influence.MIN_TENSORS else math.nan)
    return found


@pytest.mark.parametrize(("n_sites", "noise"), [(3, 0.5), (4, 0.8), (9, 1.0), (9, 3.0)])
def test_turned_shares_are_those_of_the_pairs(n_sites: int, noise: float) -> None:
    generator = np.random.default_rng(n_sites)
    sent = generator.normal(size=(1, 30, 40)) * generator.uniform(0.2, 2.0, size=(1, 30, 1))
    sent = sent + noise * generator.normal(size=(n_sites, 30, 40))
    sent[1, :9] *= -1.0
    of_tensors = np.einsum("itk,jtk->tij", sent, sent)
    found = turned_shares(of_tensors)
    np.testing.assert_array_equal(found, literal_turned_shares(of_tensors))
    among = [2, 1, 0]
    np.testing.assert_array_equal(
        turned_shares(of_tensors, among), literal_turned_shares(of_tensors[:, among][:, :, among])
    )
    assert np.isnan(found).all() == (noise > 2)


def test_an_update_of_nothing_is_turned_nowhere() -> None:
    products = np.zeros((20, 3, 3))
    products[:, :2, :2] = 1.0
    assert np.isnan(turned_shares(products)[:2]).all()  # the mean of a pair with it is 0: no agreement
    assert turned_shares(products)[2] == 0.0


def replies(arrays_of: dict[str, dict[str, np.ndarray]], *, control: bool) -> list[Reply]:  # type: ignore[type-arg]
    return [
        Reply(
            site,
            10 + 5 * index,
            arrays,
            {f"control/{n}": a * 0.01 for n, a in arrays.items()} if control else {},
        )
        for index, (site, arrays) in enumerate(arrays_of.items())
    ]


@pytest.mark.parametrize("name", sorted(ALGORITHMS))
@pytest.mark.parametrize("rule", RULES)
def test_bytes_do_not_depend_on_the_order_and_inputs_stay(name: str, rule: influence.Rule) -> None:
    start, arrays_of = updates(5)
    settings = AlgorithmSettings(
        name=name, proximal_mu=0.1, server_learning_rate=1.0, personal=("b",), rule=rule, max_share=0.25
    )
    algorithm = make_algorithm(settings, n_sites=5)
    state = algorithm.init(start)
    arrays_of = {
        site: {n: a for n, a in arrays.items() if n in state.weights} for site, arrays in arrays_of.items()
    }
    given_ = replies(arrays_of, control=name == "scaffold")
    results = []
    for order in (given_, given_[::-1], given_[2:] + given_[:2]):
        after, figures = algorithm.apply(state, order)
        results.append(
            (
                {n: a.tobytes() for n, a in after.weights.items()},
                {n: a.tobytes() for n, a in after.memory.items()},
            )
        )
        assert sum(figures.site_shares.values()) == pytest.approx(1)
    assert results[0] == results[1] == results[2]


@pytest.mark.parametrize("rule", ["trimmed-mean", "median", "geometric-median"])
@pytest.mark.parametrize("hostile", [1e3, -1e3])
def test_one_site_of_five_does_not_carry_a_robust_rule_away(rule: influence.Rule, hostile: float) -> None:
    start, arrays_of = updates(5)
    spread = max(float(np.abs(a[n] - start[n]).max()) for a in arrays_of.values() for n in start)
    arrays_of["site4"] = {n: (a + np.float32(hostile)).astype(np.float32) for n, a in start.items()}
    after, _ = averaging(Combination(rule)).apply(FEDAVG.init(start), replies(arrays_of, control=False))
    assert max(float(np.abs(after.weights[n] - start[n]).max()) for n in start) <= 2 * spread


def test_the_bound_that_nobody_passes_leaves_the_bytes_of_plain_fedavg() -> None:
    start, arrays_of = updates(3)
    plain, _ = FEDAVG.apply(FEDAVG.init(start), replies(arrays_of, control=False))
    bounded, _ = averaging(Combination(max_share=0.5)).apply(
        FEDAVG.init(start), replies(arrays_of, control=False)
    )
    assert all(plain.weights[n].tobytes() == bounded.weights[n].tobytes() for n in start)


def test_a_shortened_update_keeps_its_direction() -> None:
    start, arrays_of = updates(1)
    half = Shortened(arrays_of["site0"], start, 0.5)
    np.testing.assert_allclose(half["w"], (start["w"] + arrays_of["site0"]["w"]) / 2, rtol=1e-6)
    assert (half["w"].dtype, set(half)) == (np.float32, {"w", "b"})
    np.testing.assert_array_equal(Shortened(start, None, 0.0)["w"], np.zeros((3, 5)))


@pytest.mark.parametrize("wrong", [{"max_share": 0.0}, {"max_share": 1.1}, {"trim": 0.5}, {"rule": "mode"}])
def test_a_combination_out_of_its_range_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(InvalidSetting):
        Combination(**wrong)  # type: ignore[arg-type]


def test_integers_have_no_order_to_trim() -> None:
    with pytest.raises(WeightsRefused, match="trim"):
        trimmed_mean("w", {"a": {"w": np.ones(2, np.int64)}}, n_trimmed=0, shape=(2,), dtype="int64")
