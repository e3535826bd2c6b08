"""Running `experiment gate`: what each way to go wrong costs, and what the gate says of it.

Four parts. The verdicts need no model: every way, on patients of all three sites. The pictures need the models: every
way, on patients of the site that they were trained on; first the gate by itself, on slices as they lie, then all that
`fedminet infer` does, on whole scans. And how many of the pictures' errors the error bars of other patients hold.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fedminet.experiment.gate.by_infer import inputs_by_infer, pictures_by_infer
from fedminet.experiment.gate.error_bars import coverage_rows, draw_error_bars, measured
from fedminet.experiment.gate.models import TRAINED_SITE, TROUBLES, trained_model
from fedminet.experiment.gate.page import coverage, page
from fedminet.experiment.gate.phantoms import in_whole_numbers, magnitudes, patient
from fedminet.experiment.gate.troubled_inputs import Complex
from fedminet.experiment.gate.wrong_references import WAYS, Volume, Way
from minet_core.checkpoint import load_model
from minet_core.errors import ConfigurationError
from minet_core.evaluation.inference import super_resolve
from minet_core.evaluation.metrics import psnr
from minet_core.evaluation.reference_gate import judge_reference
from minet_core.evaluation.volume_scores import degraded_volume
from minet_core.imaging.degradation import low_resolution
from minet_core.imaging.interpolation import sinc
from minet_core.phantom.acquisition import SITES
from minet_core.phantom.patient import PhantomScan
from minet_core.runtime.files.atomic_write import write_json
from minet_core.runtime.progress import progress

SLICES = (3, 8, 13, 17)
"""Of each patient; a volume of them is one image for the gate."""
OTHER_PATIENT = 50
"""Added to a patient's number: whose reference is the other one."""
BY_INFER = ("plain", "absent")
"""The models whose whole scans are made: without and with the training that is recommended."""
Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class GatePlan:
    """role: whose patients are judged: "calibration" sets the limits, "validation" shows what came of them.

    steps: of each model's training. site: whose phantoms the models are trained on. models: their names, some of
    `TROUBLES`. judged: patients of every site whose verdicts are taken. shown: patients of the trained site whose
    pictures are made.
    """

    out: Path
    scale: int = 2
    steps: int = 400
    site: str = TRAINED_SITE
    models: tuple[str, ...] = tuple(TROUBLES)
    role: str = "validation"
    judged: int = 4
    shown: int = 3

    def __post_init__(self) -> None:
        _require_known("--site", (self.site,), SITES)
        _require_known("--methods", self.models, TROUBLES)

    @property
    def folder(self) -> Path:
        """Where what this plan found is kept."""
        return self.out / "gate"

    def kept(self, kind: str, site: str, number: int) -> Path:
        """The rows of a patient."""
        return self.folder / kind / f"{self.scale}x-{self.role}-{site}-{number}.json"


def _require_known(option: str, asked: tuple[str, ...], there: Iterable[str]) -> None:
    if not set(asked) <= set(there):
        raise ConfigurationError(
            f"{option} is not understood", got=", ".join(asked), expected=" or ".join(there)
        )


def run_gate(plan: GatePlan, *, quiet: bool = False) -> Path:
    """Make what is missing, and the page of all that is there.

    Parameters
    ----------
    plan
        What is tried, and where it is kept.
    quiet
        Show no progress.

    Returns
    -------
    Path
        Of the page.
    """
    verdicts = [
        row
        for site in SITES
        for number in range(plan.judged)
        for row in _kept(plan.kept("verdicts", site, number), lambda s=site, n=number: _verdicts(plan, s, n))
    ]
    models = _models(plan, quiet=quiet) if plan.shown else {}
    pictures: list[Row] = []
    by_infer: list[Row] = []
    inputs: list[Row] = []
    for number in range(plan.shown):
        for name, path in models.items():
            kept = plan.kept(f"pictures-{name}-{plan.steps}steps", plan.site, number)
            pictures += _kept(kept, lambda n=number, m=path, said=name: _pictures(plan, m, said, n))
        for name in filter(models.__contains__, BY_INFER):
            shown = {name: models[name]}
            kept = plan.kept(f"inputs-{name}-{plan.steps}steps", plan.site, number)
            inputs += _kept(kept, lambda n=number, m=shown: _inputs(plan, m, n))
            kept = plan.kept(f"infer-{name}-{plan.steps}steps", plan.site, number)
            by_infer += _kept(kept, lambda n=number, m=shown: _by_infer(plan, m, n))
    path = plan.folder / f"gate-{plan.scale}x-{plan.role}-{plan.site}.md"
    text = page(verdicts, pictures, by_infer, inputs, scale=plan.scale, steps=plan.steps)
    if plan.shown > 1:
        text += coverage(
            [
                row
                for name in filter(models.__contains__, BY_INFER)
                for row in _coverage(plan, name, models[name])
            ]
        )
    path.write_text(text, encoding="utf-8")
    return path


