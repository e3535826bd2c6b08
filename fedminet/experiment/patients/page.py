"""What the cells of `experiment patients` say: patients.md and patients.json, of each patient who was left out."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fedminet.experiment.analysis.statistics import Estimate, estimate
from fedminet.experiment.methods import METHODS, TIMED_ON, TWINS
from fedminet.experiment.patients.cells import FoldCell, kept_cells
from fedminet.experiment.patients.plan import PatientsPlan, patients_of
from fedminet.experiment.report.formats import Table, as_markdown
from minet_core.runtime.files.atomic_write import write_json, write_text
from sites.store.pair_file import open_pair
from sites.store.store import Store

BASELINE = "sinc"


@dataclass(frozen=True)
class Wanted:
    """What the project wants on a kind of scans, dB. over_single: over the better single-contrast method."""

    over_sinc: Mapping[int, float]
    over_single: float


WANTED: dict[str, Wanted] = {
    "isotropic": Wanted({2: 4.5, 4: 3.5}, 1.0),
    "thick slices": Wanted({2: 1.8, 4: 2.5}, 0.3),
}
"""By how a voxel lies: set for open_ms_data's brains of 1 mm and for its clinical scans, which stand in for others."""

MAX_ISOTROPIC = 1.5
"""Of a voxel's edge through the slices, in edges within one."""

Psnr = Mapping[str, float]
"""By patient, dB."""


@dataclass(frozen=True)
class Scored:
    """The cells of one site and scale, and the site's patients, in the order of their places. wanted: on its scans."""

    site: str
    scale: int
    patients: Sequence[str]
    cells: Sequence[FoldCell]
    wanted: Wanted | None = None

    @property
    def methods(self) -> list[str]:
        """Those that there are, in the order of the tables."""
        there = {cell.method for cell in self.cells}
        return [method for method in METHODS if method in there]

    def of(self, method: str, score: str = "psnr_db") -> dict[str, float]:
        """By patient, the mean over the seeds of those that are done."""
        found: dict[str, list[float]] = {}
        for cell in self.cells:
            if cell.method == method:
                found.setdefault(cell.patient, []).append(getattr(cell, score))
        return {patient: float(np.mean(found[patient])) for patient in self.patients if patient in found}

    def better_single(self) -> str | None:
        """The single-contrast method with the highest mean PSNR among those that have the most patients."""
        there = [method for method in self.methods if METHODS[method].contrasts == "single"]
        return max(there, key=lambda one: (len(self.of(one)), mean_of(self.of(one).values())), default=None)

    def difference(self, first: str, second: str | None) -> dict[str, float]:
        """first - second of each patient who has both, dB."""
        others = {} if second is None else self.of(second)
        return {
            patient: value - others[patient] for patient, value in self.of(first).items() if patient in others
        }


def write_page(plan: PatientsPlan, stores: Mapping[str, Store]) -> None:
    """patients.md and patients.json in the plan's folder, of every cell that is there of the plan's sites."""
    cells = [cell for cell in kept_cells(plan).values() if cell.site in stores]
    scored = [
        Scored(site, scale, patients_of(store), here, wanted_of(store))
        for site, store in stores.items()
        for scale in sorted({cell.scale for cell in cells})
        if (here := [cell for cell in cells if (cell.site, cell.scale) == (site, scale)])
    ]
    write_json(plan.folder / "patients.json", {"rows": [row for one in scored for row in rows_of(one)]})
    remarks = [f"- {site}: {remark}" for site, store in stores.items() for remark in _remarks(store)]
    tables = [scores_table(one) for one in scored]
    tables += [table for site in stores if (table := reference_table(site, scored)) is not None]
    tables += [table for table in (wanted_table(scored), recipes_table(cells)) if table is not None]
    head = [
        "# Every patient in turn: what each method does on a patient whom it did not see",
        "",
        "At each site one patient is left out, with all examinations; the others train, and the one is tested. Nobody "
        "validates and nothing is chosen: the recipe and the number of steps were fixed before, and the last step's "
        "model is the one. Each model is trained at its site alone.",
        "",
        *remarks,
        "",
    ]
    write_text(plan.folder / "patients.md", "\n".join([*head, *map(as_markdown, tables)]))


