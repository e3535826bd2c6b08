"""FedAdam: its first step in closed form, and its literal twin."""

from __future__ import annotations

import numpy as np
import pytest

from minet_core.algorithms.interface import Reply
from minet_core.errors import WeightsRefused
from tests.oracles.federated_algorithms import fedadam_step, shares
from tests.support.least_squares import TrainingSite, made, make_sites

ADAM = {"beta1": 0.9, "beta2": 0.99, "tau": 1e-3}


def test_the_first_step_in_closed_form() -> None:
    """From m = 0 and v = tau^2: x + eta (1 - beta1) D / (sqrt(beta2 tau^2 + (1 - beta2) D^2) + tau)."""
    algorithm = made("fedadam", server_learning_rate=0.1, **ADAM)
    start = np.array([1.0, -2.0, 0.0], np.float32)
    moved = np.array([0.25, 0.0, -0.004])
    state = algorithm.init({"x": start})
    assert state.memory["second_moment/x"] == pytest.approx(np.full(3, 1e-6))
    assert not state.memory["first_moment/x"].any()
    new, _ = algorithm.apply(state, [Reply("sms", 5, {"x": (start + moved).astype(np.float32)})])
    step = 0.1 * 0.1 * moved / (np.sqrt(0.99 * 1e-6 + 0.01 * moved**2) + 1e-3)
    # The weights of the site and the new ones are rounded to float32 once each.
    np.testing.assert_allclose(new.weights["x"], start + step, rtol=0, atol=4 * 2**-24)
    assert new.weights["x"][1] == start[1]


def test_rounds_are_those_of_the_literal_algorithm() -> None:
    sites = make_sites()
    clients = [TrainingSite(f"s{n}", site, {}) for n, site in enumerate(sites)]
    algorithm = made("fedadam", server_learning_rate=0.1, **ADAM)
    state = algorithm.init({"x": np.zeros(4, np.float32)})
    x, m, v = np.zeros(4), np.zeros(4), np.full(4, 1e-6)
    for _ in range(10):
        replies = [client.train(algorithm, state, n_steps=3, rate=0.05) for client in clients]
        trained = [reply.weights["x"].astype(np.float64) for reply in replies]
        x, m, v = fedadam_step(x, m, v, trained, shares(sites), rate=0.1, **ADAM)
        state, _ = algorithm.apply(state, replies)
        # x: one rounding a round of a weight near one. Its difference from the sites' weights enters the moments.
        np.testing.assert_allclose(state.weights["x"], x, rtol=0, atol=10 * 2**-23)
        np.testing.assert_allclose(state.memory["first_moment/x"], m, rtol=0, atol=10 * 2**-23)
        np.testing.assert_allclose(state.memory["second_moment/x"], v, rtol=1e-5, atol=0)


def test_an_update_too_large_for_its_square_is_refused() -> None:
    """It would leave an infinite second moment, which stops a weight for good."""
    algorithm = made("fedadam", **ADAM)
    state = algorithm.init({"x": np.zeros(2, np.float32)})
    with pytest.raises(WeightsRefused, match="second_moment/x is not finite"):
        algorithm.apply(state, [Reply("sms", 5, {"x": np.array([1e30, 0], np.float32)})])
