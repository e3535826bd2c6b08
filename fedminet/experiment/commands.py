"""`fedminet experiment ...`: a command for each, with its own options."""

from __future__ import annotations

import itertools
from collections.abc import Collection
from pathlib import Path

import typer

from fedminet.experiment.options import (
    AdaptationOptions,
    GateOptions,
    OutFolder,
    PatientsOptions,
    Quiet,
    SampleOptions,
    StudyOptions,
    WorthOptions,
)
from fedminet.listed_options import listed_whole_numbers, listed_words
from minet_core.runtime.option_groups import with_option_groups

USUAL_FOLDER = Path("experiment-run")


def table1(asked: StudyOptions, out: OutFolder = USUAL_FOLDER, quiet: Quiet = False) -> None:
    """Table 1 of the paper: every method at every site. The paper's numbers stand beside."""
    _study("table1", asked, out, quiet=quiet)


def table2(asked: StudyOptions, out: OutFolder = USUAL_FOLDER, quiet: Quiet = False) -> None:
    """Table 2 of the paper: what each part of MINet adds."""
    _study("table2", asked, out, quiet=quiet)


def figure3(asked: StudyOptions, out: OutFolder = USUAL_FOLDER, quiet: Quiet = False) -> None:
    """Figure 3 of the paper: images and error maps of every method."""
    _study("figure3", asked, out, quiet=quiet)


def reference(asked: StudyOptions, out: OutFolder = USUAL_FOLDER, quiet: Quiet = False) -> None:
    """What the reference adds. As it is and blurred, moved or of another patient."""
    _study("reference", asked, out, quiet=quiet)


def integration(asked: StudyOptions, out: OutFolder = USUAL_FOLDER, quiet: Quiet = False) -> None:
    """What the multi-stage integration adds. By the size of the model."""
    _study("integration", asked, out, quiet=quiet)


