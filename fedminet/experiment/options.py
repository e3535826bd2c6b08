"""What the experiments are asked for: groups of options, so that a command has those alone that it reads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from fedminet.options import LocalSteps, NamedSites, Patients, Preset, Rounds, Scale, TrainingPreset

OutFolder = Annotated[
    Path, typer.Option("--out", help="A folder for the results; what is done there is not done again.")
]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress.")]
Sites = Annotated[
    list[str] | None,
    typer.Option(
        "--site",
        help="NAME=FOLDER: scans, which are ingested for it; or the folder of a site that has been ingested. "
        "Repeat it; without any the sites are phantoms.",
    ),
]
Seeds = Annotated[int, typer.Option(help="How many seeds, from 1.", min=1)]
Scales = Annotated[str, typer.Option("--scale", help="2, 4, or both with a comma; else the usual ones.")]
Methods = Annotated[str, typer.Option(help="Some of the methods, with commas; else the usual ones.")]
Equal = Annotated[
    str, typer.Option(help="time or steps: what every method gets as much of as MINet. Else as it is usual.")
]


@dataclass(frozen=True)
class StudyOptions:
    """Which cells an experiment of the paper has, and how each is trained."""

    preset: Preset = "quick"
    mode: Annotated[
        str,
        typer.Option(
            help="federated, pooled, local, or without (a federation of the others), several with commas."
        ),
    ] = "federated"
    seeds: Seeds = 1
    site: Sites = None
    scale: Scales = ""
    methods: Methods = ""
    patients: Patients = 10
    rounds: Rounds = None
    local_steps: LocalSteps = None
    equal: Equal = ""


@dataclass(frozen=True)
class SampleOptions:
    """What the samples of a training are, where it is not the preset's."""

    batch: Annotated[int | None, typer.Option(help="Patches in a step, else the preset's.", min=1)] = None
    patch: Annotated[int | None, typer.Option(help="Edge of a patch, px, else the preset's.", min=16)] = None
    flips: Annotated[bool, typer.Option("--flips", help="Samples flipped and transposed at random.")] = False
    blur: Annotated[
        float | None,
        typer.Option(
            help="Targets blurred among the samples, by a Gaussian of at most so many px, else the preset's.",
            min=0.1,
            max=4,
        ),
    ] = None


@dataclass(frozen=True)
class WorthOptions:
    """Which federations are compared with what a site trains alone."""

    preset: TrainingPreset = "quick"
    site: NamedSites = None
    scale: Scale = 2
    own: Annotated[str, typer.Option(help="Training patients of each site, several with commas.")] = "2,7"
    worth_seeds: Annotated[str, typer.Option(help="The seeds themselves, with commas.")] = "1"
    rounds: Rounds = None
    local_steps: LocalSteps = None
    rate: Annotated[
        float | None,
        typer.Option(
            help="Learning rate of the rounds, and of the model alone if it has none of its own; else the preset's.",
            min=1e-6,
            max=1,
        ),
    ] = None
    validation: Annotated[
        bool, typer.Option("--validation", help="Figures of validation patients; no test patient is read.")
    ] = False
    alike: Annotated[
        bool, typer.Option("--alike", help="Phantoms who differ in the shape of their anatomy alone.")
    ] = False
    newcomer: Annotated[
        str | None,
        typer.Option(
            help="known or unknown: each site in turn takes no part and adapts the others' model; its kind of "
            "scanner and anatomy is among them, or not."
        ),
    ] = None


@dataclass(frozen=True)
class AdaptationOptions:
    """How each site adapts the global model, where it is not the usual way."""

    head_steps: Annotated[int | None, typer.Option(help="Steps of the head alone.", min=0)] = None
    head_rate: Annotated[float | None, typer.Option(help="Learning rate in them.")] = None
    adapt_steps: Annotated[int | None, typer.Option(help="Steps of the whole model.", min=1)] = None
    adapt_rate: Annotated[
        str | None,
        typer.Option(help="Learning rate in them; several with commas are a ladder to choose from."),
    ] = None
    adapt_decay: Annotated[
        float | None,
        typer.Option(help="Last part of them over which the rate falls, else the preset's.", min=0, max=1),
    ] = None
    alone_rate: Annotated[
        float | None,
        typer.Option(help="Learning rate of the model alone, else that of the rounds.", min=1e-6, max=1),
    ] = None


@dataclass(frozen=True)
class GateOptions:
    """Which phantoms and models are laid before the gate."""

    site: Annotated[
        list[str] | None,
        typer.Option(help="sms, umr or fastmri, whose phantoms the models are trained on; repeat it."),
    ] = None
    scale: Scales = "2"
    methods: Annotated[str, typer.Option(help="Some of its models, with commas; else all.")] = ""
    local_steps: LocalSteps = None


@dataclass(frozen=True)
class PatientsOptions:
    """Whose patients are tested in turn, and by which methods."""

    preset: TrainingPreset = "quick"
    site: Sites = None
    seeds: Seeds = 1
    scale: Scales = ""
    methods: Methods = ""
    patients: Patients = 10
    equal: Equal = ""
    steps: Annotated[int | None, typer.Option(help="MINet's optimizer steps.", min=1)] = None
    rate: Annotated[float | None, typer.Option(help="Learning rate, else the preset's.", min=0)] = None
    decay: Annotated[
        float | None,
        typer.Option(help="Last part of the steps over which the rate falls.", min=0, max=1),
    ] = None
    model: Annotated[
        list[str] | None,
        typer.Option(help="KEY=VALUE of MINet's model, else the preset's; repeat it."),
    ] = None
    threads: Annotated[int | None, typer.Option(help="Threads that compute, else all.", min=1)] = None
    self_ensemble: Annotated[
        int,
        typer.Option(
            help="Flips and transpositions over which every method's picture is averaged, 1, 2, 4 or 8."
        ),
    ] = 1
