"""Federated averaging beside its literal twin."""

from __future__ import annotations

import numpy as np

from minet_core.algorithms.fedavg import FEDAVG
from tests.oracles.federated_algorithms import fedavg_round
from tests.support.least_squares import TrainingSite, make_sites


def test_rounds_are_those_of_the_literal_algorithm() -> None:
    sites = make_sites()
    clients = [TrainingSite(f"s{n}", site, {}) for n, site in enumerate(sites)]
    literal = np.zeros(4)
    state = FEDAVG.init({"x": np.zeros(4, np.float32)})
    for _ in range(6):
        literal = fedavg_round(literal, sites, n_steps=5, rate=0.05)
        state, _ = FEDAVG.apply(state, [c.train(FEDAVG, state, n_steps=5, rate=0.05) for c in clients])
        # 30 steps, each with some 20 roundings of numbers near 3 to float32, and none is amplified.
        np.testing.assert_allclose(state.weights["x"], literal, rtol=0, atol=30 * 20 * 2**-24)