def _study(which: str, asked: StudyOptions, out: Path, *, quiet: bool) -> None:
    """One of the paper's experiments: its cells, trained and tested, and its tables."""
    from fedminet.experiment.catalogue import EXPERIMENTS
    from fedminet.experiment.methods import METHODS
    from fedminet.experiment.report.write_results import results_folder
    from fedminet.experiment.run import run_experiment
    from fedminet.experiment.study import MODES, StudyRequest, study_of
    from fedminet.single_machine.sites import parse_sites

    usual = EXPERIMENTS[which]
    named, ingested = parse_sites(asked.site or [])
    scales = listed_whole_numbers(asked.scale, option="--scale") if asked.scale else None
    request = StudyRequest(
        out=out,
        preset=asked.preset,
        modes=listed_words(asked.mode, option="--mode", known=MODES),
        methods=_methods(asked.methods, METHODS, otherwise=usual.methods),
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


def gate(asked: GateOptions, out: OutFolder = USUAL_FOLDER, quiet: Quiet = False) -> None:
    """What a wrong reference costs, and what the gate says of it."""
    from fedminet.experiment.gate.models import TROUBLES
    from fedminet.experiment.gate.run import GatePlan, run_gate

    models = _methods(asked.methods, TROUBLES, otherwise=GatePlan.models)
    for scale, site in itertools.product(
        listed_whole_numbers(asked.scale, option="--scale"), asked.site or [GatePlan.site]
    ):
        plan = GatePlan(
            out=out.resolve(),
            scale=scale,
            site=site,
            models=models,
            steps=asked.local_steps or GatePlan.steps,
        )
        typer.echo(f"Page: {run_gate(plan, quiet=quiet)}")


def patients(
    asked: PatientsOptions, samples: SampleOptions, out: OutFolder = USUAL_FOLDER, quiet: Quiet = False
) -> None:
    """Every patient of a site in turn as the test patient. The others train."""
    from fedminet.experiment.methods import METHODS
    from fedminet.experiment.patients.plan import PatientsPlan, model_changes
    from fedminet.experiment.patients.run import run_patients
    from fedminet.single_machine.sites import parse_sites
    from minet_core.settings.federation import BlurSettings

    if asked.threads is not None:
        import torch

        torch.set_num_threads(asked.threads)
    named, ingested = parse_sites(asked.site or [])
    training = {
        "batch_size": samples.batch,
        "patch_px": samples.patch,
        "flips": samples.flips or None,
        "blur": None if samples.blur is None else BlurSettings(max_px=samples.blur),
        "learning_rate": asked.rate,
        "decay_fraction": asked.decay,
    }
    given = {
        "methods": _methods(asked.methods, METHODS, otherwise=()) or None,
        "scales": listed_whole_numbers(asked.scale, option="--scale") if asked.scale else None,
        "n_steps": asked.steps,
        "equal": asked.equal or None,
    }
    plan = PatientsPlan(
        out=out.resolve(),
        named=named,
        ingested=ingested,
        n_seeds=asked.seeds,
        preset=asked.preset,
        n_patients=asked.patients,
        model=model_changes(asked.model or []),
        self_ensemble=asked.self_ensemble,
        training={name: value for name, value in training.items() if value is not None},
        **{name: value for name, value in given.items() if value is not None},  # type: ignore[arg-type]
    )
    cells = run_patients(plan, quiet=quiet)
    typer.echo(f"{len(cells)} cells. Page: {plan.folder / 'patients.md'}")


def worth(
    asked: WorthOptions,
    adapting: AdaptationOptions,
    samples: SampleOptions,
    out: OutFolder = USUAL_FOLDER,
    quiet: Quiet = False,
) -> None:
    """What taking part is worth to a site. A federation's model, adapted, beside the one that the site trains alone."""
    from fedminet.experiment.worth.plan import WorthPlan, newcomer_asked, rates_asked
    from fedminet.experiment.worth.run import run_worth
    from fedminet.single_machine.sites import parse_named_sites
    from minet_core.settings.adaptation import AdaptationSettings
    from minet_core.settings.yaml_file import parse_settings

    named = parse_named_sites(asked.site or [])
    given = {
        "head_steps": adapting.head_steps,
        "head_learning_rate": adapting.head_rate,
        "steps": adapting.adapt_steps,
        "decay_fraction": adapting.adapt_decay,
        "alone_learning_rate": adapting.alone_rate,
        **rates_asked(adapting.adapt_rate),
    }
    plan = WorthPlan(
        out=out.resolve(),
        seeds=listed_whole_numbers(asked.worth_seeds, option="--worth-seeds", minimum=1),
        patients=listed_whole_numbers(asked.own, option="--own", minimum=1),
        scale=asked.scale,
        preset=asked.preset,
        rounds=asked.rounds or WorthPlan.rounds,
        local_steps=asked.local_steps or WorthPlan.local_steps,
        batch_size=samples.batch,
        patch_px=samples.patch,
        flips=samples.flips,
        blur_px=samples.blur,
        learning_rate=asked.rate,
        validation=asked.validation,
        named=named,
        in_turn=bool(named),
        varied=not asked.alike,
        newcomer=newcomer_asked(asked.newcomer),
        adaptation=parse_settings(
            {name: value for name, value in given.items() if value is not None},
            AdaptationSettings,
            source="the options of the adaptation",
        ),
    )
    cells = run_worth(plan, quiet=quiet)
    typer.echo(f"{len(cells)} of {len(plan.keys())} cells. Page: {plan.folder / 'worth.md'}")


def _methods(text: str, known: Collection[str], *, otherwise: tuple[str, ...]) -> tuple[str, ...]:
    """What `--methods` lists; `otherwise` where it was not given."""
    return listed_words(text, option="--methods", known=known) if text else otherwise


experiment_commands = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
for _experiment in (table1, table2, figure3, reference, integration, worth, patients, gate):
    experiment_commands.command()(with_option_groups(_experiment))
