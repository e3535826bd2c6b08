"""The tables of an experiment: what the cells that are done say, and what the paper says."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from fedminet.experiment.analysis.statistics import MIN_PATIENTS
from fedminet.experiment.methods import METHODS, is_learned
from fedminet.experiment.report import published
from fedminet.experiment.report.formats import Table
from fedminet.experiment.report.results import BEST, LEVEL, Results, Score, difference_texts, score_named

DECIMALS = {"psnr_db": 2, "ssim": 4, "nmse": 5}
TITLES = {"psnr_db": "PSNR [dB]", "ssim": "SSIM", "nmse": "NMSE"}
MODE_TITLES = {
    "federated": "federated",
    "pooled": "pooled",
    "local": "local only",
    "without": "federated by the others",
}


def main_tables(results: Results, *, scores: Sequence[str]) -> list[Table]:
    """One table for each scale and the main mode: a row a method, a column a site and a score."""
    mode = results.main_mode()
    return [
        Table(
            title=f"{scale}x, {MODE_TITLES[mode]}, {results.kind}",
            header=("method", *(f"{site} {TITLES[score]}" for site in results.sites for score in scores)),
            rows=tuple(
                (
                    results.label(method, scale=scale, mode=mode),
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
            note=f"Mean over test patients and {len(results.seeds())} seed{'s' * (len(results.seeds()) > 1)}; from "
            f"{MIN_PATIENTS} patients on with its 95% interval (bootstrap over seeds and patients, which is too "
            "narrow where there are few). Each site's column is of its own test split."
            + _readings_note(results.methods),
        )
        for scale in results.scales()
    ]


def _readings_note(methods: Sequence[str]) -> str:
    """What must be said of methods whose papers do not give every size."""
    readings = [METHODS[method].label for method in methods if METHODS[method].is_reading]
    return f" {' and '.join(readings)}: our reading of what is published of them." if readings else ""


def costs_table(results: Results) -> Table:
    """Parameters, steps and seconds of each learned method in the main mode."""
    mode = results.main_mode()
    rows = []
    for scale in results.scales():
        for method in filter(is_learned, results.methods):
            cells = [c for c in results.cells if (c.method, c.scale, c.mode) == (method, scale, mode)]
            if cells:
                seconds = statistics.mean(cell.train_seconds for cell in cells)
                steps = sorted({cell.n_steps for cell in cells})
                taken = f"{steps[0]:,}" if len(steps) == 1 else f"{steps[0]:,} to {steps[-1]:,}"
                figures = (f"{cells[0].n_parameters:,}", taken, f"{seconds:.0f}")
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
    if BEST not in results.methods or len(results.methods) == 1:
        return []
    return [_paired_table(results, score) for score in scores]


def _paired_table(results: Results, score: str) -> Table:
    columns = [(site, scale) for scale in results.scales() for site in results.sites]
    others = [method for method in results.methods if method != BEST]
    texts = difference_texts(
        {
            (method, column): results.differences(
                BEST, method, column[0], scale=column[1], score=score_named(score)
            )
            for method in others
            for column in columns
        },
        decimals=DECIMALS[score],
    )
    return Table(
        title=f"MINet over each method, {TITLES[score]}",
        header=("method", *(f"{site} {scale}x" for site, scale in columns)),
        rows=tuple(
            (METHODS[method].label, *(texts[method, column] for column in columns)) for method in others
        ),
        note=_PAIRED_NOTE,
    )


_PAIRED_NOTE = (
    "Mean of the differences patient by patient; p of a two-sided sign-flip permutation test over patients, none below "
    f"{MIN_PATIENTS}: it is of the models as they were trained, and not of what another training would give. "
    f"*: below {LEVEL} after Holm's correction for all comparisons of the table. Of scans, which are the same for "
    "every seed, a patient's differences are averaged over the seeds first."
)


def integration_table(results: Results) -> Table:
    """What F_Int adds at each size, patient by patient, in PSNR."""
    parameters = {(cell.method, cell.scale): cell.n_parameters for cell in results.cells}
    pairs = [
        (scale, method, without)
        for scale in results.scales()
        for method in results.methods
        if method.startswith(BEST)
        and (method, scale) in parameters
        and (without := method.replace(BEST, "without-integration", 1), scale) in parameters
    ]
    texts = difference_texts(
        {
            (scale, method, site): results.differences(
                method, without, site, scale=scale, score=score_named("psnr_db")
            )
            for scale, method, without in pairs
            for site in results.sites
        }
    )
    return Table(
        title="What F_Int adds, PSNR [dB]",
        header=("model", "scale", "parameters", "without F_Int", *results.sites),
        rows=tuple(
            (
                METHODS[method].label,
                f"{scale}x",
                f"{parameters[method, scale]:,}",
                f"{parameters[without, scale]:,}",
                *(texts[scale, method, site] for site in results.sites),
            )
            for scale, method, without in pairs
        ),
        note=_PAIRED_NOTE,
    )


def modes_tables(results: Results, *, scores: Sequence[str]) -> list[Table]:
    """Each learned method by the way it was trained, one table a score; none where there is one way only."""
    return [_modes_table(results, score) for score in scores] if len(results.modes()) > 1 else []


def _modes_table(results: Results, score: str) -> Table:
    modes = results.modes()
    rows = []
    for scale in results.scales():
        for method in filter(is_learned, results.methods):
            for site in results.sites:
                found = {
                    mode: results.scores(method, site, scale=scale, mode=mode, score=score_named(score))
                    for mode in modes
                }
                if len([mode for mode in modes if found[mode]]) > 1:
                    texts = [
                        results.text(found[mode], decimals=DECIMALS[score])
                        + results.of_seeds(set(found[mode]))
                        for mode in modes
                    ]
                    rows.append((METHODS[method].label, f"{scale}x", site, *texts))
    return Table(
        title=f"By the way of training, {TITLES[score]}",
        header=("method", "scale", "tested at", *(MODE_TITLES[mode] for mode in modes)),
        rows=tuple(rows),
        note="Pooled and local only: as many optimizer steps as the federation gives one site, on all sites' data or "
        "on the site's own; the federation takes that many at each of its sites. Federated by the others: the site "
        "that is tested took no part in the training.",
    )


def faithfulness_table(results: Results) -> Table:
    """What each method invents: data consistency, energy outside the measured band, the swapped reference."""
    mode = results.main_mode()
    names = dict.fromkeys(
        name for cell in results.cells for s in cell.sites.values() for p in s for name in p.faithfulness
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
        note="See fedminet/experiment/analysis/faithfulness.py for each column. An empty cell: the method looks at no "
        "reference, or the site has no other patient. The swapped reference is another test patient's or, where "
        "there is none, one of the training split.",
    )


def conventions_table(results: Results) -> Table:
    """The same images under the definitions by which published figures differ."""
    mode = results.main_mode()
    names = dict.fromkeys(
        name for cell in results.cells for s in cell.sites.values() for p in s for name in p.conventions
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
                        for score in ("psnr_db", "ssim", "nmse")
                    )
                    for name in names
                ]
                rows.append((METHODS[method].label, f"{scale}x", site, *texts))
    return Table(
        title="Appendix: other definitions, PSNR [dB] / SSIM / NMSE",
        header=("method", "scale", "site", *names),
        rows=tuple(rows),
        note="See fedminet/experiment/analysis/metric_conventions.py. "
        "Every other table has the fastMRI definition, over the volume.",
    )


def published_table(which: str) -> Table:
    """The paper's own numbers."""
    if which == "table2":
        return Table(
            title=f"As published ({published.SOURCE}, Table 2: SMS, 2x)",
            header=("variant", "NMSE", "PSNR [dB]", "SSIM"),
            rows=tuple((METHODS[method].label, *scores) for method, scores in published.TABLE_2.items()),
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
                *(f"{by_column[column][0]:.3f} / {by_column[column][1]:.3f}" for column in columns),
            )
            for method, by_column in published.TABLE_1.items()
        ),
        note=_PUBLISHED_NOTE,
        is_published=True,
    )


_PUBLISHED_NOTE = (
    "The paper's numbers, on its own data: not measured here, not comparable with those of other data."
)


def _faithfulness(name: str) -> Score:
    return lambda patient: patient.faithfulness.get(name)


def _convention(name: str, score: str) -> Score:
    return lambda patient: patient.conventions.get(name, {}).get(score)
