"""A checkpoint as one ONNX file, weights inside, for programs that have no torch.

Inputs low_res (B, 1, h, w), reference and upsampled (B, 1, scale h, scale w), output image of the latter's shape, all
float32 and normalised; B, h and w are free. What stands around the network, the normalisation and the interpolation, is
the caller's: docs/export.md has it in numpy.

The file ends with one more entry of its metadata, the SHA-256 of all that stands before it: a seal. So damage is found
by comparing bytes, before any parser has seen them, and a program that does not know of it reads a file like any other.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from minet_core.checkpoint import load_model
from minet_core.checkpoint_manifest import CheckpointManifest, manifest_text
from minet_core.errors import ConfigurationError, InvalidSetting
from minet_core.imaging.interpolation import KEYS_A
from minet_core.models.base import SuperResolver
from minet_core.runtime.files.atomic_write import replacing, sha256_of_file
from minet_core.runtime.versions import versions
from minet_core.training.samples import CLAMP, MIN_STD_TO_MEAN

INPUTS = ("low_res", "reference", "upsampled")
OUTPUT = "image"
OPSET = 20
USE = "research output, not for diagnosis"
NORMALISATION = (
    "each slice alone. low_res: (slice - mean) / std, clamped to +-clamp. reference: by its own mean and std, clamped "
    "to +-clamp. upsampled: cubic convolution of the normalised low_res before the clamp, high-resolution sample "
    "scale * n is sample n, edges repeated, not clamped. std: of the population, at least min_std_to_mean * |mean|, 1 "
    "for zeros. The picture: image * std + mean of low_res, at least 0."
)
WITHOUT_FORM = {"smore"}
"""Methods whose layers take a Fourier transform back to real values: with free sides onnx's shape inference names the
output's side as the input's, and ONNX Runtime ends (findings/onnx-transform-of-free-length-has-its-inputs-shape.sh). In
a file without the shapes of the values between it ran; whether it does still hangs on the memory that it uses again."""
SEAL = "file_sha256"
MISSING = "Install it: pip install 'fedminet[onnx]'"


def export_onnx(checkpoint: Path, out: Path) -> dict[str, str]:
    """Write a checkpoint as an ONNX file.

    Parameters
    ----------
    checkpoint
        Of a model, `.safetensors`.
    out
        Of the file, `.onnx`; replaced where it is there, whole or not at all.

    Returns
    -------
    dict of str
        The file's metadata.

    Raises
    ------
    InvalidSetting
        FM-C102, where `out` is no name in .onnx, and for a method that cannot be exported (`WITHOUT_FORM`).
    ConfigurationError
        FM-C100, without the `onnx` extra.
    FileMissing, CheckpointInvalid
        As `minet_core.checkpoint.load_model`.
    """
    if out.suffix != ".onnx":
        raise InvalidSetting("the name of the exported model is wrong", got=out, expected="a name in .onnx")
    model, manifest = load_model(checkpoint)
    if manifest.model.architecture in WITHOUT_FORM:
        raise InvalidSetting(
            "a model of this method cannot be exported",
            got=manifest.model.architecture,
            expected="another method",
        )
    metadata = _metadata(manifest, sha256=sha256_of_file(checkpoint))
    content = _as_onnx(model, metadata)
    with replacing(out) as temporary:
        temporary.write_bytes(sealed(content))
    return metadata | {SEAL: hashlib.sha256(content).hexdigest()}


def sealed(content: bytes) -> bytes:
    """An ONNX file with its seal behind it.

    Parameters
    ----------
    content
        A serialised model.

    Returns
    -------
    bytes
        A serialised model too: protobuf takes the entries of a list wherever they stand.
    """
    return content + metadata_entry(SEAL, hashlib.sha256(content).hexdigest())


def metadata_entry(key: str, value: str) -> bytes:
    """An entry of a model's metadata, as it may stand behind the model.

    Parameters
    ----------
    key, value
        Texts.

    Returns
    -------
    bytes
        Field 14 of ONNX's ModelProto, `metadata_props`; in it fields 1 and 2 of StringStringEntryProto (onnx.proto).
    """
    return _field(14, _field(1, key.encode()) + _field(2, value.encode()))


def _field(number: int, content: bytes) -> bytes:
    """A field of bytes on protobuf's wire: its number with type 2, its length, itself. number: below 16."""
    length, rest = b"", len(content)
    while rest > 127:
        length, rest = length + bytes([rest & 127 | 128]), rest >> 7
    return bytes([number << 3 | 2]) + length + bytes([rest]) + content


SEAL_BYTES = len(metadata_entry(SEAL, "0" * 64))


class _TargetImage(nn.Module):
    """The target image alone: what an auxiliary output costs is not exported."""

    def __init__(self, model: SuperResolver) -> None:
        super().__init__()
        self.model = model

    def forward(self, low_res: Tensor, reference: Tensor, upsampled: Tensor) -> Tensor:
        return self.model.target_image(low_res, reference, upsampled)


def _as_onnx(model: SuperResolver, metadata: dict[str, str]) -> bytes:
    """The file's bytes: `torch.onnx.export` itself would put the weights into a second file."""
    try:
        import onnx_ir
        import onnxscript  # noqa: F401  torch's exporter is written in it
    except ImportError as failure:
        raise ConfigurationError("ONNX is not installed", got=failure.name, action=MISSING) from failure
    batch, rows, columns = (torch.export.Dim(name, min=1) for name in ("batch", "rows", "columns"))
    scale = model.scale
    fine = {0: batch, 2: scale * rows, 3: scale * columns}
    shapes = {"low_res": {0: batch, 2: rows, 3: columns}, "reference": fine, "upsampled": fine}
    low_res, high_res = torch.zeros(2, 1, 12, 10), torch.zeros(2, 1, 12 * scale, 10 * scale)
    with _exporter_silenced(), warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of torch's own calls and of names of derived axes
        program = torch.onnx.export(
            _TargetImage(model).eval(),
            (low_res, high_res, high_res.clone()),
            dynamo=True,
            dynamic_shapes=shapes,
            input_names=INPUTS,
            output_names=(OUTPUT,),
            opset_version=OPSET,
            verbose=False,
        )
    assert program is not None
    _forget_the_source(program.model)
    program.model.metadata_props.update(metadata)
    content: bytes = onnx_ir.to_proto(program.model).SerializeToString(deterministic=True)
    return content


@contextlib.contextmanager
def _exporter_silenced() -> Iterator[None]:
    """The exporter's log without its warnings: it has one for each operator of torchvision, which no model here has."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _forget_the_source(model: Any) -> None:
    """Take out the places in Python's source that the exporter writes beside every node and value."""
    graph = model.graph
    for node in graph.all_nodes():
        node.metadata_props.clear()
        node.doc_string = None
        for value in node.outputs:
            value.metadata_props.clear()
    for value in (*graph.inputs, *graph.outputs, *graph.initializers.values()):
        value.metadata_props.clear()
    graph.metadata_props.clear()
    graph.doc_string = model.doc_string = None


def _metadata(manifest: CheckpointManifest, *, sha256: str) -> dict[str, str]:
    return {
        "use": USE,
        "scale": str(manifest.scale),
        "contrasts": json.dumps({"low_res": "target", "reference": "reference", "upsampled": "target"}),
        "normalisation": NORMALISATION,
        "clamp": str(CLAMP),
        "min_std_to_mean": str(MIN_STD_TO_MEAN),
        "keys_a": str(KEYS_A),
        "model_sha256": sha256,
        "fedminet_version": versions()["fedminet"],
        "manifest": manifest_text(manifest),
    }
