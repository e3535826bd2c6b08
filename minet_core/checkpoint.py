"""A model on disk: one `.safetensors` file whose metadata says what it is and lets every byte be checked.

What it says is the manifest's (`checkpoint_manifest.py`). The same content gives the same bytes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from torch import Tensor

from minet_core.calibration import Calibration
from minet_core.checkpoint_manifest import (
    FETCH_AGAIN,
    METADATA_KEY,
    CheckpointManifest,
    Tensors,
    as_array,
    describe,
    entry_of,
    manifest_text,
    parse_manifest,
    provenance_of,
)
from minet_core.errors import CheckpointInvalid, FileMissing, WeightsRefused
from minet_core.models.architectures import SETTINGS_OF
from minet_core.models.base import SuperResolver
from minet_core.models.registry import build_model
from minet_core.settings.federation import FederationSettings
from minet_core.training_domain import TrainingDomain
from minet_core.weights.manifest import Arrays, load_weights
from minet_core.weights.payload import save_parcel

MAX_DIMENSIONS = 8
"""Of a tensor; a convolution's weight has four or five. numpy takes 64, torch and the file any number."""


def save_checkpoint(path: Path, tensors: Tensors, manifest: CheckpointManifest) -> None:
    """Write a checkpoint durably: whole or not there. The same content gives the same bytes.

    Parameters
    ----------
    path
        Of the `.safetensors` file; replaced where it is there.
    tensors
        By name, on any device.
    manifest
        As `describe` gives it of these tensors.

    Raises
    ------
    CheckpointInvalid
        FM-M301, if the manifest does not describe the tensors.
    DiskFull
        FM-S504, and the other failures of writing (`FileNotWritten`).
    """
    arrays = {name: as_array(tensors[name]) for name in sorted(tensors)}
    _check_entries(arrays, manifest, source=str(path))
    save_parcel(path, arrays, metadata={METADATA_KEY: manifest_text(manifest)})


def load_checkpoint(path: Path) -> tuple[dict[str, Tensor], CheckpointManifest]:
    """The tensors of a checkpoint and its manifest, every byte of the tensors checked against its digest.

    Parameters
    ----------
    path
        Of a `.safetensors` file.

    Returns
    -------
    tuple of dict and CheckpointManifest
        The tensors by name, on the CPU.

    Raises
    ------
    FileMissing
        FM-C103, where there is no file.
    CheckpointInvalid
        FM-M301, for a file that is truncated, is no safetensors file, has no manifest, or holds other tensors than
        its manifest says.
    """
    if not path.is_file():
        raise FileMissing("a checkpoint is missing", got=path, action="Give the path of an existing file")
    try:
        with _readable(path), safe_open(path, framework="pt") as stored:
            metadata = stored.metadata() or {}
            tensors = {name: stored.get_tensor(name).clone() for name in sorted(stored.keys())}
    except SafetensorError as failure:
        raise CheckpointInvalid(
            f"{path} is not a whole safetensors file", got=failure, action=FETCH_AGAIN
        ) from failure
    manifest = parse_manifest(metadata.get(METADATA_KEY), source=str(path))
    dimensions = max((tensor.ndim for tensor in tensors.values()), default=0)
    if dimensions > MAX_DIMENSIONS:
        raise CheckpointInvalid(
            f"{path} holds no model's tensors",
            got=f"{dimensions} dimensions",
            expected=f"at most {MAX_DIMENSIONS}",
            action=FETCH_AGAIN,
        )
    _check_entries({n: as_array(t) for n, t in tensors.items()}, manifest, source=str(path))
    return tensors, manifest


def read_manifest(path: Path) -> CheckpointManifest:
    """The manifest of a checkpoint alone; no tensor is read.

    Parameters
    ----------
    path
        Of a `.safetensors` file.

    Returns
    -------
    CheckpointManifest
        Held to its own SHA-256; the tensors are not held to it.

    Raises
    ------
    FileMissing
        FM-C103, where there is no file.
    CheckpointInvalid
        FM-M301, for a file without a whole manifest.
    """
    if not path.is_file():
        raise FileMissing("a checkpoint is missing", got=path, action="Give the path of an existing file")
    try:
        with _readable(path), safe_open(path, framework="pt") as stored:
            metadata = stored.metadata() or {}
    except SafetensorError as failure:
        raise CheckpointInvalid(
            f"{path} is not a whole safetensors file", got=failure, action=FETCH_AGAIN
        ) from failure
    return parse_manifest(metadata.get(METADATA_KEY), source=str(path))


