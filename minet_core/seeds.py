"""Random generators derived from what they are for: (experiment seed, round, site, purpose).

Two generators of different purposes are independent, and neither depends on what was drawn before it.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import torch


def derived_seed(seed: int, *parts: str | int) -> int:
    """A seed from the experiment's seed and what the numbers are for.

    Parameters
    ----------
    seed
        The experiment's.
    *parts
        What the numbers are for, such as round, site and purpose; 1 and "1" are not the same.

    Returns
    -------
    int
        63 bits.
    """
    text = "\x1f".join([str(seed), *(f"{type(part).__name__}:{part}" for part in parts)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def torch_generator(seed: int, *parts: str | int) -> torch.Generator:
    """A torch generator for one purpose.

    Parameters
    ----------
    seed, *parts
        As in `derived_seed`.

    Returns
    -------
    torch.Generator
        On the CPU.
    """
    import torch  # here alone: whoever asks for a seed draws a split or makes phantoms, and loads no torch

    return torch.Generator().manual_seed(derived_seed(seed, *parts))


def numpy_generator(seed: int, *parts: str | int) -> np.random.Generator:
    """A numpy generator for one purpose.

    Parameters
    ----------
    seed, *parts
        As in `derived_seed`.

    Returns
    -------
    numpy.random.Generator
        The same for the same arguments.
    """
    import numpy as np  # likewise: a split needs no numpy

    return np.random.default_rng(derived_seed(seed, *parts))
