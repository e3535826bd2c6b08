"""Random generators derived from what they are for: (experiment seed, round, site, purpose).

Two generators of different purposes are independent, and neither depends on what was drawn before it.
"""

from __future__ import annotations

import hashlib

import numpy as np
import torch


def derived_seed(seed: int, *parts: str | int) -> int:
    """A 63-bit seed from the experiment's seed and what the numbers are for."""
    text = "\x1f".join([str(seed), *(f"{type(part).__name__}:{part}" for part in parts)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def torch_generator(seed: int, *parts: str | int) -> torch.Generator:
    """A torch generator on the CPU for one purpose."""
    return torch.Generator().manual_seed(derived_seed(seed, *parts))


def numpy_generator(seed: int, *parts: str | int) -> np.random.Generator:
    """A numpy generator for one purpose."""
    return np.random.default_rng(derived_seed(seed, *parts))