def _coverage(plan: GatePlan, name: str, path: Path) -> list[Row]:
    """Of each patient by the error bars of the others, with the reference and, where the model can, without."""
    kept = (
        plan.folder / f"error-bars-{name}-{plan.steps}steps" / f"{plan.scale}x-{plan.role}-{plan.site}.json"
    )
    model, manifest = load_model(path)

    def make() -> list[Row]:
        rows = []
        for guided in (True, False) if manifest.knows_absence else (True,):
            found = [
                measured(model, _shown_slices(plan, number), guided=guided) for number in range(plan.shown)
            ]
            rows += [{"model": name, "guided": guided, **row} for row in coverage_rows(found)]
            if guided:
                draw_error_bars(kept.with_suffix(".png"), found)
        return rows

    return _kept(kept, make)


def _shown_slices(plan: GatePlan, number: int) -> tuple[Volume, Volume, Volume]:
    scan, chosen = patient(plan.site, plan.role, number), list(SLICES)
    return degraded_volume(scan.target.array[chosen], scan.reference.array[chosen], scale=plan.scale)


def _models(plan: GatePlan, *, quiet: bool) -> dict[str, Path]:
    """By name, trained where they are missing."""
    paths = {}
    for name in plan.models:
        with progress(f"Training, {name}", quiet=quiet) as advance:
            paths[name] = trained_model(
                name,
                plan.folder / "models",
                scale=plan.scale,
                steps=plan.steps,
                advance=advance,
                site=plan.site,
            )
    return paths


def _kept(path: Path, make: Any) -> list[Row]:
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, {"rows": make()})
    rows: list[Row] = json.loads(path.read_text(encoding="utf-8"))["rows"]
    return rows


@dataclass(frozen=True)
class _Scans:
    """Of the chosen slices. truth: (S, H, W) magnitude; low_res, upsampled: the target's. ways: by way, references."""

    truth: Volume
    low_res: Volume
    upsampled: Volume

    @classmethod
    def of(cls, plan: GatePlan, site: str, number: int) -> tuple[_Scans, Iterator[tuple[Way, Volume]]]:
        """A patient's target, and every reference for it."""
        target, own = magnitudes(patient(site, plan.role, number), scale=plan.scale)
        other = magnitudes(patient(site, plan.role, number + OTHER_PATIENT), scale=plan.scale)[1]
        chosen = list(SLICES)
        low_res = low_resolution(torch.from_numpy(target[chosen]), plan.scale)
        upsampled = sinc(low_res, plan.scale, non_negative=True).numpy()
        scans = cls(np.abs(target[chosen]), low_res.numpy(), upsampled)
        return scans, ((way, way.make(own, other)[chosen]) for way in WAYS)


def _verdicts(plan: GatePlan, site: str, number: int) -> list[Row]:
    """Of the patient as one image, and of each slice as one."""
    scans, ways = _Scans.of(plan, site, number)
    rows = []
    for way, reference in ways:
        parts = [("patient", slice(None)), *(("slice", slice(n, n + 1)) for n in range(len(SLICES)))]
        for kind, part in parts:
            gate = judge_reference(scans.upsampled[part], reference[part], scale=plan.scale)
            rows.append(
                {
                    **{"site": site, "patient": number, "way": way.name, "wrong": way.wrong, "image": kind},
                    "agreement": gate.agreement,
                    "misplacement": gate.misplacement,
                    "trusted": gate.trusted,
                    "named": gate.wrong,
                }
            )
    return rows


def _written(plan: GatePlan, number: int) -> tuple[PhantomScan, tuple[Complex, Volume]]:
    """A patient, and target and reference as they are written to files."""
    scan = patient(plan.site, plan.role, number)
    target, own = magnitudes(scan, scale=plan.scale)
    return scan, (in_whole_numbers(plan.site, target), in_whole_numbers(plan.site, own))


def _by_infer(plan: GatePlan, models: dict[str, Path], number: int) -> list[Row]:
    scan, (target, own) = _written(plan, number)
    other = _written(plan, number + OTHER_PATIENT)[1][1]
    ways = ((way, way.make(own, other)) for way in WAYS)
    return [
        {"patient": number, **row} for row in pictures_by_infer(models, scan, target, ways, scale=plan.scale)
    ]


def _inputs(plan: GatePlan, models: dict[str, Path], number: int) -> list[Row]:
    scan, pair = _written(plan, number)
    return [{"patient": number, **row} for row in inputs_by_infer(models, scan, pair, scale=plan.scale)]


def _pictures(plan: GatePlan, path: Path, name: str, number: int) -> list[Row]:
    """PSNR of one model on one patient, by way: with the reference, by the gate, and on the target alone."""
    model, _ = load_model(path)
    scans, ways = _Scans.of(plan, plan.site, number)
    alone = super_resolve(model, scans.low_res, np.zeros_like(scans.truth), scale=plan.scale)
    rows = []
    for way, reference in ways:
        gate = judge_reference(scans.upsampled, reference, scale=plan.scale)
        guided = super_resolve(model, scans.low_res, reference, scale=plan.scale)
        shown = {
            "sinc": scans.upsampled,
            f"{name}, reference": guided,
            f"{name}, gate": (gate.trust * guided + (1 - gate.trust) * alone).astype(np.float32),
            f"{name}, alone": alone,
        }
        rows.append(
            {
                **{"site": plan.site, "patient": number, "way": way.name},
                **{"named": gate.wrong, "trusted": gate.trusted},
                "psnr_db": {method: psnr(scans.truth, made) for method, made in shown.items()},
            }
        )
    return rows
