"""The names of an algorithm's own tensors: "PREFIX/NAME" beside the weight NAME. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence

CONTROL = "control"
"""Prefix of SCAFFOLD's control variates."""


def memory_names(prefix: str, names: Sequence[str]) -> list[str]:
    """The names of an algorithm's own tensors.

    Parameters
    ----------
    prefix
        What they are, such as "control".
    names
        Of the weights that they belong to.

    Returns
    -------
    list of str
        "control/head.weight" for "head.weight", in the order of `names`.
    """
    return [f"{prefix}/{name}" for name in names]
