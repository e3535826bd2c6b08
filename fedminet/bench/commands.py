"""`fedminet bench ...`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from fedminet.listed_options import listed_whole_numbers, listed_words
from fedminet.options import AsJson, LocalSteps, Patients, Preset, Rounds
from minet_core.errors import InvalidSetting

bench_commands = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

WHOLE_SLICE_PX = 320
"""Edge of the paper's slices."""


Repeats = Annotated[
    int, typer.Option("--steps", help="Interleaved rounds: one measurement of each side.", min=1)
]
Threads = Annotated[int, typer.Option(help="Of each side.", min=1)]
Baseline = Annotated[
    Path | None,
    typer.Option(help="A checkout of another commit, as `git worktree add` makes it, as one more side."),
]
Compiled = Annotated[
    bool,
    typer.Option("--compiled", help="The model by torch.compile as one more side; it needs a C++ compiler."),
]
Float32 = Annotated[
    bool, typer.Option("--float32", help="Compute in float32 where the processor has bfloat16 too.")
]
Results = Annotated[Path | None, typer.Option(help="Write PATH.md and PATH.json too.")]


@bench_commands.command()
def train(
    preset: Preset = "quick",
    patch_px: Annotated[int, typer.Option(help="Edge of the high-resolution patch.", min=8)] = 48,
    batch_size: Annotated[int, typer.Option(help="Patches in a step.", min=1)] = 8,
    steps: Repeats = 20,
    threads: Threads = 1,
    baseline: Baseline = None,
    compiled: Compiled = False,
    float32: Float32 = False,
    out: Results = None,
) -> None:
    """Time a training step. Beside the literal model, another commit and the machine's roof, interleaved."""
    size = {"preset": preset, "edge": patch_px, "batch": batch_size, "float32": float32}
    _compare(
        ["train"], size, steps=steps, threads=threads, baseline=baseline, out=out, more={"compiled": compiled}
    )


@bench_commands.command()
def infer(
    preset: Preset = "quick",
    edge_px: Annotated[int, typer.Option(help="Edge of a high-resolution slice.", min=8)] = WHOLE_SLICE_PX,
    slices: Annotated[int, typer.Option(help="Of the volume.", min=1)] = 2,
    steps: Repeats = 10,
    threads: Threads = 1,
    baseline: Baseline = None,
    onnx: Annotated[
        bool, typer.Option("--onnx", help="The exported model in ONNX Runtime as one more side.")
    ] = False,
    compiled: Compiled = False,
    float32: Float32 = False,
    out: Results = None,
) -> None:
    """Time a volume's inference. Beside the literal model, another commit and the machine's roof, interleaved."""
    size = {"preset": preset, "edge": edge_px, "batch": slices, "float32": float32}
    more = {"exported": onnx, "compiled": compiled}
    _compare(["infer"], size, steps=steps, threads=threads, baseline=baseline, out=out, more=more)


@bench_commands.command()
def data(
    patch_px: Annotated[int, typer.Option(help="Edge of the high-resolution patch.", min=8)] = 48,
    batch_size: Annotated[int, typer.Option(help="Patches in a batch.", min=1)] = 8,
    steps: Repeats = 50,
    threads: Threads = 1,
    baseline: Baseline = None,
    out: Results = None,
) -> None:
    """Time the drawing of a batch. From slices in memory, beside another commit."""
    size = {"edge": patch_px, "batch": batch_size}
    _compare(["data"], size, steps=steps, threads=threads, baseline=baseline, out=out)


@bench_commands.command()
def aggregate(
    preset: Preset = "quick",
    sites: Annotated[int, typer.Option(help="Replies of a round.", min=1)] = 10,
    parameters: Annotated[
        int | None, typer.Option(help="Values of a reply, in place of the preset's model.", min=1)
    ] = None,
    steps: Repeats = 20,
    threads: Threads = 1,
    baseline: Baseline = None,
    nvflare: Annotated[
        Path | None, typer.Option(help="The folder that NVFlare was installed in (pip's --target).")
    ] = None,
    out: Results = None,
) -> None:
    """Time the mean of a round's replies. Beside another commit, Flower's FedAvg, NVFlare's, and bare additions."""
    size = {"preset": preset, "sites": sites, "parameters": parameters}
    size["nvflare"] = None if nvflare is None else str(nvflare.resolve())
    _compare(["aggregate"], size, steps=steps, threads=threads, baseline=baseline, out=out)