def rows_of(scored: Scored) -> list[dict[str, object]]:
    """A row for each method and patient, dB; None where there is nothing to compare with."""
    single, rows = scored.better_single(), []
    for method in scored.methods:
        over_sinc, over_single = (scored.difference(method, one) for one in (BASELINE, single))
        given = scored.difference(method, TWINS.get(method))
        ssim = scored.of(method, "ssim")
        for patient, psnr_db in scored.of(method).items():
            rows.append(
                {
                    "site": scored.site,
                    "scale": scored.scale,
                    "method": method,
                    "patient": scored.patients.index(patient) + 1,
                    "psnr_db": psnr_db,
                    "ssim": ssim[patient],
                    "over_sinc_db": over_sinc.get(patient),
                    "over_single_db": over_single.get(patient),
                    "reference_gives_db": given.get(patient),
                }
            )
    return rows


def scores_table(scored: Scored) -> Table:
    """A site at a scale: of each method mean and each patient's PSNR and SSIM, and what it is over the others."""
    single = scored.better_single()
    rows = []
    for method in scored.methods:
        psnr_db, ssim = scored.of(method), scored.of(method, "ssim")
        each = [
            f"{psnr_db[patient]:.2f} / {ssim[patient]:.4f}" if patient in psnr_db else "-"
            for patient in scored.patients
        ]
        own = METHODS[method].contrasts == "single" and method == single
        over = ["" if method == BASELINE else text_of(scored.difference(method, BASELINE))]
        over.append("" if own else text_of(scored.difference(method, single)))
        means = (f"{mean_of(psnr_db.values()):.2f}", f"{mean_of(ssim.values()):.4f}")
        rows.append((METHODS[method].label, str(len(psnr_db)), *means, *over, *each))
    label = "-" if single is None else METHODS[single].label
    header = ("method", "patients", "PSNR [dB]", "SSIM", "over sinc", f"over {label}")
    said = (
        "No single-contrast method is done yet"
        if single is None
        else f"{label}: the better single-contrast method"
    )
    note = (
        f"{said}. Differences are paired by patient; an interval (95%) needs six "
        "patients. Each patient: PSNR / SSIM."
    )
    places = tuple(f"patient {place}" for place in range(1, len(scored.patients) + 1))
    return Table(f"{scored.site}, {scored.scale}x", header + places, tuple(rows), note)


def reference_table(site: str, scored: Sequence[Scored]) -> Table | None:
    """Of each patient of a site, a method and the network of its size without a reference; None without both."""
    rows = []
    for one in (one for one in scored if one.site == site):
        moved = {cell.patient: cell.moved_mm for cell in one.cells}
        for method, twin in TWINS.items():
            guided, alone = one.of(method), one.of(twin)
            for patient, value in one.difference(method, twin).items():
                place = str(one.patients.index(patient) + 1)
                lay = moved[patient]
                shown = (f"{guided[patient]:.2f}", f"{alone[patient]:.2f}", f"{value:+.2f}")
                where = (f"{one.scale}x", place, "-" if lay is None else f"{lay:.2f}")
                rows.append((METHODS[method].label, *where, *shown))
    if not rows:
        return None
    header = (
        "method",
        "scale",
        "patient",
        "moved [mm]",
        "with [dB]",
        "without [dB]",
        "the reference gives [dB]",
    )
    note = (
        "*With*: the method. *Without*: the network of its size that sees no reference, trained by itself on the same "
        "patients, for its own number of steps. *Moved*: what registration found between the patient's contrasts; "
        "-: they were on one grid."
    )
    return Table(f"{site}: what the reference gives each patient", header, tuple(rows), note)


