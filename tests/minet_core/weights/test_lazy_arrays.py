"""A safetensors file as a lazy mapping."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from minet_core.errors import FileMissing, WeightsRefused
from minet_core.weights import lazy_arrays
from minet_core.weights.lazy_arrays import StoredArrays, check_stored
from minet_core.weights.manifest import WeightManifest
from minet_core.weights.payload import DTYPES, pack, save_parcel

ARRAYS = {
    "weights/b": np.arange(6, dtype=np.float32).reshape(2, 3),
    "weights/a": np.array(2.5, dtype=np.float32),
    "control/b": np.ones((2, 3), dtype=np.float32),
    "count": np.array([2**60 + 1]),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    save_parcel(tmp_path / "stored.safetensors", ARRAYS)
    return tmp_path / "stored.safetensors"


def test_every_tensor_comes_back_and_names_are_sorted(path: Path) -> None:
    stored = StoredArrays(path)
    assert list(stored) == sorted(ARRAYS)
    assert len(stored) == 4
    for name, array in ARRAYS.items():
        assert (stored[name].shape, stored[name].dtype) == (array.shape, array.dtype)
        assert stored[name].tobytes() == array.tobytes()
    with pytest.raises(KeyError):
        stored["patient"]


def test_a_prefix_shows_its_tensors_without_it(path: Path) -> None:
    weights = StoredArrays(path, prefix="weights/")
    assert list(weights) == ["a", "b"]
    np.testing.assert_array_equal(weights["b"], ARRAYS["weights/b"])
    assert "b" in weights
    assert "weights/b" not in weights
    assert list(StoredArrays(path, prefix="nothing/")) == []


@pytest.mark.parametrize("dtype", sorted(DTYPES))
@pytest.mark.parametrize("shape", [(), (1,), (2, 0), (3, 1, 2)])
def test_the_manifest_is_that_of_the_arrays(tmp_path: Path, dtype: str, shape: tuple[int, ...]) -> None:
    arrays = {"a": np.ones(shape, dtype=dtype)}
    save_parcel(tmp_path / "x", arrays)
    assert StoredArrays(tmp_path / "x").manifest() == WeightManifest.of(arrays)


def test_the_manifest_and_the_names_are_read_without_a_tensor(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_tensor(*_arguments: Any, **_options: Any) -> Any:
        raise AssertionError("a tensor was read")

    monkeypatch.setattr(lazy_arrays.os, "preadv", no_tensor)
    stored = StoredArrays(path, prefix="weights/")
    assert stored.manifest().entries == (("a", (), "float32"), ("b", (2, 3), "float32"))
    assert "a" in stored
    with pytest.raises(AssertionError, match="a tensor was read"):
        stored["a"]


def test_a_stored_tensor_is_its_own_and_outlives_the_file(path: Path) -> None:
    array = StoredArrays(path)["weights/b"]
    path.write_bytes(b"")
    np.testing.assert_array_equal(array, ARRAYS["weights/b"])


def test_a_whole_file_passes_its_check_and_can_be_packed_again(path: Path) -> None:
    manifest = WeightManifest.of(ARRAYS)
    stored = check_stored(path, manifest)
    assert pack(stored).tobytes() == path.read_bytes()
    assert pack(stored, manifest=stored.manifest()).tobytes() == path.read_bytes()


@pytest.mark.parametrize("change", ["missing", "extra", "shape", "dtype", "value"])
def test_a_file_that_differs_from_the_manifest_is_refused(tmp_path: Path, change: str) -> None:
    arrays = dict(ARRAYS)
    if change == "missing":
        del arrays["count"]
    elif change == "value":
        arrays["weights/b"] = np.full((2, 3), np.nan, dtype=np.float32)
    else:
        name = "patient" if change == "extra" else "weights/b"
        arrays[name] = {"extra": np.ones(1), "shape": np.ones(6, "f4"), "dtype": np.ones((2, 3))}[change]
    save_parcel(tmp_path / "x", arrays)
    with pytest.raises(WeightsRefused, match="not finite" if change == "value" else "manifest"):
        check_stored(tmp_path / "x", WeightManifest.of(ARRAYS))


@pytest.mark.parametrize("cut", [0, 7, 40, -1])
def test_a_truncated_file_is_refused(path: Path, cut: int) -> None:
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(WeightsRefused, match="not a whole safetensors file"):
        StoredArrays(path)


def test_a_file_that_is_gone_or_changed_since_is_refused(path: Path) -> None:
    stored = StoredArrays(path)
    save_parcel(path, {"other": np.ones(1)})
    with pytest.raises(WeightsRefused, match="FM-M302"):
        stored["count"]
    path.unlink()
    with pytest.raises(FileMissing):
        stored["count"]
    with pytest.raises(FileMissing):
        StoredArrays(path)


def test_a_number_type_that_does_not_travel_is_refused(tmp_path: Path) -> None:
    safetensors.numpy.save_file({"a": np.ones(1, np.complex64)}, tmp_path / "x")
    with pytest.raises(WeightsRefused, match="number type"):
        StoredArrays(tmp_path / "x").manifest()
