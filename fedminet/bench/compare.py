"""`fedminet bench train|infer|data|aggregate|all`: this code beside a stated baseline, interleaved in one run.

A side is a process (`side.py`) that works only while it is asked to; they are asked in turn, A B A B, so what else the
machine does meets all of them alike. Quote the ratios: the seconds of two runs mean little. The sides of a training
step and of inference are this checkout, the literal model of its tests, another commit's checkout where one is named,
and the machine's roof: bare convolutions of the model's width for as many FLOPs.
"""

from __future__ import annotations

import contextlib
import json
import os
import runpy
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from minet_core.errors import FileMissing, ProcessDied
from minet_core.runtime.cpu_threading import cpu_threading_environment
from minet_core.runtime.files.atomic_write import write_json, write_text
from minet_core.runtime.machine import machine_facts
from minet_core.runtime.versions import version_line
from minet_core.settings.federation import PRESETS

SIDE = Path(__file__).with_name("side.py")
CHECKOUT = Path(__file__).resolve().parents[2]
THREADING = Path("minet_core", "runtime", "cpu_threading.py")
"""It imports nothing, in every commit that a side may be of."""
ORACLE = Path("tests", "oracles", "minet_literal.py")

COLUMNS = ("side", "ms", "ratio", "GFLOP", "saved for backward, MB", "operations", "first, ms", "peak, MB")

TASKS = ("train", "infer", "data", "aggregate")
THIS, LITERAL, BASELINE, ROOF = "this code", "literal", "baseline", "roof"
EXPORTED, COMPILED = "ONNX Runtime", "compiled"
FLOWER, NVFLARE = "Flower's FedAvg", "NVFlare's weighted mean"


@dataclass(frozen=True, kw_only=True)
class BenchSize:
    """What is measured. edge: px of a high-resolution patch or slice. batch: patches of a step or a volume's slices.

    parameters: of a reply, where it is not the preset's model. nvflare: the folder that NVFlare was installed in, as
    one more side of the mean. float32: of a step and of inference, whatever the processor has.
    """

    preset: str = "quick"
    edge: int = 48
    batch: int = 8
    sites: int = 10
    parameters: int | None = None
    nvflare: str | None = None
    slice_px: int = 256
    float32: bool = False


@dataclass(frozen=True)
class Comparison:
    """One task. seconds: by side, of each round. counted: by side, FLOPs, bytes saved for backward, operations.

    peak_bytes: by side, the most memory that its process held. first_seconds: by side, a processor's of its first call.
    """

    task: str
    size: BenchSize
    seconds: dict[str, list[float]] = field(default_factory=dict)
    counted: dict[str, dict[str, int]] = field(default_factory=dict)
    peak_bytes: dict[str, int] = field(default_factory=dict)
    first_seconds: dict[str, float] = field(default_factory=dict)

    def ratio(self, side: str) -> float:
        """How many times this code's time the side takes: the median over rounds of the ratio within a round."""
        pairs = zip(self.seconds[side], self.seconds[THIS], strict=True)
        return statistics.median(other / own for other, own in pairs)


def compare(
    task: str,
    size: BenchSize,
    *,
    n_rounds: int,
    threads: int,
    baseline: Path | None = None,
    exported: bool = False,
    compiled: bool = False,
) -> Comparison:
    """Measure one task of `TASKS` in `n_rounds` interleaved rounds.

    baseline: another commit's checkout. exported: of inference, the model's ONNX file as one more side. compiled: of
    inference and of a step, the model by torch.compile, which needs a C++ compiler. Raises FileMissing (FM-C103) where
    the literal model or the baseline is not there, ProcessDied (FM-S503) where a side ended.
    """
    result = Comparison(task, size)
    with contextlib.ExitStack() as stack:
        sides: dict[str, subprocess.Popen[str]] = {}
        for label, (checkout, work) in _sides_of(
            task, size, baseline, exported=exported, compiled=compiled
        ).items():
            counting = work in ("train", "infer", "literal-train", "literal-infer")
            options = _options(result, work, size) | {"count": counting, "threads": threads}
            sides[label] = stack.enter_context(_started(checkout, work, options, threads=threads))
            counts = _reply(sides[label])
            result.first_seconds[label] = counts.pop("first_seconds")
            result.counted[label] = {name: value for name, value in counts.items() if name != "ready"}
            result.seconds[label] = []
        for _ in range(n_rounds):
            for label, side in sides.items():
                assert side.stdin is not None
                side.stdin.write("measure\n")
                side.stdin.flush()
                result.seconds[label].append(_reply(side)["seconds"])
        for label, side in sides.items():
            assert side.stdin is not None
            side.stdin.close()
            result.peak_bytes[label] = _reply(side)["peak_bytes"]
    return result


