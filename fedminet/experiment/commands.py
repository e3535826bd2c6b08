"""`fedminet experiment`: what its options ask of each experiment."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Annotated

import typer

from fedminet.options import PatientsOptions, StudyOptions, WorthOptions
from minet_core.errors import InvalidSetting


def experiment(
    which: Annotated[
        str,
        typer.Argument(
            help="table1, table2 or figure3 of the paper, reference, integration, worth, gate, or patients."
        ),
    ],
    asked: StudyOptions,
    asked_worth: WorthOptions,
    asked_patients: PatientsOptions,
    out: Annotated[
        Path, typer.Option(help="A folder for the results; what is done there is not done again.")
    ] = Path("experiment-run"),
    quiet: Annotated[bool, typer.Option(help="No progress.")] = False,
) -> None:
    """The paper's tables and figure: every method, trained and tested, beside the paper's numbers."""
    from fedminet.experiment.catalogue import EXPERIMENTS
    from fedminet.experiment.report.write_results import results_folder
    from fedminet.experiment.run import run_experiment
    from fedminet.experiment.study import StudyRequest, study_of
    from fedminet.single_machine.sites import parse_sites

    if which == "worth":
        _worth(asked, asked_worth, out, quiet=quiet)
        return
    if which == "gate":
        _gate(asked, out, quiet=quiet)
        return
    if which == "patients":
        _patients(asked, asked_worth, asked_patients, out, quiet=quiet)
        return
    if which not in EXPERIMENTS:
        raise InvalidSetting(
            "no such experiment", got=which, expected=" or ".join((*EXPERIMENTS, "worth", "gate", "patients"))
        )
    usual = EXPERIMENTS[which]
    named, ingested = parse_sites(asked.site or [])
    scales = [int(one) if one.isdecimal() else 0 for one in asked.scale.split(",")] if asked.scale else None
    request = StudyRequest(
        out=out,
        preset=asked.preset,
        modes=(asked.mode or "federated").split(","),
        methods=asked.methods.split(",") if asked.methods else usual.methods,
        seeds=asked.seeds,
        scales=usual.scales if scales is None else scales,
        named=named,
        ingested=ingested,
        n_patients=asked.patients,
        rounds=asked.rounds,
        local_steps=asked.local_steps,
        equal=asked.equal or usual.equal,
    )
    study = study_of(request)
    cells = run_experiment(study, which, quiet=quiet)
    tables = results_folder(study, which)
    typer.echo(
        f"{len(cells)} of {len(study.cells())} cells. Tables: {tables / f'{which}.md'}, {tables / 'report.html'}"
    )


def _gate(asked: StudyOptions, out: Path, *, quiet: bool) -> None:
    """What a wrong reference costs, and what the gate says of it."""
    from fedminet.experiment.gate.run import GatePlan, run_gate
    from fedminet.experiment.worth.plan import whole_numbers

    models = tuple(asked.methods.split(",")) if asked.methods else GatePlan.models
    for scale, site in itertools.product(
        whole_numbers(asked.scale or "2", option="--scale"), asked.site or [GatePlan.site]
    ):
        plan = GatePlan(
            out=out.resolve(),
            scale=scale,
            site=site,
            models=models,
            steps=asked.local_steps or GatePlan.steps,
        )
        typer.echo(f"Page: {run_gate(plan, quiet=quiet)}")


def _patients(
    asked: StudyOptions, recipe: WorthOptions, asked_patients: PatientsOptions, out: Path, *, quiet: bool
) -> None:
    """Every patient in turn as the test patient."""
    from fedminet.experiment.patients.plan import PatientsPlan, model_changes
    from fedminet.experiment.patients.run import run_patients
    from fedminet.experiment.worth.plan import whole_numbers
    from fedminet.single_machine.sites import parse_sites
    from minet_core.settings.federation import BlurSettings

    if asked.mode not in ("", "local"):
        raise InvalidSetting("--mode is not understood", got=asked.mode, expected="local")
    if asked_patients.threads is not None:
        import torch

        torch.set_num_threads(asked_patients.threads)
    named, ingested = parse_sites(asked.site or [])
    training = {
        "batch_size": recipe.batch,
        "patch_px": recipe.patch,
        "flips": recipe.flips or None,
        "blur": None if recipe.blur is None else BlurSettings(max_px=recipe.blur),
        "learning_rate": asked_patients.rate,
        "decay_fraction": asked_patients.decay,
    }
    given = {
        "methods": tuple(asked.methods.split(",")) if asked.methods else None,
        "scales": whole_numbers(asked.scale, option="--scale") if asked.scale else None,
        "n_steps": asked_patients.steps,
        "equal": asked.equal or None,
    }
    plan = PatientsPlan(
        out=out.resolve(),
        named=named,
        ingested=ingested,
        n_seeds=asked.seeds,
        preset=asked.preset,
        n_patients=asked.patients,
        model=model_changes(asked_patients.model or []),
        self_ensemble=asked_patients.self_ensemble,
        training={name: value for name, value in training.items() if value is not None},
        **{name: value for name, value in given.items() if value is not None},  # type: ignore[arg-type]
    )
    cells = run_patients(plan, quiet=quiet)
    typer.echo(f"{len(cells)} cells. Page: {plan.folder / 'patients.md'}")


def _worth(asked: StudyOptions, asked_worth: WorthOptions, out: Path, *, quiet: bool) -> None:
    """What taking part is worth to a site."""
    from fedminet.experiment.worth.plan import WorthPlan, newcomer_asked, rates_asked, whole_numbers
    from fedminet.experiment.worth.run import run_worth
    from fedminet.single_machine.sites import parse_named_sites
    from minet_core.settings.adaptation import AdaptationSettings

    named = parse_named_sites(asked.site or [])
    given = {
        "head_steps": asked_worth.head_steps,
        "head_learning_rate": asked_worth.head_rate,
        "steps": asked_worth.adapt_steps,
        "decay_fraction": asked_worth.adapt_decay,
        **rates_asked(asked_worth.adapt_rate),
    }
    plan = WorthPlan(
        out=out.resolve(),
        seeds=whole_numbers(asked_worth.worth_seeds, option="--worth-seeds"),
        patients=whole_numbers(asked_worth.own, option="--own"),
        scale=whole_numbers(asked.scale or "2", option="--scale")[0],
        preset=asked.preset,
        rounds=asked.rounds or WorthPlan.rounds,
        local_steps=asked.local_steps or WorthPlan.local_steps,
        batch_size=asked_worth.batch,
        patch_px=asked_worth.patch,
        flips=asked_worth.flips,
        blur_px=asked_worth.blur,
        validation=asked_worth.validation,
        named=named,
        in_turn=bool(named),
        varied=not asked_worth.alike,
        newcomer=newcomer_asked(asked_worth.newcomer),
        adaptation=AdaptationSettings.model_validate(
            {name: value for name, value in given.items() if value is not None}
        ),
    )
    cells = run_worth(plan, quiet=quiet)
    typer.echo(f"{len(cells)} of {len(plan.keys())} cells. Page: {plan.folder / 'worth.md'}")
