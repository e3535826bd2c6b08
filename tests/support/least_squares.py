"""Least squares at each site for the real algorithms: a module with one parameter, trained by gradient descent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from weakref import finalize

import numpy as np
import torch
from torch import Tensor, nn

from minet_core.algorithms.interface import Reply, ServerState
from minet_core.algorithms.registry import Algorithm, make_algorithm
from minet_core.settings.algorithm import AlgorithmSettings
from minet_core.settings.yaml_file import parse_settings
from minet_core.weights.manifest import Arrays, learnable, load_weights
from tests.oracles.federated_algorithms import Site

SETTINGS: dict[str, Any] = {
    "n_sites": 3,
    "proximal_mu": 0.5,
    "server_learning_rate": 0.7,
    "beta1": 0.9,
    "beta2": 0.99,
    "tau": 1e-3,
    "personal": ("head.",),
}


def made(name: str, **settings: Any) -> Algorithm:
    """An algorithm by the settings of a file; no share of a site is bounded."""
    content = {"name": name, "max_share": 1.0, **SETTINGS, **settings}
    n_sites = content.pop("n_sites")
    return make_algorithm(parse_settings(content, AlgorithmSettings, source="the trial"), n_sites=n_sites)


def make_sites(dimension: int = 4, n_rows: tuple[int, ...] = (6, 9, 15)) -> list[Site]:
    """Sites that disagree: each with its own design and its own solution."""
    generator = np.random.default_rng(7)
    return [
        Site(A=generator.normal(size=(n, dimension)), b=generator.normal(size=n) + 2 * number)
        for number, n in enumerate(n_rows)
    ]


class LeastSquares(nn.Module):
    """|A x - b|^2 / (2 n) of the parameter x, in float32 unless told otherwise."""

    def __init__(self, site: Site, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.x = nn.Parameter(torch.zeros(site.A.shape[1], dtype=dtype))
        self.A, self.b = torch.from_numpy(site.A).to(dtype), torch.from_numpy(site.b).to(dtype)

    def forward(self) -> Tensor:
        return ((self.A @ self.x - self.b) ** 2).sum() / (2 * len(self.b))


@dataclass
class TrainingSite:
    """A site with its memory, as a client would run it."""

    name: str
    site: Site
    memory: Arrays

    def train(self, algorithm: Algorithm, state: ServerState, *, n_steps: int, rate: float) -> Reply:
        model = LeastSquares(self.site)
        load_weights(model, state.weights)
        rule = None
        if algorithm.gradient_rule is not None:
            rule = algorithm.gradient_rule(
                weights=state.weights, memory=state.memory, site_memory=self.memory
            )
        optimizer = torch.optim.SGD(model.parameters(), lr=rate)
        for _ in range(n_steps):
            optimizer.zero_grad()
            model().backward()
            if rule is not None:
                rule.correct(model)
            optimizer.step()
        sent: Arrays = {}
        if rule is not None:
            self.memory, sent = rule.kept(), rule.sent()
        return Reply(self.name, len(self.site.b), learnable(model), sent)


class CountingArrays(Mapping[str, np.ndarray]):
    """A lazy mapping that makes a new array at each look and counts how many of its arrays are alive."""

    def __init__(self, arrays: Arrays, alive: list[int]) -> None:
        self._arrays = arrays
        self._alive = alive
        self.n_reads = 0

    def __getitem__(self, name: str) -> np.ndarray:
        array = np.array(self._arrays[name])
        self.n_reads += 1
        self._alive[0] += 1
        self._alive[1] = max(self._alive)
        finalize(array, self._gone)
        return array

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def _gone(self) -> None:
        self._alive[0] -= 1
