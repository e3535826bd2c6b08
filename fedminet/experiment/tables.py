"""The tables of an experiment: what the cells that are done say, and what the paper says."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from fedminet.experiment import published
from fedminet.experiment.cells import Cell
from fedminet.experiment.formats import Table
from fedminet.experiment.methods import METHODS, is_learned
from fedminet.experiment.scores import PatientScores
from fedminet.experiment.statistics import Scores, estimate, paired_differences, paired_p
from fedminet.experiment.study import MODES, Mode

Score = Callable[[PatientScores], float | None]

DECIMALS = {"psnr_db": 2, "ssim": 4, "nmse": 5}
TITLES = {"psnr_db": "PSNR [dB]", "ssim": "SSIM", "nmse": "NMSE"}
MODE_TITLES = {
    "federated": "federated",
    "pooled": "pooled",
    "local": "local only",
    "without": "federated by the others",
}
BEST = "minet"


class Results:
    """The cells that are done, by what they are asked for. same_patients: whether every seed has the same ones."""

    def __init__(
        self, cells: Iterable[Cell], *, sites: Sequence[str], methods: Sequence[str], same_patients: bool
    ) -> None:
        self.cells, self.same_patients = list(cells), same_patients
        self.sites, self.methods = tuple(sites), tuple(methods)

    def scores(
        self, method: str, site: str, *, scale: int, mode: Mode, score: Score
    ) -> dict[int, list[float]]:
        """By seed, the score of each test patient of `site`; a method of interpolation has one mode."""
        mode = mode if is_learned(method) else "federated"
        found: dict[int, list[float]] = {}
        for cell in self.cells:
            if (cell.method, cell.scale, cell.mode) != (method, scale, mode) or site not in cell.sites:
                continue
            values = [score(patient) for patient in cell.sites[site]]
            found[cell.seed] = [value for value in values if value is not None]
        return {seed: values for seed, values in sorted(found.items()) if values}

    def text(self, scores: Scores, *, decimals: int, interval: bool = True) -> str:
        """ "36.21 [35.90, 36.48]", or nothing where there is no score."""
        if not scores:
            return ""
        found = estimate(scores, same_patients=self.same_patients)
        if not interval or found.low is None:
            return f"{found.mean:.{decimals}f}"
        return f"{found.mean:.{decimals}f} [{found.low:.{decimals}f}, {found.high:.{decimals}f}]"

    def differences(self, mine: Scores, other: Scores) -> NDArray[np.float64]:
        return paired_differences(mine, other, same_patients=self.same_patients)

    def difference_text(self, mine: Scores, other: Scores, *, decimals: int = 2) -> str:
        """ "+0.52 (p 0.031)", the p where there are patients enough; nothing where there is no pair."""
        differences = self.differences(mine, other)
        if not len(differences):
            return ""
        p = paired_p(differences)
        return f"{differences.mean():+.{decimals}f}" + ("" if p is None else f" (p {p:.3f})")

    def scales(self) -> list[int]:
        return sorted({cell.scale for cell in self.cells})

    def modes(self) -> list[Mode]:
        there = {cell.mode for cell in self.cells if is_learned(cell.method)}
        return [mode for mode in MODES if mode in there]


def main_tables(results: Results, *, scores: Sequence[str]) -> list[Table]:
    """One table for each scale and the main mode: a row a method, a column a site and a score."""
    mode = (results.modes() or ["federated"])[0]
    return [
        Table(
            title=f"{scale}x, {MODE_TITLES[mode]}",
            header=("method", *(f"{site} {TITLES[score]}" for site in results.sites for score in scores)),
            rows=tuple(
                (
                    METHODS[method].label,
                    *(
                        results.text(
                            results.scores(method, site, scale=scale, mode=mode, score=score_named(score)),
                            decimals=DECIMALS[score],
                        )
                        for site in results.sites
                        for score in scores
                    ),
                )
                for method in results.methods
            ),
            note="Mean over test patients and seeds with its 95% interval (bootstrap over seeds and patients); "
            "each site's column is of its own test split.",
        )
        for scale in results.scales()
    ]


def costs_table(results: Results) -> Table:
    """Parameters, steps and seconds of each learned method in the main mode."""
    mode = (results.modes() or ["federated"])[0]
    rows = []
    for scale in results.scales():
        for method in filter(is_learned, results.methods):
            cells = [c for c in results.cells if (c.method, c.scale, c.mode) == (method, scale, mode)]
            if cells:
                seconds = statistics.mean(cell.train_seconds for cell in cells)
                figures = (f"{cells[0].n_parameters:,}", f"{cells[0].n_steps:,}", f"{seconds:.0f}")
                rows.append((METHODS[method].label, f"{scale}x", *figures))
    return Table(
        title="What each method takes",
        header=("method", "scale", "parameters", "steps of a site", "s of a site's training"),
        rows=tuple(rows),
        note="The seconds are of the machine as it was, beside whatever else ran on it; of a federated model they hold "
        "the site's validation of each round.",
    )


def paired_tables(results: Results, *, scores: Sequence[str]) -> list[Table]:
    """MINet less each other method, patient by patient, one table a score; with the p of a paired test."""
    mode = (results.modes() or ["federated"])[0]
    if BEST not in results.methods:
        return []
    columns = [(site, scale) for scale in results.scales() for site in results.sites]

    def difference(method: str, score: str, site: str, scale: int) -> str:
        mine, other = (
            results.scores(name, site, scale=scale, mode=mode, score=score_named(score))
            for name in (BEST, method)
        )
        return results.difference_text(mine, other, decimals=DECIMALS[score])

    return [
        Table(
            title=f"MINet over each method, {TITLES[score]}",
            header=("method", *(f"{site} {scale}x" for site, scale in columns)),
            rows=tuple(
                (METHODS[method].label, *(difference(method, score, *column) for column in columns))
                for method in results.methods
                if method != BEST
            ),
            note=_PAIRED_NOTE,
        )
        for score in scores
    ]


_PAIRED_NOTE = (
    "Mean of the differences patient by patient; p of a two-sided sign-flip permutation test, none below six patients, "
    "and not corrected for the number of comparisons. Of scans, which are the same for every seed, a patient's "
    "differences are averaged over the seeds first."
)


def integration_table(results: Results) -> Table:
    """What F_Int adds at each size, patient by patient, in PSNR."""
    mode = (results.modes() or ["federated"])[0]
    parameters = {(cell.method, cell.scale): cell.n_parameters for cell in results.cells}
    rows = []
    for scale in results.scales():
        for method in (method for method in results.methods if method.startswith(BEST)):
            without = method.replace(BEST, "without-integration", 1)
            if (method, scale) not in parameters or (without, scale) not in parameters:
                continue
            differences = [
                results.difference_text(
                    *(
                        results.scores(name, site, scale=scale, mode=mode, score=score_named("psnr_db"))
                        for name in (method, without)
                    )
                )
                for site in results.sites
            ]
            sizes = (f"{parameters[method, scale]:,}", f"{parameters[without, scale]:,}")
            rows.append((METHODS[method].label, f"{scale}x", *sizes, *differences))
    return Table(
        title="What F_Int adds, PSNR [dB]",
        header=("model", "scale", "parameters", "without F_Int", *results.sites),
        rows=tuple(rows),
        note=_PAIRED_NOTE,
    )


def modes_table(results: Results) -> Table | None:
    """Each learned method by the way it was trained, PSNR; None where there is one way only."""
    modes = results.modes()
    if len(modes) < 2:
        return None
    rows = []
    for scale in results.scales():
        for method in filter(is_learned, results.methods):
            for site in results.sites:
                found = {
                    mode: results.scores(method, site, scale=scale, mode=mode, score=score_named("psnr_db"))
                    for mode in modes
                }
                if len([mode for mode in modes if found[mode]]) > 1:
                    texts = [results.text(found[mode], decimals=2) for mode in modes]
                    rows.append((METHODS[method].label, f"{scale}x", site, *texts))
    return Table(
        title="By the way of training, PSNR [dB]",
        header=("method", "scale", "tested at", *(MODE_TITLES[mode] for mode in modes)),
        rows=tuple(rows),
        note="Federated by the others: the site that is tested took no part in the training.",
    )


def worse_than_local(results: Results) -> list[str]:
    """Where the global model is worse than a site's own, in words."""
    lines = []
    for scale in results.scales():
        for method in filter(is_learned, results.methods):
            for site in results.sites:
                ours, own = (
                    results.scores(method, site, scale=scale, mode=mode, score=score_named("psnr_db"))
                    for mode in ("federated", "local")
                )
                differences = results.differences(ours, own)
                if len(differences) and differences.mean() < 0:
                    p = paired_p(differences)
                    lines.append(
                        f"{METHODS[method].label} at {scale}x: on {site} the global model is "
                        f"{-differences.mean():.2f} dB worse than the site's own"
                        + ("." if p is None else f" (p {p:.3f}).")
                    )
    return lines