@bench_commands.command()
def ingest(
    scans: Annotated[
        Path | None, typer.Option(help="A folder of T1 and T2 by patient, beside the phantoms.")
    ] = None,
    seeds: Annotated[str, typer.Option(help="Of the phantoms, with commas; empty: none.")] = "71,72",
    processes: Annotated[int, typer.Option(help="That make pairs at once, of this code.", min=1)] = 1,
    steps: Repeats = 5,
    baseline: Baseline = None,
    out: Results = None,
) -> None:
    """Time an ingest with registration. Beside another commit, with residuals and the errors of known motions."""
    import tempfile

    from fedminet.bench.ingests import bench_ingest, ingest_table, write_ingests

    chosen = listed_whole_numbers(seeds, option="--seeds") if seeds else ()
    if not chosen and scans is None:
        raise InvalidSetting("there is nothing to ingest", got="no seeds", expected="--seeds or --scans")
    with tempfile.TemporaryDirectory(prefix="bench-ingest-") as folder:
        sides = bench_ingest(
            Path(folder),
            n_rounds=steps,
            seeds=chosen,
            scans=scans,
            n_processes=processes,
            baseline=baseline,
        )
    typer.echo(ingest_table(sides, n_processes=processes), nl=False)
    if out is not None:
        write_ingests(out, sides, n_processes=processes)


@bench_commands.command(name="round")
def rounds(
    rounds: Annotated[int, typer.Option(help="Rounds of a run; its first is not counted.", min=2)] = 6,
    runs: Annotated[int, typer.Option(help="Runs of each side, in turn.", min=1)] = 3,
    patients: Patients = 5,
    local_steps: Annotated[
        int, typer.Option(help="Of a site in a round, one patch each: more make a long round.", min=1)
    ] = 1,
    baseline: Baseline = None,
    out: Results = None,
) -> None:
    """Time what a round costs beyond training. Taken apart, of three sites, on the real engine over loopback."""
    import tempfile

    from fedminet.bench.round_parts import rounds_table
    from fedminet.bench.rounds import bench_rounds, write_rounds
    from minet_core.runtime.processes.proxy_variables import stay_on_this_machine

    stay_on_this_machine()
    with tempfile.TemporaryDirectory(prefix="bench-round-") as folder:
        sides = bench_rounds(
            Path(folder),
            n_rounds=rounds,
            n_runs=runs,
            n_patients=patients,
            n_steps=local_steps,
            baseline=baseline,
        )
    typer.echo(rounds_table(sides), nl=False)
    if out is not None:
        write_rounds(out, sides)


@bench_commands.command(name="all")
def every(
    preset: Preset = "quick",
    steps: Repeats = 10,
    threads: Threads = 1,
    baseline: Baseline = None,
    out: Results = None,
) -> None:
    """Time train, infer, data and aggregate in their usual sizes."""
    from fedminet.bench.compare import TASKS

    _compare(TASKS, {"preset": preset}, steps=steps, threads=threads, baseline=baseline, out=out)


def _compare(
    tasks: Sequence[str],
    size: Mapping[str, Any],
    *,
    steps: int,
    threads: int,
    baseline: Path | None,
    out: Path | None,
    more: Mapping[str, bool] = {},
) -> None:
    """more: the further sides of `compare`, and whether they are measured."""
    from fedminet.bench.compare import BenchSize, compare, table_text, write_results
    from fedminet.experiment.methods import SIZES

    if (preset := size.get("preset", "quick")) not in SIZES:
        raise InvalidSetting("no such preset", got=preset, expected=" or ".join(SIZES))
    comparisons = []
    for task in tasks:
        usual = {"edge": WHOLE_SLICE_PX, "batch": 2} if task == "infer" else {}
        measured = BenchSize(**{**usual, **size})
        comparisons.append(
            compare(task, measured, n_rounds=steps, threads=threads, baseline=baseline, **more)
        )
    typer.echo(table_text(comparisons, threads=threads), nl=False)
    if out is not None:
        write_results(out, comparisons, threads=threads)


@bench_commands.command()
def steps(
    preset: Preset = "paper",
    methods: Annotated[str, typer.Option(help="With commas.")] = "edsr,smore,zeng,lyu,minet",
    scale: Annotated[int, typer.Option(help="2 or 4.")] = 2,
    edge_px: Annotated[
        int | None, typer.Option(help="Edge of the slice or patch. Else the preset's patch, or 320.", min=16)
    ] = None,
    batch_size: Annotated[
        str | None, typer.Option(help="Else the preset's. Several with commas, as 1,2,4,8,16.")
    ] = None,
    n_steps: Annotated[int, typer.Option("--steps", help="Steps that are timed of each.", min=1)] = 8,
    ways: Annotated[
        str, typer.Option(help="With commas: all stored, recomputed, compiled, CUDA graphs.")
    ] = "all stored,recomputed",
    curve_steps: Annotated[
        int, typer.Option(help="Steps of short trainings on phantoms, whose losses are compared.", min=0)
    ] = 0,
    baseline: Baseline = None,
    out: Results = None,
) -> None:
    """Time a training step of each method. With the GPU's memory, as a Markdown table."""
    from fedminet.bench.step_times import WAYS
    from fedminet.bench.steps import StepsAsked, bench_steps, steps_table, write_steps
    from fedminet.experiment.methods import METHODS, SIZES, is_learned
    from minet_core.models.base import check_scale
    from minet_core.settings.federation import PRESETS

    if preset not in SIZES:
        raise InvalidSetting("no such preset", got=preset, expected=" or ".join(SIZES))
    named = listed_words(methods, option="--methods", known=list(filter(is_learned, METHODS)))
    chosen_ways = listed_words(ways, option="--ways", known=WAYS)
    check_scale(scale)
    training = PRESETS[preset][1]
    edge_px = edge_px or training.patch_px or WHOLE_SLICE_PX
    if edge_px % scale:
        raise InvalidSetting(
            "the slice does not fit the scale", got=edge_px, expected=f"a multiple of {scale}"
        )
    asked = StepsAsked(
        methods=named,
        preset=preset,
        scale=scale,
        edge_px=edge_px,
        batch_sizes=[training.batch_size]
        if batch_size is None
        else listed_whole_numbers(batch_size, option="--batch-size", minimum=1),
        n_steps=n_steps,
        ways=chosen_ways,
        baseline=baseline,
        curve_steps=curve_steps,
    )
    found = bench_steps(asked, seen=None if out is None else lambda found: write_steps(out, found))
    typer.echo(steps_table(found))


@bench_commands.command()
def algorithms(
    out: Annotated[
        Path, typer.Option(help="A folder for what is made; a comparison that ended early goes on from it.")
    ] = Path("algorithms-bench"),
    seeds: Annotated[int, typer.Option(help="Seeds, from 1 on.", min=1)] = 3,
    rounds: Rounds = None,
    local_steps: LocalSteps = None,
    patients: Patients = 10,
    json_output: AsJson = False,
) -> None:
    """Compare the federated algorithms on phantoms. Beside each site alone and the pooled data, as a Markdown table."""
    from fedminet.bench.algorithms import USUAL, bench_algorithms

    cells = bench_algorithms(
        out,
        seeds=range(1, seeds + 1),
        rounds=rounds or USUAL.rounds,
        local_steps=local_steps or USUAL.local_steps,
        n_patients=patients,
        quiet=json_output,
    )
    if json_output:
        typer.echo(json.dumps([cell.model_dump(mode="json") for cell in cells]))
    else:
        typer.echo((out / "table.md").read_text(encoding="utf-8"), nl=False)
