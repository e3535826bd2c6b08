"""The federated algorithms word by word, float64, for least squares at each site; plain gradient descent, full batch.

Site s has F_s(x) = |A_s x - b_s|^2 / (2 n_s), with n_s rows; p_s = n_s / sum n_s.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Site:
    """A: (n_s, dimension); b: (n_s,)."""

    A: NDArray[np.float64]
    b: Vector

    def gradient(self, x: Vector) -> Vector:
        return self.A.T @ (self.A @ x - self.b) / len(self.b)


def shares(sites: list[Site]) -> list[float]:
    total = sum(len(site.b) for site in sites)
    return [len(site.b) / total for site in sites]


def fedavg_round(x: Vector, sites: list[Site], *, n_steps: int, rate: float) -> Vector:
    """McMahan et al. 2017, Algorithm 1."""
    return fedprox_round(x, sites, n_steps=n_steps, rate=rate, mu=0.0)


def fedprox_round(x: Vector, sites: list[Site], *, n_steps: int, rate: float, mu: float) -> Vector:
    """Li et al. 2020, Algorithm 2, with n_steps steps for the inexact minimiser."""
    new_x = np.zeros_like(x)
    for p, site in zip(shares(sites), sites, strict=True):
        y = x.copy()
        for _ in range(n_steps):
            y = y - rate * (site.gradient(y) + mu * (y - x))
        new_x = new_x + p * y
    return new_x


def scaffold_round(
    x: Vector,
    c: Vector,
    c_of: list[Vector],
    sites: list[Site],
    *,
    asked: list[int],
    n_steps: int,
    rate: float,
    server_rate: float,
) -> tuple[Vector, Vector, list[Vector]]:
    """Karimireddy et al. 2020, Algorithm 1, option II; `asked` are the sites of this round."""
    p = shares([sites[i] for i in asked])
    moved, changed = np.zeros_like(x), np.zeros_like(x)
    c_new = list(c_of)
    for p_i, i in zip(p, asked, strict=True):
        y = x.copy()
        for _ in range(n_steps):
            y = y - rate * (sites[i].gradient(y) - c_of[i] + c)
        c_new[i] = c_of[i] - c + (x - y) / (n_steps * rate)
        moved = moved + p_i * (y - x)
        changed = changed + p_i * (c_new[i] - c_of[i])
    return x + server_rate * moved, c + len(asked) / len(sites) * changed, c_new


def fedadam_step(
    x: Vector,
    m: Vector,
    v: Vector,
    trained: list[Vector],
    p: list[float],
    *,
    rate: float,
    beta1: float,
    beta2: float,
    tau: float,
) -> tuple[Vector, Vector, Vector]:
    """Reddi et al. 2021, Algorithm 2; `trained` are the sites' weights after their local steps."""
    delta = sum((p_i * (y - x) for p_i, y in zip(p, trained, strict=True)), start=np.zeros_like(x))
    m = beta1 * m + (1 - beta1) * delta
    v = beta2 * v + (1 - beta2) * delta**2
    return x + rate * m / (np.sqrt(v) + tau), m, v
