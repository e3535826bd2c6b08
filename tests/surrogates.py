"""The real scans that stand in for a site's; a `surrogate` test skips where this machine has not got them."""

from __future__ import annotations

from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "shared" / "data" / "open_ms"


def surrogate_folder(name: str) -> Path:
    """The folder of real scans called `name` ("clinical", "brain_1mm"); skips the test where it is absent."""
    folder = FOLDER / name
    if not folder.is_dir():
        pytest.skip(f"the real scans are not on this machine: no folder {folder}")
    return folder
