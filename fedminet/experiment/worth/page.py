"""What the cells of `experiment worth` say: worth.md, worth.json and the picture. Means are over patients, in dB."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from fedminet.experiment.analysis.statistics import Estimate, estimate
from fedminet.experiment.report.formats import Table, as_markdown
from fedminet.experiment.worth.cells import SINC, WorthCell, kept_cells
from fedminet.experiment.worth.picture import draw_gains
from fedminet.experiment.worth.plan import WorthPlan
from minet_core.runtime.files.atomic_write import write_json, write_text

CANDIDATES_SHOWN = ("alone", "global", "adapted", "ensemble")
SHOWN = (SINC, *CANDIDATES_SHOWN, "chosen")

WANTED_DB = {2: 1.0, 7: 0.3}
"""By training patients, what the chosen model is to be above the one trained alone, at every site."""

MAX_BEHIND_DB = 0.05
"""How far the chosen model may be below the better one of the global model and the one alone."""


def row_of(cell: WorthCell, *, validation: bool) -> dict[str, object]:
    """A cell's means; None for a model whose training diverged or that was not trained, and for what was not scored."""
    shown = cell.shown_db(validation=validation)
    means = {name: _mean(shown[name].values()) if name in shown else None for name in SHOWN}
    return {
        "site": cell.site,
        "scale": cell.scale,
        "seed": cell.seed,
        "patients": cell.patients,
        "recipe": cell.recipe,
        **means,
    }


def difference(cells: Sequence[WorthCell], first: str, second: str, *, validation: bool) -> Estimate | None:
    """first - second, patient by patient, over cells of one site and number of patients; None where none has both."""
    by_seed: dict[int, list[float]] = {}
    for cell in cells:
        shown = cell.shown_db(validation=validation)
        if first in shown and second in shown:
            gains = by_seed.setdefault(cell.seed, [])  # a turn's patients are a seed's others
            gains += [shown[first][patient] - shown[second][patient] for patient in shown[first]]
    return estimate(by_seed, same_patients=False) if by_seed else None


def behind_the_better(cell: WorthCell) -> float:
    """How far the mean of the chosen model is below the better one's of the global model and the one alone, dB."""
    shown = cell.shown_db(validation=False)
    better = max(_mean(shown[name].values()) for name in ("global", "alone") if name in shown)
    return better - _mean(shown["chosen"].values())


def write_page(plan: WorthPlan, cells: Sequence[WorthCell]) -> None:
    """worth.md, worth.json and, after a test, worth.png in the plan's folder, of these cells; at least one."""
    rows = [row_of(cell, validation=plan.validation) for cell in cells]
    write_json(plan.folder / "worth.json", {"rows": rows})
    head = [
        f"# {_title(plan)}: {'validation' if plan.validation else 'test'} patients",
        "",
        f"{len(cells)} of {len(plan.keys())} cells; {plan.scale}x; seeds {', '.join(map(str, plan.seeds))}. "
        f"{plan.rounds} rounds of {plan.local_steps} steps{_who(plan)}, then {_recipe_text(plan)}: {plan.n_steps} "
        "steps behind the adapted model, and as many of the one that is trained at the site alone. Each rate that is "
        "tried costs the site its own steps. Each site has as many training patients as the table says.",
        "",
    ]
    if plan.in_turn:
        head += [
            "Each patient in turn is the test patient; the others of its site train, and no patient judges.",
            "",
        ]
    if plan.validation:
        head += ["No test patient was read. Each figure is of some slices of each validation patient.", ""]
        tables = [as_markdown(trials_table(kept_cells(plan)))]
    else:
        tables = [
            as_markdown(_table(plan, [cell for cell in cells if cell.patients == n], n))
            for n in (sorted({cell.patients for cell in cells}) if plan.in_turn else plan.patients)
        ]
        wanted = {} if plan.newcomer or plan.in_turn else WANTED_DB
        draw_gains(plan.folder / "worth.png", gains_of(cells), wanted_db=wanted, when=_when(plan))
    write_text(plan.folder / "worth.md", "\n".join([*head, *tables]))


def _title(plan: WorthPlan) -> str:
    if plan.newcomer:
        return f"What the others' model is worth to a new site of {_kind(plan)}"
    return "What taking part is worth to a site"


def _kind(plan: WorthPlan) -> str:
    return "a kind that is among them" if plan.newcomer == "known" else "a kind that they do not have"


def _who(plan: WorthPlan) -> str:
    return " without the site" if plan.newcomer else ""


def _when(plan: WorthPlan) -> str:
    """The end of the picture's title."""
    return "it takes over the others' model" if plan.newcomer else "it takes part"


