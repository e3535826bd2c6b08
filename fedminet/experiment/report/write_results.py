"""What an experiment's cells say: the tables, the pictures, the page and the manifest."""

from __future__ import annotations

import base64
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import jinja2

from fedminet.experiment.catalogue import EXPERIMENTS
from fedminet.experiment.cells import Cell, cell_folder, read_cell
from fedminet.experiment.methods import METHODS, TIMED_ON
from fedminet.experiment.report import tables
from fedminet.experiment.report.figure3 import draw, panels_of
from fedminet.experiment.report.findings import left_out, order_found, worse_than_local
from fedminet.experiment.report.formats import (
    Table,
    as_csv,
    as_latex,
    as_markdown,
    latex_remarks,
    rows_as_csv,
)
from fedminet.experiment.report.reference_sensitivity import (
    Sensitivity,
    draw_sensitivities,
    sensitivities,
    sensitivity_tables,
)
from fedminet.experiment.report.results import SCORE_COLUMNS, Results, score_rows
from fedminet.experiment.study import CellKey, Study
from fedminet.experiment.trained import MODEL_FILE
from minet_core.runtime.files.atomic_write import sha256_of_file, write_json, write_text
from minet_core.runtime.versions import versions


def results_folder(study: Study, which: str) -> Path:
    """Where an experiment's tables are; cells and scans are shared by all experiments in `out`."""
    return study.out / which


def write_results(study: Study, which: str, *, pictures: bool = True) -> list[Cell]:
    """OUT/WHICH/WHICH.md, .csv, .tex, report.html, scores.csv and manifest.json from the cells that are done."""
    folder = results_folder(study, which)
    folder.mkdir(parents=True, exist_ok=True)
    keys = study.cells()
    cells = [cell for key in keys if (cell := read_cell(study, key)) is not None]
    results = Results(cells, sites=study.sites, methods=study.methods, same_patients=not study.is_phantom)
    shown = _tables(which, results) if cells else []
    drawn = [_figure3(study, results, folder)] if pictures and results.modes() else []
    if pictures and which == "reference" and results.modes():
        found = sensitivities(study, mode=results.modes()[0], seed=study.seeds[0])
        shown = sensitivity_tables(found) + shown
        drawn.insert(0, _reference_picture(found, folder))
    sentences = [
        *_header(study, keys, cells),
        *(order_found(results) if which != "integration" else []),  # a larger model is no other method
        *worse_than_local(results),
        *left_out(results),
    ]
    text = [f"# {EXPERIMENTS[which].title}", "", *(f"- {line}" for line in sentences), ""]
    write_text(folder / f"{which}.md", "\n".join([*text, *map(as_markdown, shown)]))
    write_text(folder / f"{which}.csv", as_csv(shown))
    write_text(folder / "scores.csv", rows_as_csv([SCORE_COLUMNS, *score_rows(cells)]))
    write_text(folder / f"{which}.tex", "\n".join([latex_remarks(sentences), *map(as_latex, shown)]))
    write_text(folder / "report.html", _page(which, sentences, shown, drawn))
    write_json(folder / "manifest.json", _manifest(study, which, keys, cells))
    return cells


def _tables(which: str, results: Results) -> list[Table]:
    first = [tables.integration_table(results)] if which == "integration" else []
    scores = EXPERIMENTS[which].scores
    return [
        *first,
        *tables.main_tables(results, scores=scores),
        tables.costs_table(results),
        tables.published_table("table2" if which == "table2" else "table1"),
        *tables.paired_tables(results, scores=scores),
        *tables.modes_tables(results, scores=scores),
        tables.faithfulness_table(results),
        tables.conventions_table(results),
    ]


@dataclass(frozen=True)
class _Picture:
    """A picture of the page. uri: its bytes as an address."""

    title: str
    uri: str
    alternative: str
    note: str


def _figure3(study: Study, results: Results, folder: Path) -> _Picture:
    """figure3.png of the first seed and mode that has cells."""
    mode = results.modes()[0]
    seed = min(cell.seed for cell in results.cells if cell.mode == mode)
    panels, path = panels_of(study, mode=mode, seed=seed), folder / "figure3.png"
    draw(panels, path)
    farthest = max(
        (
            (shift, f"{METHODS[method].label} on {one.site} at {one.scale}x")
            for one in panels
            for method, shift in one.shifts_px().items()
        ),
        default=(0.0, "none"),
    )
    return _Picture(
        title="Images and error maps",
        uri=_uri(path),
        alternative="For each site and scale: the input, each method's image and the target; below each method its "
        "error map.",
        note="The slice with most detail of each site's first test patient. One grey scale for each row, one error "
        "scale for each site. The farthest that an image is from its target, by phase correlation: "
        f"{farthest[0]:.3f} pixel ({farthest[1]}).",
    )


def _reference_picture(found: Sequence[Sensitivity], folder: Path) -> _Picture:
    path = folder / "reference.png"
    draw_sensitivities(found, path)
    return _Picture(
        title="What the reference adds",
        uri=_uri(path),
        alternative="PSNR of each method against the reference's resolution, and against how far it is moved.",
        note="Dashed: methods that look at no reference.",
    )


def _uri(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode("ascii")


_EQUAL = {"time": f"about the same time ({TIMED_ON})", "steps": "as many steps"}


def _header(study: Study, keys: Sequence[CellKey], cells: Sequence[Cell]) -> list[str]:
    kind = "Phantoms" if study.is_phantom else "Scans"
    equal = (
        f", every other method for {_EQUAL[study.equal]}" if study.preset == "quick" else " for every method"
    )
    seconds = sum(cell.seconds for cell in cells)
    steps = f"{study.local_steps} steps of MINet a round" if study.local_steps else "one epoch a round"
    return [
        f"{kind} of {', '.join(study.sites)}; preset {study.preset}; seeds {', '.join(map(str, study.seeds))}; "
        f"{study.rounds} rounds, {steps}{equal}.",
        *study.remarks(),
        f"{len(cells)} of {len(keys)} cells are done, {seconds / 3600:.1f} h of work on "
        f"{'; '.join(sorted({cell.machine for cell in cells})) or 'nothing'}.",
    ]


def _page(which: str, sentences: list[str], shown: list[Table], pictures: list[_Picture]) -> str:
    return _template().render(
        title=EXPERIMENTS[which].title, sentences=sentences, tables=shown, pictures=pictures
    )


@functools.cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    source = (files("fedminet.experiment") / "template.html").read_text(encoding="utf-8")
    return environment.from_string(source)


def _manifest(study: Study, which: str, keys: Sequence[CellKey], cells: Sequence[Cell]) -> dict[str, object]:
    done = {(cell.mode, cell.method, cell.scale, cell.seed, cell.member): cell for cell in cells}
    return {
        "experiment": which,
        "preset": study.preset,
        "sites": dict.fromkeys(study.sites, "phantoms" if study.is_phantom else "scans"),
        "patients": study.n_patients if study.is_phantom else None,
        "cohorts": {seed: study.cohorts(seed) for seed in study.seeds},
        "seeds": list(study.seeds),
        "scales": list(study.scales),
        "modes": list(study.modes),
        "rounds": study.rounds,
        "local_steps": study.local_steps,
        "equal": study.equal,
        "methods": {method: METHODS[method].source for method in study.methods},
        "versions": versions(),
        "cells": {
            key.name: {"done": False}
            if (cell := done.get((key.mode, key.method, key.scale, key.seed, key.member))) is None
            else {
                "done": True,
                "machine": cell.machine,
                "versions": cell.versions,
                **_digest(study, key),
            }
            for key in keys
        },
    }


def _digest(study: Study, key: CellKey) -> dict[str, str]:
    path = cell_folder(study, key) / MODEL_FILE
    return {"model_sha256": sha256_of_file(path)} if path.exists() else {}