def wanted_table(scored: Sequence[Scored]) -> Table | None:
    """What is wanted of a method with a reference beside what was found; None where nothing is wanted."""
    rows = []
    for one, method in itertools.product(scored, TWINS):
        wanted = one.wanted
        if wanted is None or one.scale not in wanted.over_sinc or method not in one.methods:
            continue
        over_sinc = one.difference(method, BASELINE)
        over_single = one.difference(method, one.better_single())
        given = one.difference(method, TWINS[method])
        costs = sum(value < 0 for value in given.values())
        rows.append(
            (
                METHODS[method].label,
                f"{one.site}, {one.scale}x",
                f"{wanted.over_sinc[one.scale]:+.1f}",
                text_of(over_sinc),
                f"{wanted.over_single:+.1f}",
                text_of(over_single),
                f"{costs} of {len(given)}" if given else "-",
            )
        )
    if not rows:
        return None
    header = ("method", "scans", "over sinc, wanted", "found", "over the better single, wanted", "found")
    return Table(
        "What is wanted, and what was found [dB]",
        (*header, "patients on whom the reference costs"),
        tuple(rows),
        "Means over patients. Wanted: no patient on whom the reference costs anything.",
    )


def wanted_of(store: Store) -> Wanted | None:
    """What is wanted of a site's scans, by how their voxels lie; None for a hospital's own and for phantoms."""
    if store.cohort.data_kind != "surrogate":
        return None
    pair = store.cohort.pairs[0]
    with open_pair(store.path / pair.file, shape=pair.shape) as file:
        through, *within = (float(step) for step in file.attrs["spacing_mm"])
    return WANTED["isotropic" if through <= MAX_ISOTROPIC * min(within) else "thick slices"]


def recipes_table(cells: Iterable[FoldCell]) -> Table | None:
    """How each method was trained; None where no method learns."""
    recipes: dict[tuple[str, ...], list[FoldCell]] = {}
    for cell in cells:
        if cell.training is not None and cell.model is not None:
            recipes.setdefault((METHODS[cell.method].label, f"{cell.scale}x", *_recipe(cell)), []).append(
                cell
            )
    if not recipes:
        return None
    rows = [
        (*recipe, f"{mean_of(one.processor_seconds for one in made):.0f}", str(len(made)), _machines(made))
        for recipe, made in recipes.items()
    ]
    header = ("method", "scale", "model", "parameters", "steps", "batch", "patch [px]", "flips", "rate")
    last = ("falls over the last", "processor seconds of a training", "trainings", "machine")
    note = (
        f"Where every method gets MINet's time, its steps are {TIMED_ON} for the preset's model and batch; for "
        "others as they were timed here, in turn (`pace.jsonl`). Processor seconds: of the steps, all threads."
    )
    return Table("How it was trained", (*header, *last), tuple(sorted(rows)), note)


def _recipe(cell: FoldCell) -> tuple[str, ...]:
    model, training = cell.model, cell.training
    assert model is not None  # a method that learns has both
    assert training is not None
    changed = model.model_dump(exclude_defaults=True, exclude={"architecture"})
    return (
        ", ".join(f"{name} {value}" for name, value in changed.items()) or "as the preset",
        f"{cell.n_parameters:,}",
        str(cell.n_steps),
        str(training.batch_size),
        "whole" if training.patch_px is None else str(training.patch_px),
        "yes" if training.flips else "no",
        f"{training.learning_rate:g}",
        f"{training.decay_fraction:g}",
    )


def _machines(cells: Iterable[FoldCell]) -> str:
    return "; ".join(sorted({cell.machine for cell in cells}))


def _remarks(store: Store) -> list[str]:
    """Of the whole store; nothing of a validation, since none is made."""
    return [remark for remark in store.cohort.remarks() if not remark.startswith("Validation")]


def text_of(differences: Psnr) -> str:
    """The mean, with its interval from six patients on; "-" for nobody."""
    if not differences:
        return "-"
    found: Estimate = estimate({0: list(differences.values())}, same_patients=True)
    if found.low is None or found.high is None:
        return f"{found.mean:+.2f}"
    return f"{found.mean:+.2f} [{found.low:+.2f}, {found.high:+.2f}]"


def mean_of(values: Iterable[float]) -> float:
    """The mean; NaN of nothing."""
    found = list(values)
    return float(np.mean(found)) if found else float("nan")