def _table(plan: WorthPlan, cells: Sequence[WorthCell], n_patients: int) -> Table:
    """Test patients' PSNR and differences of one number of training patients, by site."""
    rows = []
    for site in plan.adapting or plan.sites:
        here = [cell for cell in cells if cell.site == site]
        if not here:
            continue
        found = [row_of(cell, validation=False) for cell in here]
        means = [_mean(value for row in found if isinstance(value := row[name], float)) for name in SHOWN]
        over = [_text_of(difference(here, "chosen", than, validation=False)) for than in ("alone", "global")]
        behind = max(behind_the_better(cell) for cell in here)
        kept = ", ".join(_kept_text(cell) for cell in here)
        rows.append(
            (
                site,
                f"{len(here)} ({_n_tested(here)})",
                *("-" if math.isnan(value) else f"{value:.2f}" for value in means),
                *over,
                f"{behind:.2f}",
                kept,
            )
        )
    wanted = None if plan.newcomer or plan.in_turn else WANTED_DB.get(n_patients)
    note = (
        "Differences are paired by patient; an interval (95%, over patients and seeds) needs six patients. "
        "*behind*: the most that a cell's chosen model is below the better one of global and alone; below 0: above."
    )
    if wanted is not None:
        note += f" Wanted: {wanted:g} dB over alone at every site, and at most {MAX_BEHIND_DB:g} dB behind."
    header = (
        "site",
        "cells (test patients)",
        *SHOWN,
        "chosen less alone",
        "chosen less global",
        "behind",
        "chosen",
    )
    return Table(f"{n_patients} training patients a site: PSNR [dB]", header, tuple(rows), note)


def _n_tested(cells: Sequence[WorthCell]) -> int:
    return sum(len(cell.test_db["global"]) for cell in cells)


def _kept_text(cell: WorthCell) -> str:
    """What a cell's site keeps, with the rate where several were tried."""
    told = f" ({cell.rate:g})" if cell.chosen == "adapted" and len(cell.tried_db) > 1 and cell.rate else ""
    return f"{cell.chosen or '-'}{told}"


def trials_table(cells: Sequence[WorthCell]) -> Table:
    """Every recipe that was tried, whichever was asked for now: validation patients' PSNR, one line a cell."""
    rows = []
    for cell in sorted(cells, key=lambda one: (one.patients, one.seed, one.site, one.n_steps, one.recipe)):
        found = row_of(cell, validation=True)
        means = [
            f"{value:.2f}" if isinstance(value := found[name], float) else "-" for name in CANDIDATES_SHOWN
        ]
        over = [
            _text_of(difference([cell], "adapted", than, validation=True)) for than in ("alone", "global")
        ]
        place = (str(cell.patients), str(cell.seed), cell.site, cell.recipe, str(cell.n_steps))
        tried = ", ".join(f"{_mean(found.values()):.2f} at {rate}" for rate, found in cell.tried_db.items())
        rows.append((*place, *means, tried or "-", *over))
    header = ("patients", "seed", "site", "recipe", "steps", *CANDIDATES_SHOWN)
    note = (
        "A recipe: rounds x steps, then the steps of the head and of the whole model at their rates. *Adapted* is the "
        "best of its rates on the patients shown, so a little too good."
    )
    last = ("adapted less alone", "adapted less global")
    return Table(
        "Every trial: PSNR of validation patients [dB]", (*header, "each rate", *last), tuple(rows), note
    )


def gains_of(cells: Sequence[WorthCell]) -> dict[int, dict[str, list[float]]]:
    """By training patients and site, the mean gain of each cell's chosen model over the one alone, dB."""
    gains: dict[int, dict[str, list[float]]] = {}
    for cell in cells:
        found = difference([cell], "chosen", "alone", validation=False)
        if found is not None:
            gains.setdefault(cell.patients, {}).setdefault(cell.site, []).append(found.mean)
    return gains


def _text_of(found: Estimate | None) -> str:
    if found is None:
        return "-"
    if found.low is None or found.high is None:
        return f"{found.mean:+.2f}"
    return f"{found.mean:+.2f} [{found.low:+.2f}, {found.high:+.2f}]"


def _recipe_text(plan: WorthPlan) -> str:
    adaptation = plan.adaptation
    rates = " or ".join(f"{rate:g}" for rate in adaptation.tried_rates)
    whole = f"{adaptation.steps} steps of all at {rates}"
    if not adaptation.head_steps:
        return whole
    return f"{adaptation.head_steps} steps of the head at {adaptation.head_learning_rate:g} and {whole}"


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return float(np.mean(found)) if found else math.nan