def faithfulness_table(results: Results) -> Table:
    """What each method invents: data consistency, energy outside the measured band, the swapped reference."""
    mode = (results.modes() or ["federated"])[0]
    names = sorted(
        {name for cell in results.cells for s in cell.sites.values() for p in s for name in p.faithfulness}
    )
    rows = []
    for scale in results.scales():
        for method in results.methods:
            for site in results.sites:
                texts = [
                    results.text(
                        results.scores(method, site, scale=scale, mode=mode, score=_faithfulness(name)),
                        decimals=3,
                        interval=False,
                    )
                    for name in names
                ]
                rows.append((METHODS[method].label, f"{scale}x", site, *texts))
    return Table(
        title="Faithfulness",
        header=("method", "scale", "site", *(name.replace("_", " ") for name in names)),
        rows=tuple(rows),
        note="See minet_core/faithfulness.py for each column. An empty cell: the method looks at no reference.",
    )


def conventions_table(results: Results) -> Table:
    """The same images under the definitions by which published figures differ."""
    mode = (results.modes() or ["federated"])[0]
    names = sorted(
        {name for cell in results.cells for s in cell.sites.values() for p in s for name in p.conventions}
    )
    rows = []
    for scale in results.scales():
        for method in results.methods:
            for site in results.sites:
                texts = [
                    " / ".join(
                        results.text(
                            results.scores(
                                method, site, scale=scale, mode=mode, score=_convention(name, score)
                            ),
                            decimals=DECIMALS[score],
                            interval=False,
                        )
                        for score in ("psnr_db", "ssim")
                    )
                    for name in names
                ]
                rows.append((METHODS[method].label, f"{scale}x", site, *texts))
    return Table(
        title="Appendix: other definitions, PSNR [dB] / SSIM",
        header=("method", "scale", "site", *names),
        rows=tuple(rows),
        note="See minet_core/conventions.py. Every other table has the fastMRI definition, over the volume.",
    )


