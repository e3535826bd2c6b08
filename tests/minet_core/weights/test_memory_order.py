"""Every writer of tensors stores the values of an array, whatever its order in memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from numpy.typing import NDArray

from client.rounds.round_cache import CachedRound, RoundCache
from minet_core.checkpoint import load_checkpoint, save_checkpoint
from minet_core.checkpoint_manifest import describe
from minet_core.settings.federation import ModelSettings
from minet_core.weights.lazy_arrays import StoredArrays
from minet_core.weights.manifest import WeightManifest
from minet_core.weights.payload import pack, save_parcel, unpack

BASE = np.arange(24, dtype=np.float32).reshape(2, 3, 4)

ORDERS: dict[str, NDArray[Any]] = {
    "C order": BASE,
    "Fortran order": np.asfortranarray(BASE),
    "transposed": BASE.T,
    "axes swapped": BASE.swapaxes(0, 2),
    "every other column": BASE[:, :, ::2],
    "a part": BASE[:, 1:, 1:3],
    "one column": BASE[..., 1],
    "backwards": BASE[:, ::-1],
    "wholly backwards": BASE[::-1, ::-1, ::-1],
    "broadcast": np.broadcast_to(np.arange(4, dtype=np.float32), (3, 4)),
    "broadcast scalar": np.broadcast_to(np.float32(2.5), (2, 2)),
    "big-endian": BASE.astype(">f4"),
    "big-endian Fortran order": np.asfortranarray(BASE.astype(">f8")),
    "of no dimension": np.array(3.5, np.float32),
    "big-endian of no dimension": np.array(3.5, ">f4"),
    "channels last": torch.arange(120.0).reshape(2, 3, 4, 5).to(memory_format=torch.channels_last).numpy(),
    "a window": np.lib.stride_tricks.sliding_window_view(np.arange(6, dtype=np.int64), 3),
    "of integers, Fortran order": np.asfortranarray(np.arange(6, dtype=np.int32).reshape(2, 3)),
}


def by_parcel(folder: Path, arrays: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    native = {name: array.astype(array.dtype.newbyteorder("=")) for name, array in arrays.items()}
    return unpack(pack(arrays), manifest=WeightManifest.of(native))


def by_file(folder: Path, arrays: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    save_parcel(folder / "a.safetensors", arrays)
    return dict(StoredArrays(folder / "a.safetensors"))


def by_kept_round(folder: Path, arrays: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    RoundCache(folder, "run").put(CachedRound(1, "abc", {"train_loss": 0.5}, answer=arrays, site=arrays))
    found = RoundCache(folder, "run").get(1)
    assert found is not None
    for name in arrays:
        np.testing.assert_array_equal(found.site[name], arrays[name])
    return dict(found.answer)


def by_checkpoint(folder: Path, arrays: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    manifest = describe(arrays, model=ModelSettings(), scale=2, round_number=1, provenance={})
    save_checkpoint(folder / "c.safetensors", arrays, manifest)
    return {name: tensor.numpy() for name, tensor in load_checkpoint(folder / "c.safetensors")[0].items()}


WRITERS = {"parcel": by_parcel, "file": by_file, "kept round": by_kept_round, "checkpoint": by_checkpoint}


@pytest.mark.parametrize("writer", sorted(WRITERS))
def test_values_survive_whatever_the_order_in_memory(tmp_path: Path, writer: str) -> None:
    write: Callable[[Path, dict[str, NDArray[Any]]], dict[str, NDArray[Any]]] = WRITERS[writer]
    found = write(tmp_path, ORDERS)
    assert set(found) == set(ORDERS)
    for name, array in ORDERS.items():
        assert found[name].shape == array.shape, name
        assert found[name].dtype == array.dtype.newbyteorder("="), name
        np.testing.assert_array_equal(found[name], array, err_msg=name)


def test_a_checkpoint_has_the_bytes_that_safetensors_gives_it(tmp_path: Path) -> None:
    arrays = {
        "b": np.arange(6, dtype=np.float32).reshape(2, 3),
        "a": np.ones(2, np.float64),
        "ä": np.ones(1, np.float32),
    }
    metadata = {"fedminet": '{"a": "ü\\n"}'}
    save_parcel(tmp_path / "ours", arrays, metadata=metadata)
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    assert (tmp_path / "ours").read_bytes() == safetensors.torch.save(tensors, metadata=metadata)
