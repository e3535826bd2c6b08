"""Running an experiment: every cell that is not done yet, then the tables of all that are."""

from __future__ import annotations

import base64
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import jinja2

from fedminet.experiment import tables
from fedminet.experiment.cells import Cell, cell_folder, claimed, make_cell, read_cell
from fedminet.experiment.figure3 import draw, panels_of
from fedminet.experiment.findings import order_found, worse_than_local
from fedminet.experiment.formats import Table, as_csv, as_latex, as_markdown
from fedminet.experiment.methods import INTEGRATION, METHODS, TABLE_1, TABLE_2, Equal, is_learned
from fedminet.experiment.reference import (
    Sensitivity,
    draw_sensitivities,
    sensitivities,
    sensitivity_tables,
)
from fedminet.experiment.results import Results
from fedminet.experiment.study import CellKey, Study
from fedminet.experiment.trained import MODEL_FILE
from minet_core.runtime.durable import sha256_of_file, write_json, write_text
from minet_core.runtime.progress import progress
from minet_core.runtime.versions import versions

METHODS_OF = {
    "table1": TABLE_1,
    "table2": TABLE_2,
    "figure3": TABLE_1,
    "reference": ("edsr", "smore", "without-reference", "minet"),
    "integration": INTEGRATION,
}
EQUAL_OF: dict[str, Equal] = {"integration": "steps"}
"""What is equal where nothing is asked for; else time."""

SCALES_OF: dict[str, tuple[int, ...]] = {
    "table1": (2, 4),
    "table2": (2,),
    "figure3": (2, 4),
    "reference": (2, 4),
    "integration": (2,),
}
SCORES = ("psnr_db", "ssim")
SCORES_OF = {"table2": ("nmse", *SCORES)}


def run_experiment(study: Study, which: str, *, quiet: bool = False) -> list[Cell]:
    """Make the cells that are missing, and write what all of them say. The cells that are done are returned.

    Raises ConfigurationError (FM-C100) where a cell of other settings is in the way, and what training raises; what
    was done before stays.
    """
    keys = study.cells()
    if not quiet:
        sys.stderr.write(f"Making the sites of {len(study.seeds)} seeds, where they are not there yet\n")
    for seed in study.seeds:
        study.homes(seed)
    for key in keys:  # all are held to the settings before the first is made
        read_cell(study, key)
    made, began = 0, time.monotonic()
    for number, key in enumerate(keys, start=1):
        if read_cell(study, key) is not None:
            continue
        with claimed(cell_folder(study, key)) as mine:
            if not mine or read_cell(study, key) is not None:
                continue
            if not quiet:
                left = [one for one in keys[number - 1 :] if read_cell(study, one) is None]
                sys.stderr.write(f"{number} of {len(keys)}: {key.name}{_time_left(left, made, began)}\n")
            with progress(key.name, quiet=quiet) as advance:
                make_cell(study, key, advance=advance)
            made += is_learned(key.method)
            write_results(study, which, pictures=False)
    return write_results(study, which)


def results_folder(study: Study, which: str) -> Path:
    """Where an experiment's tables are; cells and scans are shared by all experiments in `out`."""
    return study.out / which


def write_results(study: Study, which: str, *, pictures: bool = True) -> list[Cell]:
    """OUT/WHICH/WHICH.md, .csv, .tex, report.html and manifest.json from the cells that are done."""
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
    ]
    text = [f"# {_TITLES[which]}", "", *(f"- {line}" for line in sentences), ""]
    write_text(folder / f"{which}.md", "\n".join([*text, *map(as_markdown, shown)]))
    write_text(folder / f"{which}.csv", as_csv(shown))
    write_text(folder / f"{which}.tex", "\n".join(map(as_latex, shown)))
    write_text(folder / "report.html", _page(which, sentences, shown, drawn))
    write_json(folder / "manifest.json", _manifest(study, which, keys, cells))
    return cells


_TITLES = {
    "table1": "Table 1: every method on every site",
    "table2": "Table 2: the ablations of MINet",
    "figure3": "Figure 3: images and error maps",
    "reference": "What the reference adds",
    "integration": "What the multi-stage integration adds, by the size of the model",
}


def _tables(which: str, results: Results) -> list[Table]:
    first = [tables.integration_table(results)] if which == "integration" else []
    modes = tables.modes_table(results)
    return [
        *first,
        *tables.main_tables(results, scores=SCORES_OF.get(which, SCORES)),
        tables.costs_table(results),
        tables.published_table("table2" if which == "table2" else "table1"),
        *tables.paired_tables(results, scores=SCORES_OF.get(which, SCORES)),
        *([] if modes is None else [modes]),
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
    worst = max((shift for one in panels for shift in one.shifts_px().values()), default=0.0)
    return _Picture(
        title="Images and error maps",
        uri=_uri(path),
        alternative="For each site and scale: the input, each method's image and the target; below each method its "
        "error map.",
        note="The slice with most detail of each site's first test patient. One grey scale for each row, one error "
        "scale for each site. The farthest that an image is from its target, by phase correlation: "
        f"{worst:.2f} pixel.",
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


_EQUAL = {"time": "about the same time on an idle core", "steps": "as many steps"}


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
        f"{', '.join(sorted({cell.device for cell in cells})) or 'nothing'}.",
    ]


def _page(which: str, sentences: list[str], shown: list[Table], pictures: list[_Picture]) -> str:
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    source = (files("fedminet.experiment") / "template.html").read_text(encoding="utf-8")
    return environment.from_string(source).render(
        title=_TITLES[which], sentences=sentences, tables=shown, pictures=pictures
    )


def _manifest(study: Study, which: str, keys: Sequence[CellKey], cells: Sequence[Cell]) -> dict[str, object]:
    done = {(cell.mode, cell.method, cell.scale, cell.seed, cell.member) for cell in cells}
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
            key.name: {
                "done": (key.mode, key.method, key.scale, key.seed, key.member) in done,
                **_digest(study, key),
            }
            for key in keys
        },
    }


def _digest(study: Study, key: CellKey) -> dict[str, str]:
    path = cell_folder(study, key) / MODEL_FILE
    return {"model_sha256": sha256_of_file(path)} if path.exists() else {}


def _time_left(left: Sequence[CellKey], made: int, began: float) -> str:
    """After the first training, from the mean time of those that this process made; an upper end where others help."""
    if not made:
        return ""
    hours = (time.monotonic() - began) / made * sum(is_learned(key.method) for key in left) / 3600
    return f", about {hours:.1f} h left" if hours >= 1 else f", about {60 * hours:.0f} min left"
