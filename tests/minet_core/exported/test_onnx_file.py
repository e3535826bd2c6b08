"""Exported models: one file, torch's pictures at every size, what the file says of itself, and docs/export.md."""

from __future__ import annotations

import builtins
import hashlib
import json
import logging
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx.external_data_helper import uses_external_data

from minet_core.checkpoint import load_model, save_checkpoint
from minet_core.checkpoint_manifest import describe
from minet_core.errors import CheckpointInvalid, ConfigurationError, FileMissing, InvalidSetting, ModelError
from minet_core.evaluation.inference import super_resolve
from minet_core.exported import onnx_runtime
from minet_core.exported.onnx_file import (
    INPUTS,
    SEAL,
    SEAL_BYTES,
    WITHOUT_FORM,
    export_onnx,
    metadata_entry,
    sealed,
)
from minet_core.exported.onnx_runtime import load_onnx_model
from minet_core.models.architectures import SETTINGS_OF
from minet_core.models.minet.multi_stage_integration import MultiStageIntegration
from minet_core.models.registry import MODELS, build_model
from minet_core.runtime.files.atomic_write import sha256_of_file
from minet_core.settings.federation import ModelSettings
from minet_core.weights.manifest import learnable
from tests.support.repository import ROOT

SMALL: dict[str, Any] = {"n_groups": 2, "n_blocks": 1, "n_features": 4, "reduction": 2}
TOLERANCE = 2e-5
"""Of images of order one in float32: a sum of some hundred products in another order errs by 1e-6, and the softmax of
ten times a cosine by ten times as much."""
PAGE = (ROOT / "docs" / "export.md").read_text(encoding="utf-8")
BLOCKS = dict(re.findall(r"```python (\S+)\n(.*?)```", PAGE, re.DOTALL))
SIZES = ((1, 8, 8), (1, 13, 9), (2, 7, 16), (3, 31, 20), (1, 1, 5))
"""(B, h, w), odd ones and others than the batch and frame that the exporter was shown."""


def make_checkpoint(path: Path, *, scale: int = 2, **settings: Any) -> Path:
    own = SETTINGS_OF[settings.get("architecture", "minet")]
    given = {**SMALL, **settings}
    taken = {"architecture", "members", *own}
    model_settings = ModelSettings(**{name: given[name] for name in given if name in taken})
    torch.manual_seed(4)
    tensors = learnable(build_model(model_settings.model_dump(), scale=scale))
    assert scale in (2, 4)
    manifest = describe(
        tensors, model=model_settings, scale=scale, round_number=3, provenance={"federation": "study"}
    )
    save_checkpoint(path, tensors, manifest)
    return path


