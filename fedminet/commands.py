"""The verbs that coordinator, site and researcher share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from fedminet.options import AsJson, LocalSteps, NamedSites, Patients, Preset, Rounds, Scale, Seed
from minet_core.errors import InvalidSetting


def add_shared_verbs(app: typer.Typer) -> None:
    """Put the shared verbs beside the groups."""
    for verb in (demo, simulate, train, evaluate, infer, report, experiment):
        app.command()(verb)


def demo(
    site: NamedSites = None,
    out: Annotated[Path, typer.Option(help="A new folder for everything the demonstration makes.")] = Path(
        "demo-run"
    ),
    rounds: Rounds = None,
    local_steps: LocalSteps = None,
    scale: Scale = 2,
    patients: Patients = 10,
    seed: Seed = 1,
    prepare_for: Annotated[
        str | None,
        typer.Option(
            help="HOST: only make the folders, for containers that reach the coordinator as HOST:443."
        ),
    ] = None,
    json_output: AsJson = False,
) -> None:
    """A coordinator and three sites on this machine, over loopback with TLS: train, test, report."""
    from rich.console import Console

    from fedminet.single_machine.demo import prepare_for_containers, run_demo
    from fedminet.single_machine.federation import DEMO_TRAINING_S, SCHEDULES, Rehearsal, Schedule
    from minet_core.report.table import print_table
    from minet_core.runtime.processes.proxy_variables import stay_on_this_machine

    stay_on_this_machine()
    usual = SCHEDULES[("demo on scans at 4x" if scale == 4 else "demo on scans") if site else "demo"]
    schedule = Schedule(rounds or usual.rounds, local_steps or usual.local_steps)
    rehearsal = Rehearsal.declared(
        out, site or [], schedule=schedule, scale=scale, n_patients=patients, seed=seed
    )
    if prepare_for is not None:
        prepare_for_containers(rehearsal, host=prepare_for, quiet=json_output)
        return
    asked = bool(site) or rounds is not None or local_steps is not None
    summary = run_demo(rehearsal, quiet=json_output, training_s=None if asked else DEMO_TRAINING_S)
    if json_output:
        typer.echo(json.dumps(summary.model_dump(mode="json", by_alias=True)))
    else:
        print_table(summary, Console())
        typer.echo(f"Report: {out / 'report.html'}")


def simulate(
    site: NamedSites = None,
    out: Annotated[Path, typer.Option(help="A new folder for everything the simulation makes.")] = Path(
        "simulation-run"
    ),
    rounds: Rounds = None,
    local_steps: LocalSteps = None,
    scale: Scale = 2,
    patients: Patients = 10,
    seed: Seed = 1,
    engine: Annotated[str, typer.Option(help="in-process or ray.")] = "in-process",
    compare: Annotated[str, typer.Option(help="pooled, local, or both with a comma.")] = "",
    algorithm: Annotated[
        str, typer.Option(help="fedavg, fedprox, scaffold, fedadam or personal-head.")
    ] = "fedavg",
    json_output: AsJson = False,
) -> None:
    """The same two apps without transport, on an in-process grid or on Ray."""
    from rich.console import Console

    from fedminet.simulation.simulate import simulate as run_simulation
    from fedminet.single_machine.federation import SCHEDULES, Rehearsal, Schedule
    from minet_core.report.table import print_table

    usual = SCHEDULES["simulation"]
    schedule = Schedule(rounds or usual.rounds, local_steps or usual.local_steps)
    rehearsal = Rehearsal.declared(
        out, site or [], schedule=schedule, scale=scale, n_patients=patients, seed=seed, algorithm=algorithm
    )
    compared = tuple(part for part in compare.split(",") if part)
    summary = run_simulation(rehearsal, engine=engine, compare=compared, quiet=json_output)
    if json_output:
        typer.echo(json.dumps(summary.model_dump(mode="json", by_alias=True)))
    else:
        print_table(summary, Console())
        typer.echo(f"Report: {out / 'report.html'}")


def train(
    site: Annotated[list[Path], typer.Option(help="A site's folder; repeat it.")],
    out: Annotated[
        Path,
        typer.Option(
            help="The folder for the model and all that training needs to go on; NAME.safetensors puts the pooled "
            "model there and the rest into NAME."
        ),
    ] = Path("alone.safetensors"),
    mode: Annotated[
        str, typer.Option(help="pooled: one model on all sites' data; local: one on each site's own.")
    ] = "pooled",
    preset: Preset = "quick",
    rounds: Rounds = None,
    local_steps: LocalSteps = None,
    scale: Scale = 2,
    seed: Seed = 1,
    workers: Annotated[
        int | None, typer.Option(help="Processes that draw batches. 4 on CUDA, 0 on the CPU.", min=0)
    ] = None,
    recompute: Annotated[
        bool | None,
        typer.Option(
            help="Recompute groups of layers in place of storing them: less memory, more time. "
            "On for a large model on CUDA."
        ),
    ] = None,
    save_every: Annotated[
        int, typer.Option(help="Steps after which the state that training goes on from is replaced.", min=1)
    ] = 200,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Write TensorBoard's events too.")
    ] = False,
    json_output: AsJson = False,
) -> None:
    """Train without a federation, on the pooled data of several sites or on each alone; given again, it goes on."""
    from fedminet.centralised.ranks import exit_worker
    from fedminet.centralised.train import TrainOptions, train_models

    options = TrainOptions(
        mode=mode,
        preset=preset,
        rounds=rounds,
        local_steps=local_steps,
        scale=scale,
        seed=seed,
        n_workers=workers,
        recompute=recompute,
        save_every=save_every,
        tensorboard=tensorboard,
    )
    trained = train_models(site, out, options, quiet=json_output)
    if not json_output:
        for model in trained:
            typer.echo(f"Model: {model.path} ({model.sha256})")
    elif trained:
        pages = {model.label: model.as_json() for model in trained}
        typer.echo(json.dumps(pages if mode == "local" else trained[0].as_json()))
    exit_worker()


def evaluate(
    model: Annotated[Path, typer.Option(help="The model, a .safetensors file.")],
    site: Annotated[Path, typer.Option(help="The site's folder.")],
    json_output: AsJson = False,
) -> None:
    """Score a model on a site's test split, beside sinc and bicubic."""
    from fedminet.centralised.baseline import evaluate_file
    from sites.scores import scores_as_text

    figures = evaluate_file(model, site, quiet=json_output)
    typer.echo(json.dumps(figures) if json_output else scores_as_text(figures))


