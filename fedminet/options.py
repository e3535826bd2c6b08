"""Options that several of the shared verbs have."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

NamedSites = Annotated[
    list[str] | None,
    typer.Option("--site", help="NAME=FOLDER: take this site's scans from FOLDER; repeat it."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a script.")]
Rounds = Annotated[int | None, typer.Option(help="Rounds, if not the usual number.", min=1)]
LocalSteps = Annotated[
    int | None, typer.Option(help="Optimizer steps of a site in a round, if not the usual number.", min=1)
]
Scale = Annotated[int, typer.Option(help="Enlargement: 2 or 4.")]
Preset = Annotated[str, typer.Option(help="quick or paper.")]
TrainingPreset = Annotated[str, typer.Option(help="quick, late or paper.")]
Patients = Annotated[int, typer.Option(help="Patients of each phantom site.", min=3)]
Seed = Annotated[int, typer.Option(help="Every random number is derived from it.", min=0)]


@dataclass(frozen=True)
class RehearsalOptions:
    """What is rehearsed on this machine: with whose scans, for how long, at which enlargement."""

    site: NamedSites = None
    preset: TrainingPreset = "quick"
    rounds: Rounds = None
    local_steps: LocalSteps = None
    scale: Scale = 2
    patients: Patients = 10
    seed: Seed = 1


@dataclass(frozen=True)
class TrainingOptions:
    """How a model is trained without a federation."""

    mode: Annotated[
        str, typer.Option(help="pooled: one model on all sites' data; local: one on each site's own.")
    ] = "pooled"
    preset: TrainingPreset = "quick"
    rounds: Rounds = None
    local_steps: LocalSteps = None
    scale: Scale = 2
    seed: Seed = 1
    workers: Annotated[
        int | None, typer.Option(help="Processes that draw batches. 4 on CUDA, 0 on the CPU.", min=0)
    ] = None
    recompute: Annotated[
        bool | None,
        typer.Option(
            help="Recompute groups of layers in place of storing them: less memory, more time. "
            "On for a large model on CUDA."
        ),
    ] = None
    save_every: Annotated[
        int, typer.Option(help="Steps after which the state that training goes on from is replaced.", min=1)
    ] = 200
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Write TensorBoard's events too.")] = (
        False
    )


@dataclass(frozen=True)
class PictureMaking:
    """How `infer` makes its picture (sites.super_resolution.picture.PictureOptions)."""

    register: Annotated[bool, typer.Option(help="Register the reference to the target first.")] = True
    gate: Annotated[
        bool,
        typer.Option(
            help="Leave the reference out where it does not agree with the scan: the model alone, if it can, or sinc."
        ),
    ] = True
    data_consistent: Annotated[
        bool, typer.Option("--data-consistent", help="Put what was measured back into the picture.")
    ] = False
    uncertainty: Annotated[
        bool,
        typer.Option(
            "--uncertainty",
            help="A map of error bars beside the picture, where the model's file says how far validation patients' "
            "errors went; else of how far the picture moves when the scans are mirrored. Takes four times as long; of "
            "DICOM it is a parametric map, and needs fedminet[maps].",
        ),
    ] = False
    self_ensemble: Annotated[
        int | None,
        typer.Option(
            help="Average the picture over so many flips and transpositions of the scans, 1, 2, 4 or 8: so many times "
            "as long. Without it as the model has it."
        ),
    ] = None


@dataclass(frozen=True)
class ScanOptions:
    """Which two scans: files of NIfTI, folders of DICOM, or one study whose series the rules choose."""

    target: Annotated[
        Path | None,
        typer.Option(help="The low-resolution scan: a NIfTI file, or a folder with one DICOM series."),
    ] = None
    reference: Annotated[
        Path | None,
        typer.Option(
            help="The high-resolution scan of the other contrast: a file or a folder, as the target."
        ),
    ] = None
    study: Annotated[
        Path | None,
        typer.Option(
            help="In place of both: a folder with one DICOM study; the series are chosen by the rules."
        ),
    ] = None
    site: Annotated[
        Path | None,
        typer.Option(
            help="With --study: the site's folder, for the rules of its site.yaml; else the default rules."
        ),
    ] = None