class _Listener(logging.Handler):
    """What the exporter's registry of operators logs: torch's own handler writes it beside the command's lines."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []
        self.logger = logging.getLogger("torch.onnx._internal.exporter._registration")

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())


@pytest.fixture(scope="module")
def listener() -> Iterator[_Listener]:
    listener = _Listener()
    listener.logger.addHandler(listener)
    yield listener
    listener.logger.removeHandler(listener)


@pytest.fixture(scope="module")
def exported(
    tmp_path_factory: pytest.TempPathFactory, listener: _Listener
) -> tuple[Path, Path, dict[str, str]]:
    folder = tmp_path_factory.mktemp("exported")
    checkpoint = make_checkpoint(folder / "model.safetensors")
    return checkpoint, folder / "model.onnx", export_onnx(checkpoint, folder / "model.onnx")


def test_the_exporter_says_nothing_of_packages_that_no_model_needs(
    exported: tuple[Path, Path, Any], listener: _Listener
) -> None:
    assert exported[1].is_file()
    assert listener.said == []
    listener.logger.warning("after it, the logger is as it was")
    assert len(listener.said) == 1


def require_parity(checkpoint: Path, path: Path) -> None:
    torch_model, manifest = load_model(checkpoint)
    onnx_model, of_file = load_onnx_model(path)
    assert of_file == manifest
    for batch, h, w in SIZES:
        generator = torch.Generator().manual_seed(h)
        high = (batch, 1, manifest.scale * h, manifest.scale * w)
        inputs = [torch.randn(size, generator=generator) for size in ((batch, 1, h, w), high, high)]
        with torch.inference_mode():
            expected = torch_model(*inputs)[0]
        image, _ = onnx_model(*inputs)
        assert image.shape == expected.shape
        assert image.std() > 1000 * TOLERANCE  # there is something to agree on
        assert float((image - expected).abs().max()) < TOLERANCE * float(expected.abs().max().clamp_min(1))


def test_the_file_gives_torchs_picture_at_every_size(exported: tuple[Path, Path, Any]) -> None:
    checkpoint, path, _ = exported
    require_parity(checkpoint, path)


def test_the_pages_example_makes_our_picture(
    exported: tuple[Path, Path, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint, path, _ = exported
    generator = np.random.default_rng(2)
    low_res = 900 + 200 * generator.standard_normal((12, 18)).astype(np.float32)
    low_res[3, 4] = 9000  # beyond the clamp
    reference = 40 * generator.random((24, 36), np.float32)
    namespace: dict[str, Any] = {"low_res": low_res, "reference": reference}
    monkeypatch.chdir(path.parent)
    for block in ("slice", "run"):
        exec(compile(BLOCKS[block], f"docs/export.md:{block}", "exec"), namespace)
    expected = super_resolve(load_model(checkpoint)[0], low_res[None], reference[None], scale=2)[0]
    assert expected.std() > 100
    np.testing.assert_allclose(namespace["picture"], expected, atol=TOLERANCE * float(expected.max()))


@pytest.mark.long
@pytest.mark.parametrize("scale", [2, 4])
@pytest.mark.parametrize("architecture", sorted(MODELS.keys() - WITHOUT_FORM))
def test_every_method_is_exported(architecture: str, scale: int, tmp_path: Path) -> None:
    settings = {"architecture": architecture, "bicubic_skip": False}
    checkpoint = make_checkpoint(tmp_path / "model.safetensors", scale=scale, **settings)
    export_onnx(checkpoint, tmp_path / "model.onnx")
    require_parity(checkpoint, tmp_path / "model.onnx")


@pytest.mark.long
def test_an_ensemble_is_exported_as_one_network(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "model.safetensors", members=2)
    export_onnx(checkpoint, tmp_path / "model.onnx")
    require_parity(checkpoint, tmp_path / "model.onnx")


@pytest.mark.long
@pytest.mark.parametrize("scale", [2, 4])
def test_a_model_that_aligns_its_reference_is_exported(scale: int, tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "model.safetensors", scale=scale, align_reference=True)
    export_onnx(checkpoint, tmp_path / "model.onnx")
    require_parity(checkpoint, tmp_path / "model.onnx")


def test_one_file_holds_all_and_no_place_of_this_machine(exported: tuple[Path, Path, Any]) -> None:
    _, path, _ = exported
    assert sorted(one.name for one in path.parent.iterdir()) == ["model.onnx", "model.safetensors"]
    content = onnx.load(path, load_external_data=False)
    onnx.checker.check_model(content, full_check=True)
    assert not any(uses_external_data(tensor) for tensor in content.graph.initializer)
    text = path.read_bytes()
    assert b".py" not in text
    assert str(Path(__file__).parents[3]).encode() not in text


def test_the_metadata_says_what_a_caller_must_know(exported: tuple[Path, Path, dict[str, str]]) -> None:
    checkpoint, path, metadata = exported
    found = {one.key: one.value for one in onnx.load(path).metadata_props}
    assert found == metadata
    assert (found["scale"], found["clamp"], found["model_sha256"]) == ("2", "6.0", sha256_of_file(checkpoint))
    assert "not for diagnosis" in found["use"]
    assert tuple(json.loads(found["contrasts"])) == INPUTS
    assert found["fedminet_version"]
    assert found[SEAL] == hashlib.sha256(path.read_bytes()[:-SEAL_BYTES]).hexdigest()


def test_formed_features_are_the_mixed_weights_by_another_road() -> None:
    torch.manual_seed(0)
    module = MultiStageIntegration(4, n_features=3, similarity="cosine").double()
    stored = [torch.randn(2, 3, 9, 7, dtype=torch.float64) for _ in range(4)]
    assert torch.allclose(module.with_fixed_weights(stored), module(stored), rtol=1e-10, atol=1e-12)


def test_a_method_with_a_fourier_transform_is_refused(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "model.safetensors", architecture="smore")
    with pytest.raises(InvalidSetting, match="cannot be exported; got smore"):
        export_onnx(checkpoint, tmp_path / "model.onnx")
    assert not (tmp_path / "model.onnx").exists()


def test_a_name_that_is_not_in_onnx_is_refused(exported: tuple[Path, Path, Any], tmp_path: Path) -> None:
    with pytest.raises(InvalidSetting, match=r"a name in \.onnx"):
        export_onnx(exported[0], tmp_path / "model.safetensors")


def test_what_is_no_exported_model_is_refused(exported: tuple[Path, Path, Any], tmp_path: Path) -> None:
    with pytest.raises(FileMissing):
        load_onnx_model(tmp_path / "none.onnx")
    whole, broken = exported[1].read_bytes(), tmp_path / "broken.onnx"
    broken.write_bytes(sealed(whole[: len(whole) // 2]))
    with pytest.raises(CheckpointInvalid, match="no ONNX file that can be run"):
        load_onnx_model(broken)
    content = onnx.load(exported[1])
    manifest = next(one for one in content.metadata_props if one.key == "manifest")
    without = onnx.load(exported[1])
    del without.metadata_props[:]
    broken.write_bytes(
        sealed(without.SerializeToString() + metadata_entry("manifest", "@@").replace(b"@@", b"\xff\xff"))
    )
    with pytest.raises(CheckpointInvalid, match="no ONNX file that can be run"):  # a text that is none
        load_onnx_model(broken)
    manifest.value = manifest.value.replace("study", "other")
    broken.write_bytes(sealed(content.SerializeToString()))
    with pytest.raises(CheckpointInvalid, match="was changed"):
        load_onnx_model(broken)
    content.metadata_props.remove(manifest)
    broken.write_bytes(sealed(content.SerializeToString()))
    with pytest.raises(CheckpointInvalid, match="has no manifest"):
        load_onnx_model(broken)


def test_no_byte_of_a_changed_file_comes_to_the_runtime(
    exported: tuple[Path, Path, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnxruntime

    def not_to_be_called(*_given: object, **_more: object) -> None:
        raise AssertionError("ONNX Runtime was given the file")

    whole, changed = exported[1].read_bytes(), tmp_path / "changed.onnx"
    assert load_onnx_model(exported[1])
    monkeypatch.setattr(onnxruntime, "InferenceSession", not_to_be_called)
    places = (0, 1, len(whole) // 2, len(whole) - SEAL_BYTES, len(whole) - 65, len(whole) - 1)
    for content in (b"", whole[:-1], whole[1:], whole + b"\0", whole[:-SEAL_BYTES], whole[-SEAL_BYTES:]):
        changed.write_bytes(content)
        with pytest.raises(CheckpointInvalid, match="was changed since"):
            load_onnx_model(changed)
    for place in places:
        changed.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(CheckpointInvalid, match="was changed since"):
            load_onnx_model(changed)
    monkeypatch.setattr(onnx_runtime, "MAX_BYTES", len(whole) - 1)
    with pytest.raises(CheckpointInvalid, match="at most"):
        load_onnx_model(exported[1])


@pytest.mark.parametrize("length", [1, 127, 128, 16383, 16384, 300_000])
def test_an_entry_behind_the_model_is_read_as_one_of_its_own(length: int) -> None:
    own, behind = onnx.ModelProto(), onnx.ModelProto(ir_version=8)
    behind.metadata_props.add(key="first", value="é")
    own.ParseFromString(behind.SerializeToString() + metadata_entry("second", "x" * length))
    behind.metadata_props.add(key="second", value="x" * length)
    assert own == behind


def test_a_file_beside_the_model_is_not_read(
    exported: tuple[Path, Path, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model's file may name another file for its weights: nothing but what was given is opened."""
    content = onnx.load(exported[1])
    onnx.save(
        content, tmp_path / "outside.onnx", save_as_external_data=True, location="weights", size_threshold=0
    )
    monkeypatch.chdir(tmp_path)
    assert (tmp_path / "weights").is_file()
    outside = tmp_path / "outside.onnx"
    outside.write_bytes(sealed(outside.read_bytes()))
    with pytest.raises(CheckpointInvalid, match="no ONNX file that can be run"):
        load_onnx_model(outside)


def test_shapes_that_do_not_fit_are_refused(exported: tuple[Path, Path, Any]) -> None:
    model, _ = load_onnx_model(exported[1])
    low_res, high_res = torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 16, 16)
    with pytest.raises(ModelError, match="could not be run"):
        model(low_res, high_res[..., :14], high_res)


@pytest.mark.parametrize(
    ("missing", "words"), [("onnxscript", "ONNX is not"), ("onnxruntime", "ONNX Runtime is not")]
)
def test_a_missing_extra_is_named(
    missing: str,
    words: str,
    exported: tuple[Path, Path, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = builtins.__import__

    def without(name: str, *given: Any, **more: Any) -> Any:
        if name == missing:
            raise ImportError(name=missing)
        return whole(name, *given, **more)

    monkeypatch.delitem(sys.modules, missing, raising=False)
    monkeypatch.setattr(builtins, "__import__", without)
    call = {
        "onnxscript": lambda: export_onnx(exported[0], tmp_path / "model.onnx"),
        "onnxruntime": lambda: load_onnx_model(exported[1]),
    }[missing]
    with pytest.raises(ConfigurationError, match=rf"{words}.*fedminet\[onnx\]"):
        call()