def infer(
    model: Annotated[Path, typer.Option(help="The model, a .safetensors file.")],
    target: Annotated[Path, typer.Option(help="The low-resolution scan, NIfTI.")],
    reference: Annotated[Path, typer.Option(help="The high-resolution scan of the other contrast, NIfTI.")],
    out: Annotated[Path, typer.Option(help="Where to write the super-resolved scan.")],
    register: Annotated[bool, typer.Option(help="Register the reference to the target first.")] = True,
    slice_axis: Annotated[
        int | None,
        typer.Option(
            help="The target file's axis through its slices, 0 to 2, where its header, the reference and the spacing "
            "do not tell.",
            min=0,
            max=2,
        ),
    ] = None,
    json_output: AsJson = False,
) -> None:
    """Super-resolve a scan. A research output, not for diagnosis. What gives reason for doubt is said."""
    from minet_core.runtime.progress import progress
    from sites.super_resolution.super_resolve import super_resolve_file

    with progress("Super-resolving", quiet=json_output) as advance:
        made = super_resolve_file(
            model, target, reference, out, register=register, slice_axis=slice_axis, progress=advance
        )
    typer.echo(json.dumps(made.as_json()) if json_output else made.as_text())


def report(
    run: Annotated[
        Path, typer.Argument(help="A run directory, or the folder of a demonstration or simulation.")
    ],
    picture: Annotated[
        Path | None, typer.Option(help="Also write the sites' images as one small PNG.")
    ] = None,
) -> None:
    """Draw report.html anew from what a run left, and print its table."""
    from rich.console import Console

    from fedminet.single_machine.report import report_on
    from minet_core.report.table import print_table

    summary, path = report_on(run, picture=picture)
    print_table(summary, Console())
    typer.echo(f"Report: {path}")


def experiment(
    which: Annotated[
        str, typer.Argument(help="table1, table2 or figure3 of the paper, reference, or integration.")
    ],
    preset: Preset = "quick",
    mode: Annotated[
        str,
        typer.Option(
            help="federated, pooled, local, or without (a federation of the others), several with commas."
        ),
    ] = "federated",
    seeds: Annotated[int, typer.Option(help="How many seeds, from 1.", min=1)] = 1,
    out: Annotated[
        Path, typer.Option(help="A folder for the results; what is done there is not done again.")
    ] = Path("experiment-run"),
    site: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME=FOLDER: scans, which are ingested for it; or the folder of a site that has been ingested. "
            "Repeat it; without any the sites are phantoms."
        ),
    ] = None,
    scale: Annotated[str, typer.Option(help="2, 4, or both with a comma; else as the paper has it.")] = "",
    methods: Annotated[str, typer.Option(help="Some of the methods, with commas; else all.")] = "",
    patients: Patients = 10,
    rounds: Rounds = None,
    local_steps: LocalSteps = None,
    equal: Annotated[
        str,
        typer.Option(help="time or steps: what every method gets as much of as MINet. Else as it is usual."),
    ] = "",
    quiet: Annotated[bool, typer.Option(help="No progress.")] = False,
) -> None:
    """The paper's tables and figure: every method, trained and tested, beside the paper's numbers."""
    from fedminet.experiment.catalogue import EXPERIMENTS
    from fedminet.experiment.report.write_results import results_folder
    from fedminet.experiment.run import run_experiment
    from fedminet.experiment.study import study_of
    from fedminet.single_machine.sites import parse_sites

    if which not in EXPERIMENTS:
        raise InvalidSetting("no such experiment", got=which, expected=" or ".join(EXPERIMENTS))
    usual = EXPERIMENTS[which]
    named, ingested = parse_sites(site or [])
    study = study_of(
        out,
        preset=preset,
        modes=mode.split(","),
        methods=methods.split(",") if methods else usual.methods,
        seeds=seeds,
        scales=[int(one) if one.isdecimal() else 0 for one in scale.split(",")] if scale else usual.scales,
        named=named,
        ingested=ingested,
        n_patients=patients,
        rounds=rounds,
        local_steps=local_steps,
        equal=equal or usual.equal,
    )
    cells = run_experiment(study, which, quiet=quiet)
    tables = results_folder(study, which)
    typer.echo(
        f"{len(cells)} of {len(study.cells())} cells. Tables: {tables / f'{which}.md'}, {tables / 'report.html'}"
    )
