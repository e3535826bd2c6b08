"""The folder of one model in training: everything that a run of days needs to go on after it was killed.

model.safetensors    the trained model; there when training has ended
state.safetensors    what training goes on from: weights, Adam's moments, the step; replaced as a whole
metrics.jsonl        one line each time the state is replaced: loss, learning rate, validation at the end of a round
settings.json        what training was begun with, to be read by people; its digest is in the state
test.json            the trained model's scores, by site
tensorboard/         the lines of metrics.jsonl as events, on request
lock                 held by the process that trains

There is no generator's state: every random number of a step is derived from the seed and the step.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from minet_core.checkpoint import load_checkpoint, save_checkpoint
from minet_core.checkpoint_manifest import describe
from minet_core.errors import CheckpointInvalid, RunBusy, SettingsMismatch
from minet_core.runtime.files.atomic_write import mend_lines, write_json, write_text
from minet_core.runtime.files.file_lock import let_go, locked_within
from minet_core.runtime.versions import versions
from minet_core.settings.federation import FederationSettings
from minet_core.training.local_update import LocalState, LocalUpdate, has_moments
from minet_core.weights.manifest import load_weights

_WEIGHTS = "weights/"
_SETTINGS, _STEP = "training_settings", "step"

Page = Mapping[str, Any]
"""What decides the model's bytes, as JSON."""


@dataclass(frozen=True)
class TrainingFolder:
    """One model's folder."""

    path: Path

    @property
    def model(self) -> Path:
        return self.path / "model.safetensors"

    @property
    def state(self) -> Path:
        return self.path / "state.safetensors"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def test(self) -> Path:
        return self.path / "test.json"

    @property
    def events(self) -> Path:
        return self.path / "tensorboard"

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Train here as the only process; the kernel lets go when it ends. Raises RunBusy (FM-S507).

        A lock of POSIX, which is the process's alone: one of flock would outlive a killed process in its workers.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            if not locked_within(descriptor, 0.0, of_posix=True):
                raise RunBusy(
                    "another process trains in this folder", got=self.path, action="Wait for it, or end it"
                )
            yield
        finally:
            let_go(descriptor)

    def restore(self, model: nn.Module, settings: Page) -> tuple[int, LocalState]:
        """Put the kept weights into the model; the steps behind them, and what training goes on from.

        model: as it will be trained: on its device, in its form. 0 and an empty state where nothing was kept yet.
        Raises SettingsMismatch (FM-C105) where the state is of other settings, CheckpointInvalid (FM-M301) where it is
        damaged or of another model.
        """
        if not self.state.exists():
            return 0, LocalState()
        tensors, manifest = load_checkpoint(self.state)
        if manifest.provenance.get(_SETTINGS) != _digest(settings):
            raise SettingsMismatch(
                f"{self.path} holds training that was begun with other settings",
                got=self._difference(settings),
                action="Give the command that began it, or another --out",
            )
        arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
        load_weights(
            model,
            {
                name.removeprefix(_WEIGHTS): array
                for name, array in arrays.items()
                if name.startswith(_WEIGHTS)
            },
        )
        if not has_moments(model, arrays):
            raise CheckpointInvalid(f"{self.state} does not hold the moments of the model it was made with")
        return int(manifest.provenance[_STEP]), LocalState(arrays)

    def begin(self, settings: Page, *, step: int) -> None:
        """Write down the settings, and undo what a killed process left half done after `step`."""
        write_json(self.path / "settings.json", settings)
        for half in self.path.glob(".*.partial"):
            half.unlink()
        mend_lines(self.metrics)
        lines = (
            self.metrics.read_text(encoding="utf-8").splitlines(keepends=True)
            if self.metrics.exists()
            else []
        )
        kept = [line for line in lines if json.loads(line)["step"] <= step]
        if len(kept) < len(lines):
            write_text(self.metrics, "".join(kept))

    def keep(
        self,
        update: LocalUpdate,
        federation: FederationSettings,
        settings: Page,
        *,
        step: int,
        round_number: int,
    ) -> None:
        """Replace the state, durably."""
        tensors = {
            **{f"{_WEIGHTS}{name}": array for name, array in update.weights.items()},
            **update.moments,
        }
        manifest = describe(
            tensors,
            model=federation.model,
            scale=federation.scale,
            round_number=round_number,
            provenance={_SETTINGS: _digest(settings), _STEP: str(step), **versions()},
        )
        save_checkpoint(self.state, tensors, manifest)

    def _difference(self, settings: Page) -> str:
        """The first setting that differs from those that training was begun with."""
        path = self.path / "settings.json"
        begun = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        before, now = _flat(begun), _flat(json.loads(json.dumps(settings)))
        for key in sorted(before.keys() | now.keys()):
            if before.get(key) != now.get(key):
                return f"{key} {now.get(key)} where it was {before.get(key)}"
        return "another digest"


def _digest(settings: Page) -> str:
    canonical = json.dumps(settings, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def _flat(settings: Page, prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} -> {"a.b": 1}"""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat
