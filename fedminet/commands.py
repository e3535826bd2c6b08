"""The verbs that coordinator, site and researcher share."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedminet.experiment.commands import experiment_commands
from fedminet.listed_options import listed_words
from fedminet.options import AsJson, PictureMaking, RehearsalOptions, ScanOptions, TrainingOptions
from minet_core.errors import InvalidSetting
from minet_core.runtime.option_groups import with_option_groups

if TYPE_CHECKING:
    from fedminet.single_machine.federation import Rehearsal
    from minet_core.report.summary import Summary
    from sites.super_resolution.super_resolve_series import SeriesPair


def add_shared_verbs(app: typer.Typer) -> None:
    """Put the shared verbs beside the groups."""
    for verb in (demo, simulate, train, evaluate, infer, export, report):
        app.command()(with_option_groups(verb))
    app.add_typer(
        experiment_commands,
        name="experiment",
        help="Experiments: the paper's tables and figure, and more.",
    )


def demo(
    asked: RehearsalOptions,
    out: Annotated[Path, typer.Option(help="A new folder for everything the demonstration makes.")] = Path(
        "demo-run"
    ),
    prepare_for: Annotated[
        str | None,
        typer.Option(
            help="HOST: only make the folders, for containers that reach the coordinator as HOST:443."
        ),
    ] = None,
    adapt: Annotated[
        bool | None,
        typer.Option(
            "--adapt/--no-adapt",
            help="Each site then adapts the global model to its own patients; on phantoms it does unless told not to.",
        ),
    ] = None,
    json_output: AsJson = False,
) -> None:
    """Run a whole federation on this machine. Coordinator and three sites, over loopback with TLS, to the report."""
    from fedminet.single_machine.site_workers import begin_site_workers

    begin_site_workers()  # their imports run beside these

    from fedminet.single_machine.demo import prepare_for_containers, run_demo
    from fedminet.single_machine.federation import DEMO_ADAPTATION, DEMO_TRAINING_S
    from minet_core.runtime.processes.proxy_variables import stay_on_this_machine

    stay_on_this_machine()
    on_scans = "demo on scans at 4x" if asked.scale == 4 else "demo on scans"
    rehearsal = _declared(out, asked, usual=on_scans if asked.site else "demo")
    if adapt is not None:
        rehearsal = rehearsal.adapting(DEMO_ADAPTATION if adapt else None)
    if prepare_for is not None:
        prepare_for_containers(rehearsal, host=prepare_for, quiet=json_output)
        return
    chosen = bool(asked.site) or asked.rounds is not None or asked.local_steps is not None
    summary = run_demo(rehearsal, quiet=json_output, training_s=None if chosen else DEMO_TRAINING_S)
    _say_summary(summary, out, json_output=json_output)


def simulate(
    asked: RehearsalOptions,
    out: Annotated[Path, typer.Option(help="A new folder for everything the simulation makes.")] = Path(
        "simulation-run"
    ),
    engine: Annotated[str, typer.Option(help="in-process or ray.")] = "in-process",
    compare: Annotated[str, typer.Option(help="pooled, local, or both with a comma.")] = "",
    algorithm: Annotated[
        str, typer.Option(help="fedavg, fedprox, scaffold, fedadam or personal-head.")
    ] = "fedavg",
    adapt: Annotated[
        bool, typer.Option("--adapt", help="Each site then adapts the global model to its own patients.")
    ] = False,
    json_output: AsJson = False,
) -> None:
    """Run the same federation in one process, without transport. On an in-process grid, or on Ray."""
    from fedminet.simulation.simulate import COMPARISONS
    from fedminet.simulation.simulate import simulate as run_simulation
    from minet_core.settings.adaptation import AdaptationSettings

    rehearsal = _declared(out, asked, usual="simulation", algorithm=algorithm)
    if adapt:
        rehearsal = rehearsal.adapting(AdaptationSettings())
    compared = listed_words(compare, option="--compare", known=COMPARISONS) if compare else ()
    summary = run_simulation(rehearsal, engine=engine, compare=compared, quiet=json_output)
    _say_summary(summary, out, json_output=json_output)


def train(
    site: Annotated[list[Path], typer.Option(help="A site's folder; repeat it.")],
    asked: TrainingOptions,
    out: Annotated[
        Path,
        typer.Option(
            help="The folder for the model and all that training needs to go on; NAME.safetensors puts the pooled "
            "model there and the rest into NAME."
        ),
    ] = Path("alone.safetensors"),
    json_output: AsJson = False,
) -> None:
    """Train without a federation. On the pooled data of several sites or on each alone; given again, it goes on."""
    from fedminet.centralised.ranks import exit_worker
    from fedminet.centralised.train import TrainOptions, train_models

    given = asdict(asked)
    options = TrainOptions(n_workers=given.pop("workers"), **given)
    trained = train_models(site, out, options, quiet=json_output)
    if not json_output:
        for model in trained:
            typer.echo(f"Model: {model.path} ({model.sha256})")
    elif trained:
        pages = {model.label: model.as_json() for model in trained}
        typer.echo(json.dumps(pages if asked.mode == "local" else trained[0].as_json()))
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
    scans: ScanOptions,
    picture: PictureMaking,
    model: Annotated[
        Path,
        typer.Option(help="The model, a .safetensors file; or what `fedminet export` made of one, .onnx."),
    ],
    out: Annotated[
        Path,
        typer.Option(
            help="Where to write the super-resolved scan: a NIfTI file, or of DICOM a new or empty folder."
        ),
    ],
    slice_axis: Annotated[
        int | None,
        typer.Option(
            help="Of NIfTI: the target file's axis through its slices, 0 to 2, where its header, the reference and "
            "the spacing do not tell.",
            min=0,
            max=2,
        ),
    ] = None,
    send: Annotated[
        str | None,
        typer.Option(
            help="Of DICOM: send the new series there when it is whole, and its map, as AE@host:port."
        ),
    ] = None,
    json_output: AsJson = False,
) -> None:
    """Super-resolve a scan. A research output, not for diagnosis. What gives reason for doubt is said."""
    from minet_core.runtime.progress import progress
    from sites.super_resolution.believed_reference import PictureOptions
    from sites.super_resolution.super_resolve import super_resolve_file
    from sites.super_resolution.super_resolve_series import super_resolve_series

    found = _scans_for_inference(scans, slice_axis=slice_axis)
    deliver = _delivery(send, found, scans.site, with_map=picture.uncertainty)
    options = PictureOptions(**asdict(picture))
    with progress("Super-resolving", quiet=json_output) as advance:
        if isinstance(found, tuple):
            made = super_resolve_file(
                model, *found, out, options=options, slice_axis=slice_axis, progress=advance
            )
        else:
            made = super_resolve_series(model, found, out, options=options, progress=advance)
    if json_output:
        typer.echo(json.dumps(made.as_json()))
    else:
        for said in () if isinstance(found, tuple) else found.remarks:
            typer.echo(said)
        typer.echo(made.as_text())
    if deliver is not None:
        count = deliver(out)
        if not json_output:
            typer.echo(f"Sent: {count} objects to {send}")


def export(
    model: Annotated[Path, typer.Argument(help="The model, a .safetensors file.")],
    onnx: Annotated[Path, typer.Option(help="The file to write, in .onnx.")],
    json_output: AsJson = False,
) -> None:
    """Write a model as one ONNX file for other programs. Its weights are inside. For research, not for diagnosis."""
    from minet_core.exported.onnx_file import export_onnx

    metadata = export_onnx(model, onnx)
    if json_output:
        typer.echo(json.dumps({"path": str(onnx), **metadata}))
    else:
        typer.echo(f"Written: {onnx}, of the model {metadata['model_sha256']}")


def _delivery(
    send: str | None, found: tuple[Path, Path] | SeriesPair, site: Path | None, *, with_map: bool
) -> Callable[[Path], int] | None:
    """What sends a written series, checked before anything is made. The site's title and TLS where one is given."""
    if send is None:
        return None
    from client.pacs.send import send_series
    from client.receive.peer import Caller, Peer
    from client.site_home import SiteHome
    from sites.super_resolution.super_resolve_series import map_of

    if isinstance(found, tuple):
        raise InvalidSetting("a NIfTI file goes to no PACS", got="--send", action="Give DICOM, or no --send")
    peer, caller = Peer.parse(send), Caller()
    if site is not None:
        settings = SiteHome.at(site).settings()
        caller = Caller.of_site(settings.receive, timeout_s=settings.pacs.timeout_s, tls=settings.pacs.tls)
    return lambda folder: send_series(folder, peer, caller, beside=[map_of(folder)] if with_map else [])


def _scans_for_inference(asked: ScanOptions, *, slice_axis: int | None) -> tuple[Path, Path] | SeriesPair:
    """The two files of NIfTI, or the two series of DICOM."""
    from client.site_home import SiteHome
    from sites.ingest_plan import file_kind
    from sites.settings.scan_files import DicomFiles
    from sites.super_resolution.super_resolve_series import pair_in_study, pair_of_folders

    target, reference, study, site = asked.target, asked.reference, asked.study, asked.site
    if study is not None and (target, reference, slice_axis) == (None, None, None):
        rules = DicomFiles() if site is None else SiteHome.at(site).settings().dicom
        return pair_in_study(study, rules)
    if target is None or reference is None or study is not None or site is not None:
        raise InvalidSetting(
            "the scans are not said",
            expected="--target with --reference, or --study alone or with --site",
            action="Give two scans, or the folder of one DICOM study",
        )
    if not target.is_dir() and not reference.is_dir():
        for path in (target, reference):
            if file_kind(path) == "dicom":
                raise InvalidSetting(
                    "a DICOM file is given in place of its series",
                    got=path,
                    expected="for each scan the folder of one series",
                    action="Give the folder; a file that holds a whole series goes into a folder of its own",
                )
        return target, reference
    if slice_axis is not None:
        raise InvalidSetting("DICOM says which axis runs through the slices", got="--slice-axis")
    return pair_of_folders(target, reference)


