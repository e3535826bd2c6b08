"""SCAFFOLD: its literal twin, option II of the paper, and that its controls take the drift out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from minet_core.algorithms.fedavg import FEDAVG
from minet_core.algorithms.registry import Algorithm
from minet_core.errors import InvalidSetting, WeightsRefused
from minet_core.training.gradient_rules import ControlVariates
from tests.oracles.federated_algorithms import Site, scaffold_round
from tests.support.least_squares import LeastSquares, TrainingSite, made, make_sites


def test_rounds_are_those_of_the_literal_algorithm_with_and_without_all_sites() -> None:
    sites = make_sites()
    clients = [TrainingSite(f"s{n}", site, {}) for n, site in enumerate(sites)]
    algorithm = made("scaffold", server_learning_rate=0.8)
    x, c, c_of = np.zeros(4), np.zeros(4), [np.zeros(4) for _ in sites]
    state = algorithm.init({"x": np.zeros(4, np.float32)})
    for asked in ([0, 1, 2], [0, 2], [1], [0, 1, 2], [1, 2], [0, 1, 2]):
        x, c, c_of = scaffold_round(x, c, c_of, sites, asked=asked, n_steps=5, rate=0.05, server_rate=0.8)
        replies = [clients[n].train(algorithm, state, n_steps=5, rate=0.05) for n in asked]
        state, _ = algorithm.apply(state, replies)
        # As for FedAvg: 30 steps of some 20 roundings of numbers near 3; a gradient is a few times its weight.
        tolerance = 30 * 20 * 2**-24
        np.testing.assert_allclose(state.weights["x"], x, rtol=0, atol=tolerance)
        np.testing.assert_allclose(state.memory["control/x"], c, rtol=0, atol=4 * tolerance)
        for n in asked:
            np.testing.assert_allclose(clients[n].memory["control/x"], c_of[n], rtol=0, atol=4 * tolerance)


def test_the_new_control_is_option_two_of_the_paper_under_plain_gradient_descent() -> None:
    """c_i+ = c_i - c + (x - y) / (K eta): with weights in float64, equal to the rounding of a float32 control."""
    site = make_sites()[1]
    generator = np.random.default_rng(3)
    c, c_i = (generator.normal(size=4).astype(np.float32) for _ in range(2))
    model = LeastSquares(site, torch.float64)
    with torch.no_grad():
        model.x.copy_(torch.tensor([0.3, 0.1, -0.7, 2.0]))
    start, n_steps, rate = model.x.detach().numpy().copy(), 7, 0.03
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    rule = ControlVariates({"x": c}, {"x": c_i})
    for _ in range(n_steps):
        optimizer.zero_grad()
        model().backward()
        rule.correct(model)
        optimizer.step()
    end = model.x.detach().numpy()
    expected = c_i.astype(float) - c + (start - end) / (n_steps * rate)
    new = rule.new_local_control()["x"]
    assert new.dtype == np.float32
    np.testing.assert_allclose(new, expected, rtol=2**-23, atol=1e-12)
    np.testing.assert_array_equal(rule.kept()["control/x"], new)
    np.testing.assert_array_equal(rule.sent()["control/x"], new - c_i)


class Quadratics:
    """Two sites on a line, F_s(x) = a_s / 2 (x - b_s)^2, with equal numbers of slices."""

    a, b = np.array([1.0, 10.0]), np.array([0.0, 1.0])
    n_steps, rate = 10, 0.05

    @property
    def optimum(self) -> float:
        return float((self.a * self.b).sum() / self.a.sum())

    @property
    def fedavg_fixed_point(self) -> float:
        """Where mean_s (b_s + q_s (x - b_s)) = x, with q_s = (1 - rate a_s)^K."""
        moved = 1 - (1 - self.rate * self.a) ** self.n_steps
        return float((moved * self.b).sum() / moved.sum())

    def end_of(self, algorithm: Algorithm, *, n_rounds: int) -> float:
        clients = [
            TrainingSite(f"s{n}", Site(A=np.array([[a**0.5]]), b=np.array([a**0.5 * b])), {})
            for n, (a, b) in enumerate(zip(self.a, self.b, strict=True))
        ]
        state = algorithm.init({"x": np.zeros(1, np.float32)})
        for _ in range(n_rounds):
            replies = [c.train(algorithm, state, n_steps=self.n_steps, rate=self.rate) for c in clients]
            state, _ = algorithm.apply(state, replies)
        return float(state.weights["x"][0])


def test_the_controls_take_out_the_drift_that_biases_fedavg() -> None:
    problem = Quadratics()
    assert abs(problem.fedavg_fixed_point - problem.optimum) > 0.1
    # The weights are near one; the last rounds no longer move and leave a few roundings to float32.
    averaged = problem.end_of(FEDAVG, n_rounds=60)
    assert averaged == pytest.approx(problem.fedavg_fixed_point, abs=1e-5)
    algorithm = made("scaffold", server_learning_rate=1.0, n_sites=2)
    controlled = problem.end_of(algorithm, n_rounds=150)
    assert controlled == pytest.approx(problem.optimum, abs=1e-5)


def test_more_replies_than_members_are_refused() -> None:
    algorithm = made("scaffold", n_sites=1)
    state = algorithm.init({"x": np.zeros(4, np.float32)})
    clients = [TrainingSite(f"s{n}", site, {}) for n, site in enumerate(make_sites())]
    replies = [client.train(algorithm, state, n_steps=1, rate=0.05) for client in clients]
    with pytest.raises(WeightsRefused, match="more sites"):
        algorithm.apply(state, replies)


@pytest.mark.parametrize(
    "memory",
    [{}, {"control/y": np.zeros(4, np.float32)}, {"control/x": np.zeros(3, np.float32)}],
    ids=["none", "another name", "another shape"],
)
def test_a_reply_with_a_wrong_control_is_refused(memory: dict[str, Any]) -> None:
    algorithm = made("scaffold")
    state = algorithm.init({"x": np.zeros(4, np.float32)})
    client = TrainingSite("sms", make_sites()[0], {})
    reply = client.train(algorithm, state, n_steps=1, rate=0.05)
    wrong = type(reply)(reply.site, reply.n_training_slices, reply.weights, memory)
    with pytest.raises(WeightsRefused, match=r"control|memory"):
        algorithm.apply(state, [wrong])


def test_a_control_before_the_first_step_is_refused() -> None:
    with pytest.raises(InvalidSetting, match="no gradient yet"):
        ControlVariates({"x": np.zeros(4)}, {}).new_local_control()


def test_controls_of_another_model_are_refused() -> None:
    model = LeastSquares(make_sites()[0])
    model().backward()
    with pytest.raises(WeightsRefused, match="the global control"):
        ControlVariates({}, {}).correct(model)
    with pytest.raises(WeightsRefused, match="the site's control"):
        ControlVariates({"x": np.zeros(4)}, {"y": np.zeros(4)}).correct(model)
    rule = made("scaffold").gradient_rule
    assert rule is not None
    weights = {"x": np.zeros(4, np.float32)}
    with pytest.raises(WeightsRefused, match="the server's memory"):
        rule(weights=weights, memory={}, site_memory={})
    with pytest.raises(WeightsRefused, match="the site's memory"):
        rule(weights=weights, memory={"control/x": weights["x"]}, site_memory={"x": weights["x"]})
