"""A model's ONNX file in ONNX Runtime, called as the model itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from minet_core.checkpoint_manifest import CheckpointManifest, parse_manifest
from minet_core.errors import CheckpointInvalid, ConfigurationError, FileMissing, ModelError
from minet_core.exported.onnx_file import INPUTS, MISSING, OUTPUT, SEAL, SEAL_BYTES, sealed

MANIFEST_KEY = "manifest"

MAX_BYTES = 1 << 30
"""Of a file: 40 M weights take 160 MB, and protobuf ends at twice this."""

EXPORT_AGAIN = "Fetch it again, or export it again with `fedminet export MODEL --onnx FILE`"


class OnnxModel(nn.Module):
    """Called as a `SuperResolver`, on the CPU and without gradient; gives no image of the reference.

    Parameters
    ----------
    session
        `onnxruntime.InferenceSession`.
    self_ensemble
        As of a `SuperResolver`.
    """

    def __init__(self, session: Any, *, self_ensemble: int = 1) -> None:
        super().__init__()
        self.session, self.self_ensemble = session, self_ensemble

    def forward(self, low_res: Tensor, reference: Tensor, upsampled: Tensor) -> tuple[Tensor, None]:
        """The target image.

        Parameters
        ----------
        low_res : Tensor (B, 1, h, w)
            Normalised.
        reference, upsampled : Tensor (B, 1, H, W)
            Normalised; H = scale h.

        Returns
        -------
        tuple of Tensor (B, 1, H, W) and None
            float32.

        Raises
        ------
        ModelError
            FM-M300, where the file does not take these shapes.
        """
        given = dict(zip(INPUTS, (low_res, reference, upsampled), strict=True))
        arrays = {name: tensor.float().contiguous().numpy() for name, tensor in given.items()}
        try:
            (image,) = self.session.run([OUTPUT], arrays)
        except Exception as failure:  # the runtime's own kinds share no base
            raise ModelError("the exported model could not be run", got=_said(failure)) from failure
        return torch.from_numpy(image), None


def load_onnx_model(path: Path) -> tuple[OnnxModel, CheckpointManifest]:
    """The model of an ONNX file that `export_onnx` wrote, and the manifest of the checkpoint it was made of.

    It uses as many threads as torch. The file is held to its size and its seal before ONNX Runtime, whose parser is not
    ours, is given a byte of it. The seal finds damage and is no signature: whoever makes a file can seal it.

    Parameters
    ----------
    path
        Of the file.

    Returns
    -------
    tuple of OnnxModel and CheckpointManifest
        In evaluation mode.

    Raises
    ------
    FileMissing
        FM-C103, where there is no file.
    ConfigurationError
        FM-C100, without ONNX Runtime.
    CheckpointInvalid
        FM-M301, for a file that is none, that was changed since it was exported, or that fedminet did not export.
    """
    if not path.is_file():
        raise FileMissing("a model is missing", got=path, action="Give the path of an existing file")
    try:
        import onnxruntime
    except ImportError as failure:
        raise ConfigurationError(
            "ONNX Runtime is not installed", got=failure.name, action=MISSING
        ) from failure
    content = _whole(path)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = torch.get_num_threads(), 1
    options.log_severity_level = 4
    try:  # of bytes, so that nothing beside the file is read
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        text = session.get_modelmeta().custom_metadata_map.get(MANIFEST_KEY)
        inputs, outputs = (
            tuple(one.name for one in of()) for of in (session.get_inputs, session.get_outputs)
        )
    except Exception as failure:  # the runtime's own kinds share no base
        raise CheckpointInvalid(
            f"{path} is no ONNX file that can be run", got=_said(failure), action=EXPORT_AGAIN
        ) from failure
    manifest = parse_manifest(text, source=str(path))
    if (inputs, outputs) != (INPUTS, (OUTPUT,)):
        raise CheckpointInvalid(
            f"{path} is no model that fedminet exported",
            got=(inputs, outputs),
            expected=(INPUTS, (OUTPUT,)),
            action=EXPORT_AGAIN,
        )
    return OnnxModel(session, self_ensemble=manifest.model.self_ensemble).eval(), manifest


def _whole(path: Path) -> bytes:
    """The bytes of a file that is as it was exported. Raises CheckpointInvalid (FM-M301) for any other."""
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise CheckpointInvalid(
            f"{path} is no model that fedminet exported",
            got=f"{size} bytes",
            expected=f"at most {MAX_BYTES}",
            action=EXPORT_AGAIN,
        )
    content = path.read_bytes()
    if sealed(content[:-SEAL_BYTES]) != content:
        raise CheckpointInvalid(
            f"{path} is no ONNX file as fedminet exports it, or was changed since",
            expected=f"its own SHA-256 at its end, as {SEAL!r}",
            action=EXPORT_AGAIN,
        )
    return content


def _said(failure: Exception) -> str:
    return " ".join(str(failure).split())[:200]