def table_text(comparisons: Sequence[Comparison], *, threads: int) -> str:
    """The comparisons in Markdown: the machine, and a table a task."""
    machine = machine_facts()
    clock = "a processor's" if threads == 1 else "the clock's"
    lines = [
        f"{machine.processor}, {machine.cores} cores, {threads} threads a side; {version_line()}.",
        f"Times are {clock}. Ratio: the side's time over this code's, the median of the rounds' own. "
        "First: a processor's of the first call. "
        "Peak: of the whole process, before anything is counted.",
    ]
    for one in comparisons:
        n_rounds = len(one.seconds[THIS])
        lines += ["", f"### {_title(one)}, {n_rounds} interleaved rounds", ""]
        lines += ["| " + " | ".join(COLUMNS) + " |", "|---" * len(COLUMNS) + "|"]
        lines += [_row(one, side) for side in one.seconds]
    return "\n".join(lines) + "\n"


def write_results(out: Path, comparisons: Sequence[Comparison], *, threads: int) -> None:
    """OUT.md and OUT.json."""
    write_text(out.with_suffix(".md"), "# Speed\n\n" + table_text(comparisons, threads=threads))
    rows = [asdict(one) | {"ratios": {side: one.ratio(side) for side in one.seconds}} for one in comparisons]
    write_json(out.with_suffix(".json"), {"threads": threads, "comparisons": rows})


def _sides_of(
    task: str, size: BenchSize, baseline: Path | None, *, exported: bool, compiled: bool
) -> dict[str, tuple[Path, str]]:
    """By label, whose code does which work. The roof comes last: it is given this code's FLOPs."""
    sides = {THIS: (CHECKOUT, task)}
    if baseline is not None:
        if not (baseline / "minet_core").is_dir():
            raise FileMissing("the baseline is no checkout of fedminet", got=baseline)
        sides[BASELINE] = (baseline.resolve(), task)
    if task in ("train", "infer"):
        if not (CHECKOUT / ORACLE).is_file():
            raise FileMissing(
                "the literal model is missing",
                got=ORACLE,
                action="Run the benchmark from a checkout of fedminet",
            )
        sides |= {LITERAL: (CHECKOUT, f"literal-{task}"), ROOF: (CHECKOUT, "convolution")}
    if task in ("train", "infer") and compiled:
        sides[COMPILED] = (CHECKOUT, f"compiled-{task}")
    if task == "infer" and exported:
        sides[EXPORTED] = (CHECKOUT, "exported-infer")
    if task == "aggregate":
        sides[FLOWER] = (CHECKOUT, "flower-average")
        if size.nvflare is not None:
            sides[NVFLARE] = (CHECKOUT, "nvflare-average")
        sides[ROOF] = (CHECKOUT, "copy-and-add")
    return sides


def _options(result: Comparison, work: str, size: BenchSize) -> dict[str, Any]:
    options = asdict(size)
    if work == "convolution":
        options |= {
            "flops": result.counted[THIS]["flops"],
            "backward": result.task == "train",
            "features": PRESETS[size.preset][0].n_features,
            "conv_batch": size.batch if result.task == "train" else 1,
        }
    return options


@contextlib.contextmanager
def _started(
    checkout: Path, work: str, options: Mapping[str, Any], *, threads: int
) -> Iterator[subprocess.Popen[str]]:
    environment = _environment_of(checkout) | {"OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, str(SIDE), str(checkout), work, json.dumps(options)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=checkout
    ) as side:
        try:
            yield side
        except BaseException:
            side.kill()
            raise


def _environment_of(checkout: Path) -> dict[str, str]:
    """This process's, with how that commit shares the cores and holds its memory in place of how this one does."""
    own = cpu_threading_environment()
    others = {name: value for name, value in os.environ.items() if name not in own}
    theirs: dict[str, str] = runpy.run_path(str(checkout / THREADING))["cpu_threading_environment"]()
    return others | theirs


def _reply(side: subprocess.Popen[str]) -> dict[str, Any]:
    assert side.stdout is not None
    line = side.stdout.readline()
    if not line:
        raise ProcessDied(
            "a side of the comparison ended", got=f"exit code {side.wait()}", action="See its output above"
        )
    reply: dict[str, Any] = json.loads(line)
    return reply


def _title(one: Comparison) -> str:
    size = one.size
    dtype = ", float32" if size.float32 else ""
    return {
        "train": f"A training step, {size.preset} preset, {size.batch} x {size.edge} px{dtype}",
        "infer": f"Inference, {size.preset} preset, {size.batch} slices of {size.edge} px{dtype}",
        "data": f"A batch of {size.batch} patches of {size.edge} px from slices of {size.slice_px} px",
        "aggregate": f"The mean of {size.sites} replies, {_replies_of(size)}",
    }[one.task]


def _replies_of(size: BenchSize) -> str:
    return f"{size.preset} preset" if size.parameters is None else f"{size.parameters:,} parameters"


def _row(one: Comparison, side: str) -> str:
    counted = one.counted.get(side, {})
    figures = [f"{1e3 * statistics.median(one.seconds[side]):,.2f}", f"{one.ratio(side):.2f}"]
    for name, unit in (("flops", 1e9), ("saved_bytes", 1e6), ("operations", 1)):
        figures.append(f"{counted[name] / unit:,.{0 if unit == 1 else 2}f}" if name in counted else "")
    figures.append(f"{1e3 * one.first_seconds[side]:,.0f}")
    return f"| {side} | {' | '.join(figures)} | {one.peak_bytes[side] / 1e6:,.0f} |"
