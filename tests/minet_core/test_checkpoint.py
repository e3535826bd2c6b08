"""Checkpoints: the same content gives the same bytes, and no damaged or mistaken file is loaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from minet_core.checkpoint import load_checkpoint, load_model, save_checkpoint
from minet_core.checkpoint_manifest import METADATA_KEY, CheckpointManifest, describe
from minet_core.errors import CheckpointInvalid, FileMissing
from minet_core.models.registry import build_model
from minet_core.settings.federation import ModelSettings
from minet_core.weights.manifest import learnable

SETTINGS = ModelSettings(n_groups=1, n_blocks=1, n_features=8, reduction=2)
PROVENANCE = {"federation": "ab" * 32, "fedminet": "0.1.0"}


def make_weights(seed: int = 0, settings: ModelSettings = SETTINGS) -> dict[str, np.ndarray[Any, Any]]:
    torch.manual_seed(seed)
    return learnable(build_model(settings.model_dump(), scale=2))


def describe_weights(weights: Any, **changes: Any) -> CheckpointManifest:
    facts: dict[str, Any] = {"model": SETTINGS, "scale": 2, "round_number": 3, "provenance": PROVENANCE}
    return describe(weights, **{**facts, **changes})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    weights = make_weights()
    save_checkpoint(tmp_path / "round.safetensors", weights, describe_weights(weights))
    return tmp_path / "round.safetensors"


def rewrite(path: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str] | None) -> None:
    """A well-formed safetensors file with other contents."""
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, metadata=metadata)


def metadata_of(path: Path) -> dict[str, str]:
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        header: dict[str, Any] = json.loads(stream.read(length))
    found: dict[str, str] = header["__metadata__"]
    return found


def test_what_was_saved_is_loaded(path: Path) -> None:
    tensors, manifest = load_checkpoint(path)
    expected = make_weights()
    assert tensors.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(tensors[name].numpy(), array)
    assert (manifest.round_number, manifest.scale, manifest.model) == (3, 2, SETTINGS)
    assert manifest.provenance == PROVENANCE


def test_the_same_content_gives_the_same_bytes_in_whatever_order_it_comes(path: Path) -> None:
    weights = make_weights()
    backwards = {name: torch.from_numpy(weights[name]) for name in reversed(weights)}
    shuffled = dict(reversed(PROVENANCE.items()))
    again = path.with_name("again.safetensors")
    save_checkpoint(again, backwards, describe_weights(backwards, provenance=shuffled))
    assert again.read_bytes() == path.read_bytes()


def test_loaded_model_computes_what_the_saved_one_did(path: Path) -> None:
    torch.manual_seed(0)
    saved = build_model(SETTINGS.model_dump(), scale=2).eval()
    loaded, _ = load_model(path)
    assert not loaded.training
    generator = torch.Generator().manual_seed(1)
    low_res = torch.randn(1, 1, 6, 6, generator=generator)
    reference = torch.randn(1, 1, 12, 12, generator=generator)
    for left, right in zip(loaded(low_res, reference), saved(low_res, reference), strict=True):
        # channels_last sums in another order: some 1e3 terms in float32.
        torch.testing.assert_close(left, right, rtol=1e-4, atol=1e-5)


def test_a_failed_write_leaves_the_former_checkpoint(path: Path) -> None:
    before = path.read_bytes()
    other = make_weights(seed=1)
    with pytest.raises(CheckpointInvalid):
        save_checkpoint(path, other, describe_weights(make_weights()))
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileMissing, match=r"absent\.safetensors"):
        load_checkpoint(tmp_path / "absent.safetensors")


@pytest.mark.parametrize("kept", [0, 4, 100, -1])
def test_a_truncated_file_is_refused(path: Path, kept: int) -> None:
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(CheckpointInvalid, match="FM-M301"):
        load_checkpoint(path)


def test_a_file_of_another_format_is_refused(path: Path) -> None:
    path.write_bytes(b"PK\x03\x04" + bytes(400))
    with pytest.raises(CheckpointInvalid, match="not a whole safetensors file"):
        load_checkpoint(path)


def test_one_flipped_bit_of_a_weight_is_found(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(CheckpointInvalid, match="is not what the manifest says"):
        load_checkpoint(path)


def test_two_swapped_tensors_are_found(path: Path) -> None:
    tensors, metadata = load_file(path), metadata_of(path)
    first, second = "reference_branch.0.last.weight", "target_branch.0.last.weight"
    tensors[first], tensors[second] = tensors[second], tensors[first]
    rewrite(path, tensors, metadata)
    with pytest.raises(CheckpointInvalid, match="is not what the manifest says"):
        load_checkpoint(path)


def test_a_missing_or_an_added_tensor_is_found(path: Path) -> None:
    tensors, metadata = load_file(path), metadata_of(path)
    rewrite(path, {**tensors, "extra": torch.zeros(1)}, metadata)
    with pytest.raises(CheckpointInvalid, match="extra"):
        load_checkpoint(path)
    tensors.pop("target_head.0.bias")
    rewrite(path, tensors, metadata)
    with pytest.raises(CheckpointInvalid, match=r"target_head\.0\.bias"):
        load_checkpoint(path)


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}])
def test_a_file_without_a_manifest_is_refused(path: Path, metadata: dict[str, str] | None) -> None:
    rewrite(path, load_file(path), metadata)
    with pytest.raises(CheckpointInvalid, match="has no manifest"):
        load_checkpoint(path)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"manifest": {"scale": 2}, "sha256": ""}', "null"])
def test_a_malformed_manifest_is_refused(path: Path, text: str) -> None:
    rewrite(path, load_file(path), {METADATA_KEY: text})
    with pytest.raises(CheckpointInvalid, match="unreadable manifest"):
        load_checkpoint(path)


def test_a_changed_manifest_is_refused(path: Path) -> None:
    """The switch changes no shape, so only the manifest's own digest can tell."""
    content = json.loads(metadata_of(path)[METADATA_KEY])
    content["manifest"]["model"]["bicubic_skip"] = False
    rewrite(path, load_file(path), {METADATA_KEY: json.dumps(content)})
    with pytest.raises(CheckpointInvalid, match="was changed"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    "settings",
    [
        SETTINGS.model_copy(update={"n_features": 16}),
        SETTINGS.model_copy(update={"use_reference": False}),
        SETTINGS.model_copy(update={"integration": "raw"}),
        SETTINGS.model_copy(update={"n_groups": 2}),
    ],
)
def test_weights_under_the_settings_of_another_model_are_refused(path: Path, settings: ModelSettings) -> None:
    weights = make_weights()
    save_checkpoint(path, weights, describe_weights(weights, model=settings))
    with pytest.raises(CheckpointInvalid, match="does not hold the model"):
        load_model(path)


def test_weights_of_another_scale_are_refused(path: Path) -> None:
    weights = make_weights()
    save_checkpoint(path, weights, describe_weights(weights, scale=4))
    with pytest.raises(CheckpointInvalid, match="does not hold the model"):
        load_model(path)


def test_weights_that_are_not_finite_are_refused(path: Path) -> None:
    weights = make_weights()
    weights["target_head.0.bias"][0] = np.nan
    save_checkpoint(path, weights, describe_weights(weights))
    with pytest.raises(CheckpointInvalid, match="does not hold the model"):
        load_model(path)


@pytest.mark.parametrize("dimensions", [9, 65])
def test_a_tensor_of_more_dimensions_than_a_model_has_is_refused(path: Path, dimensions: int) -> None:
    tensors, metadata = load_file(path), metadata_of(path)
    name = next(name for name, tensor in tensors.items() if tensor.ndim == 1)
    tensors[name] = tensors[name].reshape(*([1] * (dimensions - 1)), -1)
    rewrite(path, tensors, metadata)
    with pytest.raises(CheckpointInvalid, match=f"{dimensions} dimensions"):
        load_checkpoint(path)
