"""Damaged weights: parcels on the wire in every codec, files of tensors, checkpoints, and app bundles."""

from __future__ import annotations

import io
import json
import random
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from pydantic import ValidationError

from minet_core.admission.bundle_guard import guard_bundle
from minet_core.checkpoint import load_model, read_manifest, save_checkpoint
from minet_core.checkpoint_manifest import METADATA_KEY, CheckpointManifest, describe, manifest_digest
from minet_core.errors import WeightsRefused
from minet_core.exported.onnx_file import export_onnx, metadata_entry, sealed
from minet_core.exported.onnx_runtime import MANIFEST_KEY, load_onnx_model
from minet_core.models.registry import build_model
from minet_core.settings.federation import ModelSettings
from minet_core.weights.compression import CODECS
from minet_core.weights.lazy_arrays import StoredArrays, check_stored
from minet_core.weights.manifest import WeightManifest, learnable
from minet_core.weights.payload import pack, save_parcel, unpack
from server.flower.bundle import build_bundle, read_bundle
from server.flower.file_names import BUNDLE_FILE
from tests.fuzz.measure import Attempt
from tests.fuzz.mutators import mutated_bytes, mutated_json, mutated_tensors

_MODEL = ModelSettings(n_groups=1, n_blocks=1, n_features=4, reduction=2)


def _weights() -> dict[str, np.ndarray]:
    return learnable(build_model(_MODEL.model_dump(), scale=2))


def parcels(folder: Path) -> Attempt:
    """What comes as weights: opened, checked against its manifest, and decoded."""
    reference = dict(list(_weights().items())[:12])
    changed = {name: array + np.float32(0.01) for name, array in reference.items()}
    seeds = {}
    for name, codec in CODECS.items():
        sent = codec.encode(changed, reference=reference, residual={})[0]
        seeds[name] = pack(sent).tobytes()
    manifest = WeightManifest.of(reference)

    def attempt(generator: random.Random) -> Callable[[], object]:
        codec = CODECS[generator.choice(sorted(CODECS))]
        content = mutated_tensors(seeds[codec.name], generator)

        def read() -> object:
            arrays = unpack(np.frombuffer(content, np.uint8), manifest=codec.wire_manifest(manifest))
            decoded = codec.decode(arrays, reference=reference)
            return [decoded[name] for name in decoded]

        return read

    return attempt


def tensor_files(folder: Path) -> Attempt:
    """A reply on the coordinator's disk: read lazily, with and without a check against its manifest."""
    arrays = {f"weights/{name}": array for name, array in list(_weights().items())[:12]}
    save_parcel(folder / "seed", arrays)
    seed, path, manifest = (
        (folder / "seed").read_bytes(),
        folder / "reply.safetensors",
        WeightManifest.of(arrays),
    )

    def attempt(generator: random.Random) -> Callable[[], object]:
        path.write_bytes(mutated_tensors(seed, generator))

        def read() -> object:
            try:
                return check_stored(path, manifest)
            except WeightsRefused:
                stored = StoredArrays(path, prefix="weights/")
                stored.manifest()
                return [stored[name] for name in stored]

        return read

    return attempt


def checkpoints(folder: Path) -> Attempt:
    """A model's file, whose tensors, header or manifest are odd; the manifest's own digest is made to fit."""
    weights = _weights()
    manifest = describe(weights, model=_MODEL, scale=2, round_number=3, provenance={"federation": "ab"})
    save_checkpoint(folder / "seed", weights, manifest)
    seed, path = (folder / "seed").read_bytes(), folder / "model.safetensors"
    page = {"manifest": manifest.as_json(), "sha256": "0" * 64}

    def attempt(generator: random.Random) -> Callable[[], object]:
        if generator.random() < 0.5:
            path.write_bytes(mutated_tensors(seed, generator))
        else:
            changed = page
            if generator.random() < 0.5:  # the model alone, under a digest that fits
                settings = {**manifest.model.model_dump(mode="json")}
                settings[generator.choice(("n_groups", "n_blocks", "n_features", "reduction"))] = (
                    generator.choice((1, 2, 3, 64, 999, 10**5, 2**31, 2**63, 10**30))
                )
                changed = {**page, "manifest": {**page["manifest"], "model": settings}}  # type: ignore[dict-item]
                text = json.dumps(changed)
            else:
                text = mutated_json(page, generator).decode("utf-8", "replace")
            save_parcel(path, weights, metadata={METADATA_KEY: _with_own_digest(text)})

        def read() -> object:
            read_manifest(path)
            return load_model(path)

        return read

    return attempt


def onnx_files(folder: Path) -> Attempt:
    """An exported model, as `infer --model` is given one: damaged bytes, and odd metadata in a file that is whole.

    No graph is sealed that the exporter did not write: what ONNX Runtime makes of one is not asked.
    """
    weights = _weights()
    manifest = describe(weights, model=_MODEL, scale=2, round_number=3, provenance={"federation": "ab"})
    save_checkpoint(folder / "seed.safetensors", weights, manifest)
    export_onnx(folder / "seed.safetensors", folder / "seed.onnx")
    seed, path = (folder / "seed.onnx").read_bytes(), folder / "model.onnx"
    bare = onnx.load_from_string(seed)
    del bare.metadata_props[:]
    page = {"manifest": manifest.as_json(), "sha256": "0" * 64}

    def attempt(generator: random.Random) -> Callable[[], object]:
        if generator.random() < 0.8:
            path.write_bytes(mutated_bytes(seed, generator))
        else:
            text = _with_own_digest(mutated_json(page, generator).decode("utf-8", "replace"))
            path.write_bytes(sealed(bare.SerializeToString() + metadata_entry(MANIFEST_KEY, text)))

        def read() -> object:
            return load_onnx_model(path)

        return read

    return attempt


def _with_own_digest(text: str) -> str:
    """A manifest that is one, with its right digest: so that what it says is looked at."""
    try:
        content = json.loads(text)
        digest = manifest_digest(CheckpointManifest.model_validate(content["manifest"]))
        return json.dumps({**content, "sha256": digest})
    except (ValueError, TypeError, KeyError, RecursionError, ValidationError):
        return text


def bundles(folder: Path) -> Attempt:
    """The app bundle in the coordinator's folder, and one that a SuperLink sends a site."""
    bundle = build_bundle()

    def attempt(generator: random.Random) -> Callable[[], object]:
        kind = generator.random()
        content = bundle.content if kind < 0.1 else mutated_bytes(bundle.content, generator)
        if kind > 0.6:
            content = _other_archive(generator)
        (folder / BUNDLE_FILE).write_bytes(content)

        def read() -> object:
            found = read_bundle(folder)
            guard_bundle(found.content, digest=bundle.digest)
            return found

        return read

    return attempt


def _other_archive(generator: random.Random) -> bytes:
    """Other members, one of them much of nothing, under names that lead elsewhere."""
    stream = io.BytesIO()
    names = (
        "pyproject.toml",
        ".info/CONTENT",
        "client/app.py",
        "../x",
        "/etc/x",
        "a" * 60_000,
        "é",
        "a\\b",
        "",
    )
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in generator.sample(names, k=generator.choice((0, 1, 2, 3))):
            archive.writestr(zipfile.ZipInfo(name), bytes(generator.choice((0, 10, 1 << 20))))
    return mutated_bytes(stream.getvalue(), generator) if generator.random() < 0.5 else stream.getvalue()
