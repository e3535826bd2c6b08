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
class StudyOptions:
    """Which cells an experiment has, and how each is trained."""

    preset: Annotated[str, typer.Option(help="quick or paper; worth: late too.")] = "quick"
    mode: Annotated[
        str,
        typer.Option(
            help="federated, pooled, local, or without (a federation of the others), several with commas; else "
            "federated. patients: local."
        ),
    ] = ""
    seeds: Annotated[int, typer.Option(help="How many seeds, from 1.", min=1)] = 1
    site: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME=FOLDER: scans, which are ingested for it; or the folder of a site that has been ingested. "
            "Repeat it; without any the sites are phantoms. gate: NAME, whose phantoms the models are trained on."
        ),
    ] = None
    scale: Annotated[str, typer.Option(help="2, 4, or both with a comma; else as the paper has it.")] = ""
    methods: Annotated[
        str, typer.Option(help="Some of the methods, with commas; else all. gate: some of its models.")
    ] = ""
    patients: Patients = 10
    rounds: Rounds = None
    local_steps: LocalSteps = None
    equal: Annotated[
        str,
        typer.Option(help="time or steps: what every method gets as much of as MINet. Else as it is usual."),
    ] = ""


@dataclass(frozen=True)
class WorthOptions:
    """What `experiment worth` is asked for beside the scale, the rounds and their steps."""

    own: Annotated[str, typer.Option(help="worth: training patients of each site, several with commas.")] = (
        "2,7"
    )
    worth_seeds: Annotated[str, typer.Option(help="worth: the seeds themselves, with commas.")] = "1"
    validation: Annotated[
        bool,
        typer.Option("--validation", help="worth: figures of validation patients; no test patient is read."),
    ] = False
    alike: Annotated[
        bool, typer.Option("--alike", help="worth: phantoms who differ in the shape of their anatomy alone.")
    ] = False
    newcomer: Annotated[
        str | None,
        typer.Option(
            help="worth: known or unknown: each site in turn takes no part and adapts the others' model; its kind of "
            "scanner and anatomy is among them, or not."
        ),
    ] = None
    head_steps: Annotated[int | None, typer.Option(help="worth: steps of the head alone.", min=0)] = None
    head_rate: Annotated[float | None, typer.Option(help="worth: learning rate in them.")] = None
    adapt_steps: Annotated[int | None, typer.Option(help="worth: steps of the whole model.", min=1)] = None
    adapt_rate: Annotated[
        str | None,
        typer.Option(help="worth: learning rate in them; several with commas are a ladder to choose from."),
    ] = None
    adapt_decay: Annotated[
        float | None,
        typer.Option(
            help="worth: last part of them over which the rate falls, else the preset's.", min=0, max=1
        ),
    ] = None
    batch: Annotated[
        int | None, typer.Option(help="worth, patients: patches in a step, else the preset's.", min=1)
    ] = None
    patch: Annotated[
        int | None, typer.Option(help="worth, patients: edge of a patch, px, else the preset's.", min=16)
    ] = None
    flips: Annotated[
        bool, typer.Option("--flips", help="worth, patients: samples flipped and transposed at random.")
    ] = False
    blur: Annotated[
        float | None,
        typer.Option(
            help="worth, patients: targets blurred among the samples, by a Gaussian of at most so many px, else the "
            "preset's.",
            min=0.1,
            max=4,
        ),
    ] = None


@dataclass(frozen=True)
class PatientsOptions:
    """What `experiment patients` is asked for beside the sites, the methods, the scales and a batch."""

    steps: Annotated[int | None, typer.Option(help="patients: MINet's optimizer steps.", min=1)] = None
    rate: Annotated[float | None, typer.Option(help="patients: learning rate, else the preset's.", min=0)] = (
        None
    )
    decay: Annotated[
        float | None,
        typer.Option(help="patients: last part of the steps over which the rate falls.", min=0, max=1),
    ] = None
    model: Annotated[
        list[str] | None,
        typer.Option(help="patients: KEY=VALUE of MINet's model, else the preset's; repeat it."),
    ] = None
    threads: Annotated[int | None, typer.Option(help="patients: threads that compute, else all.", min=1)] = (
        None
    )
    self_ensemble: Annotated[
        int,
        typer.Option(
            help="patients: flips and transpositions over which every method's picture is averaged, 1, 2, 4 or 8."
        ),
    ] = 1


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