def report(
    run: Annotated[
        Path, typer.Argument(help="A run directory, or the folder of a demonstration or simulation.")
    ],
    picture: Annotated[
        Path | None, typer.Option(help="Also write the sites' images as one small PNG.")
    ] = None,
) -> None:
    """Draw a run's report.html anew, and print its table."""
    from rich.console import Console

    from fedminet.single_machine.report import report_on
    from minet_core.report.table import print_table

    summary, path = report_on(run, picture=picture)
    print_table(summary, Console())
    typer.echo(f"Report: {path}")


def _declared(out: Path, asked: RehearsalOptions, *, usual: str, algorithm: str = "fedavg") -> Rehearsal:
    """The rehearsal of these options. usual: the schedule where none is asked for."""
    from fedminet.single_machine.federation import SCHEDULES, Rehearsal

    known = SCHEDULES[usual]
    return Rehearsal.declared(
        out,
        asked.site or [],
        schedule=replace(
            known,
            preset=asked.preset,
            rounds=asked.rounds or known.rounds,
            local_steps=asked.local_steps or known.local_steps,
        ),
        scale=asked.scale,
        n_patients=asked.patients,
        seed=asked.seed,
        algorithm=algorithm,
    )


def _say_summary(summary: Summary, out: Path, *, json_output: bool) -> None:
    from rich.console import Console

    from minet_core.report.table import print_table

    if json_output:
        typer.echo(json.dumps(summary.model_dump(mode="json", by_alias=True)))
    else:
        print_table(summary, Console())
        typer.echo(f"Report: {out / 'report.html'}")
