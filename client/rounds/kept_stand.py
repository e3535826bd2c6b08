"""Where a training stands that a site makes by itself, on its own disk: one file, there whole or not."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from minet_core.errors import StoreDamaged
from minet_core.runtime.json_text import NOT_AS_WRITTEN, parse_json
from minet_core.training.phases import Stand
from minet_core.weights.lazy_arrays import StoredArrays
from minet_core.weights.manifest import Arrays
from minet_core.weights.payload import save_parcel

_METADATA = "fedminet"
_WEIGHTS, _MOMENTS = "weights/", "moments/"


@dataclass(frozen=True)
class KeptStand:
    """One training's file. key: of all that decides its bytes; a file of another key is as none."""

    path: Path
    key: str

    def read(self) -> Stand | None:
        """Where the training stands; None where it has not begun. Raises StoreDamaged (FM-D207)."""
        if not self.path.is_file():
            return None
        try:
            with safe_open(self.path, framework="np") as stored:
                page = parse_json((stored.metadata() or {})[_METADATA])
            key, n_steps = str(page["key"]), int(page["n_steps"])
        except (SafetensorError, *NOT_AS_WRITTEN) as failure:
            raise StoreDamaged(
                "what the site kept of a training is damaged",
                got=self.path,
                action="Remove it to train anew",
            ) from failure
        if key != self.key:
            return None
        # Read whole: the file is replaced while the training goes on.
        weights, moments = (_whole(StoredArrays(self.path, prefix=prefix)) for prefix in (_WEIGHTS, _MOMENTS))
        return Stand(n_steps, weights, moments)

    def keep(self, stand: Stand) -> None:
        """Replace the file, durably; what a killed process left half written is removed."""
        arrays: dict[str, NDArray[Any]] = {f"{_WEIGHTS}{name}": stand.weights[name] for name in stand.weights}
        arrays |= {f"{_MOMENTS}{name}": stand.moments[name] for name in stand.moments}
        page = {"key": self.key, "n_steps": stand.n_steps}
        save_parcel(self.path, arrays, metadata={_METADATA: json.dumps(page)})
        for half in self.path.parent.glob(f".{self.path.name}*.partial"):
            half.unlink()


def _whole(arrays: Arrays) -> dict[str, NDArray[Any]]:
    return {name: np.array(arrays[name], copy=True) for name in arrays}
