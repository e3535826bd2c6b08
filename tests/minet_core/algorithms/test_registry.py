"""What holds for every federated algorithm: order, purity, memory, refusals; and the table of names."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from minet_core.algorithms.interface import Reply, ServerState
from minet_core.algorithms.registry import ALGORITHMS, Algorithm
from minet_core.errors import InvalidSetting, WeightsRefused
from minet_core.weights.manifest import Arrays
from tests.support.least_squares import CountingArrays, made

NAMES = ["body.bias", "body.weight", "other.weight"]
SITES = ("fastmri", "sms", "umr")


def tensors(seed: int, names: list[str] = NAMES) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    return {name: generator.normal(size=(2, 3)).astype(np.float32) for name in names}


def start_of(algorithm: Algorithm) -> ServerState:
    """A state some way into a run: every memory filled and positive, as a second moment is."""
    state = algorithm.init(tensors(0))
    return ServerState(state.weights, {k: np.abs(v) for k, v in tensors(9, sorted(state.memory)).items()})


def replies_to(algorithm: Algorithm) -> list[Reply]:
    asked = [f"{prefix}/{name}" for prefix in algorithm.uplink_state for name in NAMES]
    return [
        Reply(site, 10 * n + 1, tensors(n + 1), tensors(n + 50, asked) if asked else {})
        for n, site in enumerate(SITES)
    ]


def as_bytes(state: ServerState) -> dict[str, bytes]:
    return {
        f"{part}:{name}": arrays[name].tobytes()
        for part, arrays in (("weights", state.weights), ("memory", state.memory))
        for name in arrays
    }


every_algorithm = pytest.mark.parametrize("name", ALGORITHMS)


@every_algorithm
def test_every_order_of_replies_gives_the_same_bytes(name: str) -> None:
    algorithm = made(name)
    results = []
    for replies in itertools.permutations(replies_to(algorithm)):
        state, figures = algorithm.apply(start_of(algorithm), replies)
        results.append((as_bytes(state), figures))
    assert all(result == results[0] for result in results)


@every_algorithm
def test_a_step_changes_none_of_its_inputs_and_shares_no_array_with_them(name: str) -> None:
    algorithm = made(name)
    state, replies = start_of(algorithm), replies_to(algorithm)
    before = [as_bytes(ServerState(s.weights, s.memory)) for s in (state, *replies)]
    new, _ = algorithm.apply(state, replies)
    assert [as_bytes(ServerState(s.weights, s.memory)) for s in (state, *replies)] == before
    for source, arrays in itertools.product((state, *replies), (new.weights, new.memory)):
        given = [*source.weights.values(), *source.memory.values()]
        assert not any(np.shares_memory(a, b) for a, b in itertools.product(arrays.values(), given))


@every_algorithm
def test_names_shapes_and_dtypes_stay_from_round_to_round(name: str) -> None:
    algorithm = made(name)
    state = algorithm.init(tensors(0))
    kinds = {k: (v.shape, v.dtype) for k, v in (*state.weights.items(), *state.memory.items())}
    for _ in range(2):
        state, _ = algorithm.apply(state, replies_to(algorithm))
        found = {k: (v.shape, v.dtype) for k, v in (*state.weights.items(), *state.memory.items())}
        assert found == kinds
    assert all(dtype == np.float32 for _, dtype in kinds.values())


@every_algorithm
def test_lazy_mappings_have_one_tensor_in_memory_at_a_time(name: str) -> None:
    """Of all replies together one; of the state one of the weights and, where there is a memory, two of it."""
    algorithm = made(name)
    plain, plain_replies = start_of(algorithm), replies_to(algorithm)
    alive_of_replies, alive_of_weights, alive_of_memory = [0, 0], [0, 0], [0, 0]
    replies = [
        replace(
            reply,
            weights=CountingArrays(reply.weights, alive_of_replies),
            memory=CountingArrays(reply.memory, alive_of_replies),
        )
        for reply in plain_replies
    ]
    state = ServerState(
        CountingArrays(plain.weights, alive_of_weights), CountingArrays(plain.memory, alive_of_memory)
    )
    lazy, _ = algorithm.apply(state, replies)
    assert alive_of_replies == [0, 1]
    assert alive_of_weights == [0, 1]
    assert alive_of_memory in ([0, 0], [0, 1], [0, 2])
    assert all(reply.weights.n_reads == len(NAMES) for reply in replies)
    assert as_bytes(lazy) == as_bytes(algorithm.apply(plain, plain_replies)[0])


@every_algorithm
def test_figures_of_a_step_are_its_shares_and_norms(name: str) -> None:
    algorithm = made(name)
    state = start_of(algorithm)
    new, figures = algorithm.apply(state, replies_to(algorithm))
    assert figures.site_shares == pytest.approx({"fastmri": 1 / 33, "sms": 11 / 33, "umr": 21 / 33})
    flat = [np.concatenate([s.weights[n].ravel() for n in NAMES]).astype(float) for s in (state, new)]
    assert figures.update_norm == pytest.approx(np.linalg.norm(flat[1] - flat[0]))
    assert figures.weights_norm == pytest.approx(np.linalg.norm(flat[1]))


@every_algorithm
def test_one_site_alone_is_a_federation(name: str) -> None:
    algorithm = made(name, n_sites=1)
    state, figures = algorithm.apply(start_of(algorithm), replies_to(algorithm)[:1])
    assert figures.site_shares == {"fastmri": 1.0}
    if name in ("fedavg", "fedprox", "personal-head"):
        assert as_bytes(state) == as_bytes(ServerState(tensors(1), {}))


def with_weights(change: Callable[[dict[str, np.ndarray]], Any]) -> Callable[[Reply], Reply]:
    def changed(reply: Reply) -> Reply:
        weights = dict(reply.weights)
        change(weights)
        return replace(reply, weights=weights)

    return changed


def put(array: Arrays | np.ndarray) -> Callable[[Reply], Reply]:
    return with_weights(lambda weights: weights.update({"body.bias": array}))


HOSTILE: dict[str, tuple[Callable[[Reply], Reply], str]] = {
    "a missing tensor": (with_weights(lambda weights: weights.pop("body.bias")), "names"),
    "an unknown tensor": (with_weights(lambda weights: weights.update(patient=np.ones(1))), "names"),
    "no tensors": (with_weights(lambda weights: weights.clear()), "names"),
    "unasked memory": (lambda reply: replace(reply, memory={"x/y": np.ones(1, np.float32)}), "names"),
    "a shape that would broadcast": (put(np.ones((1, 1), np.float32)), "wrong shape"),
    "float64": (put(np.ones((2, 3))), "wrong number type"),
    "NaN": (put(np.full((2, 3), np.nan, np.float32)), "not finite"),
    "infinity": (put(np.full((2, 3), -np.inf, np.float32)), "not finite"),
    "no slices": (lambda reply: replace(reply, n_training_slices=0), "sms has a wrong weight"),
    "negative slices": (lambda reply: replace(reply, n_training_slices=-1), "sms has a wrong weight"),
    "half a slice": (lambda reply: replace(reply, n_training_slices=1.5), "sms has a wrong weight"),
    "a truth value": (lambda reply: replace(reply, n_training_slices=True), "sms has a wrong weight"),
    "2^54 slices": (lambda reply: replace(reply, n_training_slices=2**54), "sms has a wrong weight"),
    "another's name": (lambda reply: replace(reply, site="umr"), "replied twice"),
}


@every_algorithm
@pytest.mark.parametrize("attack", HOSTILE)
def test_a_hostile_reply_is_refused(name: str, attack: str) -> None:
    algorithm = made(name)
    change, match = HOSTILE[attack]
    replies = replies_to(algorithm)
    replies[1] = change(replies[1])
    with pytest.raises(WeightsRefused, match=match):
        algorithm.apply(start_of(algorithm), replies)


@every_algorithm
def test_a_round_without_replies_is_refused(name: str) -> None:
    algorithm = made(name)
    with pytest.raises(WeightsRefused, match="no weights to average"):
        algorithm.apply(start_of(algorithm), [])


@pytest.mark.parametrize("name", ["scaffold", "fedadam"])
def test_a_state_that_lost_its_memory_is_refused(name: str) -> None:
    algorithm = made(name)
    with pytest.raises(WeightsRefused, match="the server's memory"):
        algorithm.apply(ServerState(tensors(0), {}), replies_to(algorithm))


@pytest.mark.parametrize("name", ["scaffold", "fedadam"])
def test_integers_have_no_gradient_to_keep(name: str) -> None:
    with pytest.raises(WeightsRefused, match="no gradient"):
        made(name).init({"count": np.ones(2, np.int64)})


@pytest.mark.parametrize("name", ["fedavg", "fedprox", "personal-head"])
def test_integers_are_not_averaged(name: str) -> None:
    algorithm = made(name)
    state = algorithm.init({"count": np.array([0])})
    with pytest.raises(WeightsRefused, match="no mean"):
        algorithm.apply(state, [Reply(site, 5, {"count": np.array([2])}) for site in SITES])


def test_what_travels_is_named_by_the_algorithm() -> None:
    memory = {
        name: (made(name).downlink_state, made(name).uplink_state, made(name).gradient_rule is None)
        for name in ALGORITHMS
    }
    assert memory == {
        "fedavg": ((), (), True),
        "fedprox": ((), (), False),
        "scaffold": (("control",), ("control",), False),
        "fedadam": ((), (), True),
        "personal-head": ((), (), True),
    }
    assert [made(name).name for name in ALGORITHMS] == list(ALGORITHMS)
    assert all(made(name).shared("head.weight") == (name != "personal-head") for name in ALGORITHMS)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("n_sites", 0),
        ("proximal_mu", -0.1),
        ("proximal_mu", float("nan")),
        ("server_learning_rate", 0.0),
        ("server_learning_rate", float("inf")),
        ("beta1", 1.0),
        ("beta2", -0.1),
        ("tau", 0.0),
    ],
)
def test_a_setting_out_of_its_range_is_refused_by_name(setting: str, value: float) -> None:
    with pytest.raises(InvalidSetting, match=setting):
        made("fedavg", **{setting: value})


def test_an_unknown_algorithm_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InvalidSetting, match=r"fedsgd.*fedavg"):
        made("fedsgd")
