"""A model on disk: one `.safetensors` file whose metadata says what it is and lets every byte be checked.

The metadata has one key, `fedminet`, with a JSON text: the manifest and the manifest's own SHA-256. One key,
because safetensors does not keep an order among several, and the same content must give the same bytes. The
digests find damage and mix-ups; they are not a signature.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import NonNegativeInt
from safetensors import SafetensorError, safe_open
from torch import Tensor

from minet_core.calibration import Calibration
from minet_core.errors import CheckpointInvalid, FileMissing, WeightsRefused
from minet_core.models.architectures import SETTINGS_OF
from minet_core.models.base import SuperResolver
from minet_core.models.registry import build_model
from minet_core.runtime.json_text import parse_json
from minet_core.runtime.versions import versions
from minet_core.settings.federation import FederationSettings, ModelSettings
from minet_core.settings.yaml_file import Settings
from minet_core.training_domain import TrainingDomain
from minet_core.weights.manifest import Arrays, load_weights
from minet_core.weights.payload import save_parcel

METADATA_KEY = "fedminet"

MAX_DIMENSIONS = 8
"""Of a tensor; a convolution's weight has four or five. numpy takes 64, torch and the file any number."""

ABSENCE = "absent_references"
"""Key of the provenance: the share of absent references in training. A file of a training without has none."""
REFERENCE_NOISE = "reference_noise"
"""... and the most noise of references in training, over the signal of bright tissue."""

Tensors = Mapping[str, Tensor | NDArray[Any]]