def load_model(path: Path) -> tuple[SuperResolver, CheckpointManifest]:
    """The model of a checkpoint, and its manifest.

    Parameters
    ----------
    path
        Of a `.safetensors` file.

    Returns
    -------
    tuple of SuperResolver and CheckpointManifest
        The model is in evaluation mode and channels_last, on the CPU.

    Raises
    ------
    FileMissing
        FM-C103, where there is no file.
    CheckpointInvalid
        FM-M301, as `load_checkpoint`, and where the tensors are not those of the model that the manifest describes.

    Examples
    --------
    >>> from pathlib import Path
    >>> from minet_core.checkpoint import load_model, save_weights
    >>> from minet_core.protocol.exchange_plan import initial_weights
    >>> from minet_core.settings.presets import federation_of
    >>> federation = federation_of(name="pilot", sites=("north",), preset="quick", scale=2, rounds=3)
    >>> _, weights = initial_weights(federation)
    >>> save_weights(Path("model.safetensors"), federation, weights, round_number=0)
    >>> model, manifest = load_model(Path("model.safetensors"))
    >>> manifest.scale, manifest.model.architecture, manifest.provenance["federation"]
    (2, 'minet', 'pilot')
    """
    tensors, manifest = load_checkpoint(path)
    _require_its_size(manifest, source=str(path))
    model = build_model(manifest.model.model_dump(), scale=manifest.scale)
    try:
        load_weights(model, {name: as_array(tensor) for name, tensor in tensors.items()})
    except WeightsRefused as refusal:
        if manifest.provenance.get("algorithm") == "personal-head" and len(tensors) < len(
            list(model.parameters())
        ):
            raise CheckpointInvalid(
                f"{path} holds the shared part of a model whose head is personal",
                got=f"{len(tensors)} tensors",
                action="Use results/model.safetensors of a site, which has its own head",
            ) from refusal
        raise CheckpointInvalid(
            f"{path} does not hold the model it describes",
            got=refusal.what,
            expected=refusal.expected,
            action=FETCH_AGAIN,
        ) from refusal
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model.eval(), manifest


def _readable(path: Path) -> IO[bytes]:
    """The file, opened: of one that this user may not read, safetensors says that it is not there, and not which."""
    return path.open("rb")


def _require_its_size(manifest: CheckpointManifest, *, source: str) -> None:
    """Refuse settings of a model that is larger than the tensors beside them, before it takes memory.

    A head that is personal is not among them; it is a small part of its model.
    """
    wanted = manifest.model
    n_groups = wanted.n_groups if "n_groups" in SETTINGS_OF[wanted.architecture] else 1
    n_held = sum(math.prod(entry.shape) for entry in manifest.tensors)
    n_values = None
    if wanted.n_blocks * n_groups <= len(manifest.tensors):  # each has a tensor at least
        try:
            with torch.device("meta"):  # shapes alone
                n_values = sum(
                    one.numel() for one in build_model(wanted.model_dump(), scale=manifest.scale).parameters()
                )
        except (TypeError, ValueError, RuntimeError, OverflowError) as failure:
            raise CheckpointInvalid(
                f"{source} describes a model that cannot be built", action=FETCH_AGAIN
            ) from failure
    if n_values is None or n_values > 4 * n_held + 1_000_000:
        raise CheckpointInvalid(
            f"{source} does not hold the model it describes",
            got=f"{n_held} weights in {len(manifest.tensors)} tensors",
            expected="many more" if n_values is None else f"{n_values} weights",
            action=FETCH_AGAIN,
        )


def _check_entries(arrays: Mapping[str, NDArray[Any]], manifest: CheckpointManifest, *, source: str) -> None:
    described = {entry.name: entry for entry in manifest.tensors}
    if described.keys() != arrays.keys():
        differing = sorted(described.keys() ^ arrays.keys())
        raise CheckpointInvalid(
            f"{source} holds other tensors than its manifest",
            got=f"a difference in {differing[:3]}",
            action=FETCH_AGAIN,
        )
    for name, array in arrays.items():
        found = entry_of(name, array)
        if found != described[name]:
            raise CheckpointInvalid(
                f"{source}: {name} is not what the manifest says",
                got=f"{found.shape} {found.dtype} {found.sha256[:12]}",
                expected=f"{described[name].shape} {described[name].dtype} {described[name].sha256[:12]}",
                action=FETCH_AGAIN,
            )


def save_weights(
    path: Path,
    federation: FederationSettings,
    weights: Arrays,
    *,
    round_number: int,
    domain: TrainingDomain | None = None,
    calibration: Calibration | None = None,
) -> None:
    """Write the global weights as a checkpoint of this federation.

    Parameters
    ----------
    path
        Of the `.safetensors` file; replaced where it is there.
    federation
        Its model, scale, names and digest go into the manifest.
    weights
        By name; of a personal head's federation the shared ones.
    round_number
        Aggregations behind them.
    domain
        What they were trained on, where that was measured.
    calibration
        Of the model's error bars, likewise.

    Raises
    ------
    DiskFull
        FM-S504, and the other failures of writing (`FileNotWritten`).
    """
    manifest = describe(
        weights,
        model=federation.model,
        scale=federation.scale,
        round_number=round_number,
        provenance=provenance_of(federation),
        domain=domain,
        calibration=calibration,
    )
    save_checkpoint(path, weights, manifest)
