"""What a model file says of itself: the manifest, with the SHA-256 of every tensor and its own.

It is one JSON text under one key of the file's metadata, `fedminet`: safetensors does not keep an order among several,
and the same content must give the same bytes. An ONNX file has the same text. The digests find damage and mix-ups; they
are not a signature.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import NonNegativeInt
from torch import Tensor

from minet_core.calibration import Calibration
from minet_core.errors import CheckpointInvalid
from minet_core.runtime.json_text import parse_json
from minet_core.runtime.versions import versions
from minet_core.settings.federation import FederationSettings, ModelSettings
from minet_core.settings.yaml_file import Settings
from minet_core.training_domain import TrainingDomain

METADATA_KEY = "fedminet"
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
    entries = tuple(entry_of(name, as_array(tensors[name])) for name in sorted(tensors))
    return CheckpointManifest(
        scale=scale,
        model=model,
        round_number=round_number,
        provenance=dict(sorted(provenance.items())),
        tensors=entries,
        domain=domain,
        calibration=calibration,
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
    return json.dumps({"manifest": manifest.as_json(), "sha256": manifest_digest(manifest)})


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
        raise CheckpointInvalid(
            f"{source} has an unreadable manifest", got=detail, action=FETCH_AGAIN
        ) from failure
    if sha256 != manifest_digest(manifest):
        raise CheckpointInvalid(
            f"{source} has a manifest that was changed",
            got=manifest_digest(manifest),
            expected=sha256,
            action=FETCH_AGAIN,
        )
    return manifest


def entry_of(name: str, array: NDArray[Any]) -> TensorEntry:
    """What a manifest says of a tensor.

    Parameters
    ----------
    name
        Of the tensor.
    array
        Its values, of any shape.

    Returns
    -------
    TensorEntry
        With the SHA-256 of its bytes.
    """
    sha256 = hashlib.sha256(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()).hexdigest()
    return TensorEntry(name=name, shape=array.shape, dtype=str(array.dtype), sha256=sha256)


def as_array(tensor: Tensor | NDArray[Any]) -> NDArray[Any]:
    """A tensor as the file has it.

    Parameters
    ----------
    tensor
        On any device, in any memory order.

    Returns
    -------
    NDArray[Any]
        Of the same shape and dtype, in C order and the machine's byte order; a copy where it was not so.
    """
    plain = tensor.detach().cpu().numpy() if isinstance(tensor, Tensor) else tensor
    # np.array, for np.ascontiguousarray would make a vector of a scalar.
    return np.array(plain, dtype=plain.dtype.newbyteorder("="), order="C", copy=None)


def manifest_digest(manifest: CheckpointManifest) -> str:
    """SHA-256 of all that a manifest says.

    Parameters
    ----------
    manifest
        Of a checkpoint.

    Returns
    -------
    str
        Hexadecimal; the same whatever the order of the keys.
    """
    canonical = json.dumps(manifest.as_json(), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


FETCH_AGAIN = "Copy or fetch the file again"


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
