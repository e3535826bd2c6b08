"""FedProx: its literal twin, its gradient, and FedAvg where mu is zero."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from minet_core.algorithms.fedavg import FEDAVG
from minet_core.errors import InvalidSetting, WeightsRefused
from minet_core.training.gradient_rules import Proximal
from tests.oracles.federated_algorithms import fedprox_round
from tests.support.least_squares import LeastSquares, TrainingSite, made, make_sites


def test_rounds_are_those_of_the_literal_algorithm() -> None:
    sites = make_sites()
    clients = [TrainingSite(f"s{n}", site, {}) for n, site in enumerate(sites)]
    algorithm = made("fedprox", proximal_mu=0.5)
    literal = np.zeros(4)
    state = algorithm.init({"x": np.zeros(4, np.float32)})
    for _ in range(6):
        literal = fedprox_round(literal, sites, n_steps=5, rate=0.05, mu=0.5)
        state, _ = algorithm.apply(state, [c.train(algorithm, state, n_steps=5, rate=0.05) for c in clients])
        # As for FedAvg: 30 steps of some 20 roundings of numbers near 3.
        np.testing.assert_allclose(state.weights["x"], literal, rtol=0, atol=30 * 20 * 2**-24)


def test_with_mu_zero_it_is_fedavg_to_the_byte() -> None:
    algorithm = made("fedprox", proximal_mu=0.0)
    states = [a.init({"x": np.full(4, 0.3, np.float32)}) for a in (algorithm, FEDAVG)]
    for _ in range(3):
        for n, used in enumerate((algorithm, FEDAVG)):
            clients = [TrainingSite(f"s{k}", site, {}) for k, site in enumerate(make_sites())]
            replies = [client.train(used, states[n], n_steps=4, rate=0.05) for client in clients]
            states[n], _ = used.apply(states[n], replies)
        assert states[0].weights["x"].tobytes() == states[1].weights["x"].tobytes()


def test_the_term_is_the_gradient_of_half_mu_times_the_squared_distance() -> None:
    site, anchor = make_sites()[0], np.array([1, -2, 0.5, 3], dtype=np.float64)
    model = LeastSquares(site, torch.float64)
    with torch.no_grad():
        model.x.copy_(torch.tensor([0.3, 0.1, -0.7, 2.0]))
    (model() + 0.7 / 2 * ((model.x - torch.from_numpy(anchor)) ** 2).sum()).backward()
    expected = model.x.grad.clone()
    model.zero_grad()
    model().backward()
    Proximal(0.7, {"x": anchor}).correct(model)
    # Two sums of float64 terms in another order.
    torch.testing.assert_close(model.x.grad, expected, rtol=1e-14, atol=1e-14)


def test_the_anchor_is_that_of_the_first_step() -> None:
    """The weights that the server sent are a copy: an array changed in place does not move the anchor."""
    model, anchor = LeastSquares(make_sites()[0]), {"x": np.ones(4, np.float32)}
    rule = Proximal(1.0, anchor)
    gradients = []
    for _ in range(2):
        model.zero_grad()
        model().backward()
        rule.correct(model)
        gradients.append(model.x.grad.clone())
        anchor["x"] += 5
    assert torch.equal(*gradients)


@pytest.mark.parametrize(
    "anchor", [{}, {"y": np.ones(4)}, {"x": np.ones(4), "y": np.ones(4)}, {"x": np.ones(1)}]
)
def test_an_anchor_of_another_model_is_refused(anchor: dict[str, np.ndarray]) -> None:
    model = LeastSquares(make_sites()[0])
    model().backward()
    with pytest.raises(WeightsRefused, match="the anchor"):
        Proximal(1.0, anchor).correct(model)


def test_a_parameter_without_a_gradient_is_refused() -> None:
    with pytest.raises(InvalidSetting, match="x learns and has no gradient"):
        Proximal(1.0, {"x": np.ones(4)}).correct(LeastSquares(make_sites()[0]))