class TensorEntry(Settings):
    """One tensor. dtype as numpy writes it; sha256 of its bytes in C order, little-endian."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    sha256: str


class CheckpointManifest(Settings):
    """What a checkpoint says of itself.

    round_number: aggregations behind it, 0 for the weights a run starts from. provenance: where it comes from,
        such as the federation's digest and the versions it was made with; never a path and never a patient.
    domain: what it was trained on; calibration: of its error bars. None where that was not measured, and then no part
        of the file.
    """

    format_version: Literal[1] = 1
    scale: Literal[2, 4]
    model: ModelSettings
    round_number: NonNegativeInt
    provenance: dict[str, str]
    tensors: tuple[TensorEntry, ...]
    domain: TrainingDomain | None = None
    calibration: Calibration | None = None

    @property
    def knows_absence(self) -> bool:
        """Whether the model was trained on absent references too: given zeros for one, it works on the target alone."""
        return ABSENCE in self.provenance

    @property
    def known_reference_noise(self) -> float:
        """The most noise that references were given in training, over the signal of bright tissue; 0 for none."""
        try:
            return min(1.0, max(0.0, float(self.provenance.get(REFERENCE_NOISE, "0"))))
        except ValueError:
            return 0.0

    def as_json(self) -> dict[str, Any]:
        """The manifest as the file has it.

        A file from before there was a domain or a calibration keeps its digest.

        Returns
        -------
        dict
            Plain values, lists and mappings; without `domain` and `calibration` where they are None.
        """
        absent = {name for name in ("domain", "calibration") if getattr(self, name) is None}
        return self.model_dump(mode="json", exclude=absent)


def describe(
    tensors: Tensors,
    *,
    model: ModelSettings,
    scale: Literal[2, 4],
    round_number: int,
    provenance: Mapping[str, str],
    domain: TrainingDomain | None = None,
    calibration: Calibration | None = None,
) -> CheckpointManifest:
    """The manifest of some tensors.

    Parameters
    ----------
    tensors
        By name, on any device.
    model, scale
        What they are the weights of.
    round_number
        Aggregations behind them, 0 for the weights a run starts from.
    provenance
        Where they come from; never a path and never a patient.
    domain
        What they were trained on, where that was measured.
    calibration
        Of the model's error bars, likewise.

    Returns
    -------
    CheckpointManifest
        With the SHA-256 of every tensor.
    """
    entries = tuple(_entry(name, _as_array(tensors[name])) for name in sorted(tensors))
    return CheckpointManifest(
        scale=scale,
        model=model,
        round_number=round_number,
        provenance=dict(sorted(provenance.items())),
        tensors=entries,
        domain=domain,
        calibration=calibration,
    )


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
    arrays = {name: _as_array(tensors[name]) for name in sorted(tensors)}
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
        with safe_open(path, framework="pt") as stored:
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
        )
    _check_entries({n: _as_array(t) for n, t in tensors.items()}, manifest, source=str(path))
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
        with safe_open(path, framework="pt") as stored:
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
        load_weights(model, {name: _as_array(tensor) for name, tensor in tensors.items()})
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
            f"{path} does not hold the model it describes", got=refusal.what, expected=refusal.expected
        ) from refusal
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model.eval(), manifest


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
            raise CheckpointInvalid(f"{source} describes a model that cannot be built") from failure
    if n_values is None or n_values > 4 * n_held + 1_000_000:
        raise CheckpointInvalid(
            f"{source} does not hold the model it describes",
            got=f"{n_held} weights in {len(manifest.tensors)} tensors",
            expected="many more" if n_values is None else f"{n_values} weights",
        )


def manifest_text(manifest: CheckpointManifest) -> str:
    """The manifest as a file's metadata has it.

    Parameters
    ----------
    manifest
        Of a checkpoint.

    Returns
    -------
    str
        JSON: the manifest and its own SHA-256.
    """
    return json.dumps({"manifest": manifest.as_json(), "sha256": _digest(manifest)})


def parse_manifest(text: str | None, *, source: str) -> CheckpointManifest:
    """What `manifest_text` wrote.

    Parameters
    ----------
    text
        From a file's metadata; None where it has none.
    source
        The file, for the message.

    Returns
    -------
    CheckpointManifest
        Held to its own SHA-256.

    Raises
    ------
    CheckpointInvalid
        FM-M301, where it is missing, unreadable or changed.
    """
    if text is None:
        raise CheckpointInvalid(
            f"{source} has no manifest", expected=f"metadata {METADATA_KEY!r}", action=FETCH_AGAIN
        )
    try:
        content = parse_json(text)
        manifest = CheckpointManifest.model_validate(content["manifest"])
        sha256 = content["sha256"]
    except (ValueError, KeyError, TypeError) as failure:
        detail = " ".join(str(failure).split())[:200]
        raise CheckpointInvalid(f"{source} has an unreadable manifest", got=detail) from failure
    if sha256 != _digest(manifest):
        raise CheckpointInvalid(
            f"{source} has a manifest that was changed", got=_digest(manifest), expected=sha256
        )
    return manifest


def _check_entries(arrays: Mapping[str, NDArray[Any]], manifest: CheckpointManifest, *, source: str) -> None:
    described = {entry.name: entry for entry in manifest.tensors}
    if described.keys() != arrays.keys():
        differing = sorted(described.keys() ^ arrays.keys())
        raise CheckpointInvalid(
            f"{source} holds other tensors than its manifest", got=f"a difference in {differing[:3]}"
        )
    for name, array in arrays.items():
        found = _entry(name, array)
        if found != described[name]:
            raise CheckpointInvalid(
                f"{source}: {name} is not what the manifest says",
                got=f"{found.shape} {found.dtype} {found.sha256[:12]}",
                expected=f"{described[name].shape} {described[name].dtype} {described[name].sha256[:12]}",
                action=FETCH_AGAIN,
            )


def _entry(name: str, array: NDArray[Any]) -> TensorEntry:
    sha256 = hashlib.sha256(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()).hexdigest()
    return TensorEntry(name=name, shape=array.shape, dtype=str(array.dtype), sha256=sha256)


def _as_array(tensor: Tensor | NDArray[Any]) -> NDArray[Any]:
    plain = tensor.detach().cpu().numpy() if isinstance(tensor, Tensor) else tensor
    # np.array, for np.ascontiguousarray would make a vector of a scalar.
    return np.array(plain, dtype=plain.dtype.newbyteorder("="), order="C", copy=None)


def _digest(manifest: CheckpointManifest) -> str:
    canonical = json.dumps(manifest.as_json(), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


FETCH_AGAIN = "Copy or fetch the file again"


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


def provenance_of(federation: FederationSettings) -> dict[str, str]:
    """Where the weights of a federation come from, as their file says it.

    Parameters
    ----------
    federation
        The settings.

    Returns
    -------
    dict[str, str]
        Names, digest and versions, and what training knew of wrong references.
    """
    return {
        "algorithm": federation.algorithm.name,
        "federation": federation.name,
        "federation_digest": federation.digest(),
        **_known_trouble(federation),
        **versions(),
    }


def _known_trouble(federation: FederationSettings) -> dict[str, str]:
    trouble = federation.training.trouble
    if trouble is None:
        return {}
    said = {ABSENCE: trouble.absent, REFERENCE_NOISE: trouble.max_noise_fraction if trouble.noisy else 0.0}
    return {name: f"{figure:g}" for name, figure in said.items() if figure > 0}
