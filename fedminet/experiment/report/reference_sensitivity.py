"""What the reference adds, against its resolution and against how far it lies from the target.

Each model that looks at a reference gets it low-passed or moved, and is scored as before. The models were trained with
references as they are: the figure is of a model that meets a worse reference than it knows.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from fedminet.experiment.analysis.changed_reference import Volume, low_passed, moved, reference_offset_px
from fedminet.experiment.cells import model_of_cell
from fedminet.experiment.methods import METHODS, is_learned
from fedminet.experiment.report.formats import Table
from fedminet.experiment.scores import restored
from fedminet.experiment.study import CellKey, Mode, Study
from minet_core.evaluation.metrics import psnr
from minet_core.evaluation.volume_scores import degraded_volume
from minet_core.models.base import SuperResolver
from minet_core.runtime.files.atomic_write import replacing
from sites.store.store import Store

FRACTIONS = (1.0, 0.75, 0.5, 0.375, 0.25)
"""Of the reference's k-space in both directions that is kept; the first is the reference as it is."""

SHIFTS_PX = (0.0, 0.5, 1.0, 2.0, 4.0)
"""How far the reference is moved along the rows; the first is the reference as it is."""


@dataclass(frozen=True)
class Sensitivity:
    """Mean PSNR [dB] of one method at one site and scale, by the fraction of k-space and by the shift in pixels.

    A method that looks at no reference has one value for all. offsets_px: of each test patient, (row, column) from
    where its reference would do best to where it lies; of a method that looks at one.
    """

    method: str
    site: str
    scale: int
    by_fraction: Mapping[float, float]
    by_shift: Mapping[float, float]
    offsets_px: tuple[tuple[float, float], ...] = ()


def sensitivities(study: Study, *, mode: Mode, seed: int) -> list[Sensitivity]:
    """Of every learned method whose model of this seed and mode is done."""
    found = []
    for scale in study.scales:
        for site, home in study.homes(seed).items():
            tests = [degraded_volume(t, r, scale=scale) for _, t, r in Store(home.store).volumes("test")]
            member = site if mode in ("local", "without") else None
            for method in filter(is_learned, study.methods):
                model = model_of_cell(study, CellKey(seed, scale, mode, member, method))
                if model is not None:
                    found.append(_sensitivity(method, model, site, tests, scale=scale))
    return found


Test = tuple[Volume, Volume, Volume]
"""Truth, low-resolution volume and reference."""


def _sensitivity(
    method: str, model: SuperResolver, site: str, tests: Sequence[Test], *, scale: int
) -> Sensitivity:
    as_it_is = _mean_psnr(model, tests, scale=scale)
    by_fraction, by_shift = dict.fromkeys(FRACTIONS, as_it_is), dict.fromkeys(SHIFTS_PX, as_it_is)
    if not model.uses_reference:
        return Sensitivity(method, site, scale, by_fraction, by_shift)
    for fraction in FRACTIONS[1:]:
        coarser = [(t, low, low_passed(r, fraction)) for t, low, r in tests]
        by_fraction[fraction] = _mean_psnr(model, coarser, scale=scale)
    for shift in SHIFTS_PX[1:]:
        beside = [(t, low, moved(r, shift)) for t, low, r in tests]
        by_shift[shift] = _mean_psnr(model, beside, scale=scale)
    return Sensitivity(
        method,
        site,
        scale,
        by_fraction,
        by_shift,
        offsets_px=tuple(_offset(model, test, scale=scale) for test in tests),
    )


def _mean_psnr(model: SuperResolver, tests: Sequence[Test], *, scale: int) -> float:
    return float(np.mean([psnr(truth, restored(model, low, r, scale=scale)) for truth, low, r in tests]))


def _offset(model: SuperResolver, test: Test, *, scale: int) -> tuple[float, float]:
    truth, low, reference = test

    def psnr_at(rows_px: float, columns_px: float) -> float:
        return _mean_psnr(model, [(truth, low, moved(reference, rows_px, columns_px))], scale=scale)

    return reference_offset_px(psnr_at)


def sensitivity_tables(found: Sequence[Sensitivity]) -> list[Table]:
    """PSNR by the reference's resolution, and by its shift; and how far the reference lies beside its target."""

    def table(title: str, names: Sequence[str], of: Callable[[Sensitivity], Mapping[float, float]]) -> Table:
        return Table(
            title=title,
            header=("method", "scale", "site", *names),
            rows=tuple(
                (
                    METHODS[one.method].label,
                    f"{one.scale}x",
                    one.site,
                    *(f"{v:.2f}" for v in of(one).values()),
                )
                for one in found
            ),
            note="Mean PSNR [dB] over the test volumes of the first seed. The models were trained with references as "
            "they are; single-contrast methods have one value.",
        )

    looking = [one for one in found if one.offsets_px]
    return [
        table(
            "By the part of the reference's k-space that is kept",
            [f"{f:g}" for f in FRACTIONS],
            lambda s: s.by_fraction,
        ),
        table(
            "By how far the reference is moved, pixels", [f"{d:g}" for d in SHIFTS_PX], lambda s: s.by_shift
        ),
        *([_offsets_table(looking)] if looking else []),
    ]


def _offsets_table(found: Sequence[Sensitivity]) -> Table:
    rows = []
    for one in found:
        offsets = np.array(one.offsets_px)
        figures = [*offsets.mean(axis=0), np.hypot(*offsets.T).max()]
        texts = [
            format(figure, form) if np.isfinite(figure) else "not found"
            for figure, form in zip(figures, ("+.2f", "+.2f", ".2f"), strict=True)
        ]
        rows.append((METHODS[one.method].label, f"{one.scale}x", one.site, *texts))
    return Table(
        title="How far the reference lies beside its target, pixels",
        header=("method", "scale", "site", "rows", "columns", "patient with most"),
        rows=tuple(rows),
        note="From where the method's PSNR is highest to where the reference is: mean over the test patients, and the "
        "length of the longest. What was aligned in training counts as aligned. A method that lets its image follow "
        "the reference is off by a part of this.",
    )


def draw_sensitivities(found: Sequence[Sensitivity], path: Path) -> None:
    """One PNG: a row a site and scale, resolution left and misregistration right."""
    places = list(dict.fromkeys((one.site, one.scale) for one in found))
    figure = Figure(figsize=(10, 2.6 * len(places)), layout="constrained")
    axes = figure.subplots(len(places), 2, squeeze=False, sharey="row")
    for row, (site, scale) in enumerate(places):
        for one in (one for one in found if (one.site, one.scale) == (site, scale)):
            style = "-o" if len(set(one.by_shift.values())) > 1 else "--"
            label = METHODS[one.method].label
            axes[row][0].plot(list(one.by_fraction), list(one.by_fraction.values()), style, label=label, ms=4)
            axes[row][1].plot(list(one.by_shift), list(one.by_shift.values()), style, label=label, ms=4)
        axes[row][0].set_ylabel(f"{site} {scale}x\nPSNR [dB]")
        axes[row][0].invert_xaxis()
        axes[row][0].axvline(1 / scale, color="0.7", lw=1)
        for axis in axes[row]:
            axis.grid(alpha=0.3)
    axes[-1][0].set_xlabel("part of the reference's k-space; grey: what the low-resolution target has")
    axes[-1][1].set_xlabel("reference moved by, pixels")
    axes[0][1].legend(fontsize=8)
    FigureCanvasAgg(figure)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=100)
    with replacing(path) as temporary:
        temporary.write_bytes(content.getvalue())