def published_table(which: str) -> Table:
    """The paper's own numbers."""
    if which == "table2":
        return Table(
            title=f"As published ({published.SOURCE}, Table 2: SMS, 2x)",
            header=("variant", "NMSE", "PSNR [dB]", "SSIM"),
            rows=tuple(
                (METHODS[method].label, f"{nmse:.4f}", f"{psnr:.2f}", f"{ssim:.4f}")
                for method, (nmse, psnr, ssim) in published.TABLE_2.items()
            ),
            note=_PUBLISHED_NOTE,
            is_published=True,
        )
    columns = list(published.TABLE_1[BEST])
    return Table(
        title=f"As published ({published.SOURCE}, Table 1)",
        header=("method", *(f"{site} {scale}x PSNR / SSIM" for site, scale in columns)),
        rows=tuple(
            (
                METHODS[method].label,
                *(f"{by_column[column][0]:.2f} / {by_column[column][1]:.3f}" for column in columns),
            )
            for method, by_column in published.TABLE_1.items()
        ),
        note=_PUBLISHED_NOTE,
        is_published=True,
    )


_PUBLISHED_NOTE = (
    "The paper's numbers, on its own data: not measured here, not comparable with those of other data."
)


def score_named(name: str) -> Score:
    return lambda patient: getattr(patient, name)


def _faithfulness(name: str) -> Score:
    return lambda patient: patient.faithfulness.get(name)


def _convention(name: str, score: str) -> Score:
    return lambda patient: patient.conventions.get(name, {}).get(score)


def order_found(results: Results) -> list[str]:
    """The order that the paper has, interpolation < single-contrast < multi-contrast with MINet first: where it is not
    so, by mean PSNR of the main mode."""
    mode = (results.modes() or ["federated"])[0]
    lines = []
    for scale in results.scales():
        for site in results.sites:
            means = {
                method: estimate(found, same_patients=results.same_patients).mean
                for method in results.methods
                if (
                    found := results.scores(
                        method, site, scale=scale, mode=mode, score=score_named("psnr_db")
                    )
                )
            }
            lines += [f"{site} at {scale}x: {breach}." for breach in _breaches(means)]
    return lines


_ORDER = ("interpolation", "single", "multi")


def _breaches(means: Mapping[str, float]) -> list[str]:
    by_kind = {
        kind: {method: mean for method, mean in means.items() if METHODS[method].contrasts == kind}
        for kind in _ORDER
    }
    lines = []
    for lower, higher in pairwise(_ORDER):
        if not by_kind[lower] or not by_kind[higher]:
            continue
        best = max(by_kind[lower], key=by_kind[lower].__getitem__)
        worst = min(by_kind[higher], key=by_kind[higher].__getitem__)
        if means[best] >= means[worst]:
            lines.append(
                f"not the paper's order: {METHODS[best].label} is {means[best] - means[worst]:.2f} dB above "
                f"{METHODS[worst].label}"
            )
    if BEST in means:
        first = max(means, key=means.__getitem__)
        if first != BEST:
            lines.append(
                f"not the paper's order: {METHODS[first].label} is {means[first] - means[BEST]:.2f} dB above MINet"
            )
    return list(dict.fromkeys(lines))
