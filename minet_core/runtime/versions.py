"""The versions a result depends on."""

from __future__ import annotations

import platform
from importlib.metadata import version

DISTRIBUTIONS = ("fedminet", "torch", "flwr", "numpy", "scikit-image", "h5py", "nibabel", "SimpleITK")


def versions() -> dict[str, str]:
    """Version by name, of Python and of the distributions that touch a figure."""
    return {"python": platform.python_version(), **{name: version(name) for name in DISTRIBUTIONS}}


def version_line() -> str:
    """All of them on one line."""
    return ", ".join(f"{name} {number}" for name, number in versions().items())
