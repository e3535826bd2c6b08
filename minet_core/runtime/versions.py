"""The versions a result depends on."""

from __future__ import annotations

import functools
import platform

DISTRIBUTIONS = ("fedminet", "torch", "flwr", "numpy", "scikit-image", "h5py", "nibabel", "SimpleITK")


def versions() -> dict[str, str]:
    """Version by name, of Python and of the distributions that touch a figure.

    Returns
    -------
    dict of str
        "python" and `DISTRIBUTIONS`.
    """
    return {"python": platform.python_version(), **_installed()}


@functools.cache
def _installed() -> dict[str, str]:
    """Looked up once a process: each look reads the distribution's metadata, 50 ms in all."""
    from importlib.metadata import version  # a tenth of the start of a command that never asks

    return {name: version(name) for name in DISTRIBUTIONS}


def version_line() -> str:
    """The versions a result depends on, on one line.

    Returns
    -------
    str
        "NAME VERSION", commas between them.
    """
    return ", ".join(f"{name} {number}" for name, number in versions().items())
