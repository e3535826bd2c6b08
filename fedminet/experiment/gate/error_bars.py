"""How many of a left-out patient's errors the error bars of the other patients hold, and the bare spread beside."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.stats import norm
from torch import nn

from minet_core.calibration import LEVELS, ErrorBars
from minet_core.evaluation.error_bars import (
    N_QUANTILES,
    error_bars,
    error_quantiles,
    error_unit,
    inside_anatomy,
)
from minet_core.runtime.files.atomic_write import replacing
from sites.calibration import picture_and_spread

Array = NDArray[np.float32]
Row = dict[str, Any]
QUARTERS = ("least", "second", "third", "most")
"""Of a patient's voxels, by their unit."""
ALL = "all"
LEVELS_DRAWN = np.linspace(0.05, 0.99, 48)


@dataclass(frozen=True, eq=False)
class Measured:
    """Of one patient and one kind of picture. truth, picture, unit, spread: (S, H, W).

    quantiles: of the errors over their unit (`error_quantiles`), of all the anatomy and of its quarters by the unit.
    by_spread: likewise over the bare spread.
    """

    truth: Array
    picture: Array
    unit: Array
    spread: Array
    quantiles: Mapping[str, NDArray[np.float64]]
    by_spread: NDArray[np.float64]


def measured(model: nn.Module, volume: tuple[Array, Array, Array], *, guided: bool) -> Measured:
    """What a model's picture of one patient is off by, in units.

    Parameters
    ----------
    model
        As `sites.calibration.picture_and_spread` takes it.
    volume
        Truth (S, H, W), low resolution (S, h, w) and reference (S, H, W), magnitude.
    guided
        With the reference; else with zeros in its place.

    Returns
    -------
    Measured
        Inside the anatomy.
    """
    truth, low_res, reference = volume
    shown = reference if guided else np.zeros_like(reference)
    picture, spread = picture_and_spread(model, low_res, shown, scale=truth.shape[1] // low_res.shape[1])
    unit = error_unit(spread, low_res)
    whole = error_quantiles(truth, picture, unit)
    assert whole is not None  # a patient shows something
    anatomy = inside_anatomy(picture)
    off = np.abs(picture - truth)[anatomy].astype(np.float64)
    units = unit[anatomy].astype(np.float64)
    quarter = np.searchsorted(np.quantile(units, [0.25, 0.5, 0.75]), units)
    levels = np.linspace(0, 1, N_QUANTILES)
    parts = {
        name: np.quantile((off / units)[quarter == number], levels) for number, name in enumerate(QUARTERS)
    }
    moved = np.maximum(spread[anatomy].astype(np.float64), np.finfo(np.float32).tiny)
    return Measured(truth, picture, unit, spread, {ALL: whole, **parts}, np.quantile(off / moved, levels))


def coverage_rows(patients: Sequence[Measured]) -> list[Row]:
    """Each patient in turn by the error bars of all others, and by the bare spread taken for a Gaussian's deviation.

    Parameters
    ----------
    patients
        Two or more, of one model or of one recipe.

    Returns
    -------
    list[dict]
        One a patient: `factor_68` and `factor_95` of the others, and by level the shares `held`, `held_by_spread` and
        `held_by_quarter`.
    """
    rows = []
    for place, patient in enumerate(patients):
        bars = bars_without(patients, place)
        factors = dict(zip(LEVELS, (bars.factor_68, bars.factor_95), strict=True))
        rows.append(
            {
                "patient": place,
                **bars.model_dump(),
                "held": {f"{p:g}": _held(patient.quantiles[ALL], k) for p, k in factors.items()},
                "held_by_spread": {f"{p:g}": _held(patient.by_spread, _sigmas(p)) for p in LEVELS},
                "held_by_quarter": {
                    f"{p:g}": [_held(patient.quantiles[name], k) for name in QUARTERS]
                    for p, k in factors.items()
                },
            }
        )
    return rows


def bars_without(patients: Sequence[Measured], place: int) -> ErrorBars:
    """The error bars by all patients but one.

    Parameters
    ----------
    patients
        Two or more.
    place
        Whose are left out.

    Returns
    -------
    ErrorBars
        As a site would keep them.
    """
    return error_bars({str(n): [one.quantiles[ALL]] for n, one in enumerate(patients) if n != place})


def draw_error_bars(
    path: Path, patients: Sequence[Measured], *, place: int = 0, slice_number: int = 1
) -> None:
    """Picture, error, spread, error bar and coverage of a patient by the others, as a PNG.

    Parameters
    ----------
    path
        Of the file.
    patients
        Two or more.
    place
        Whose picture it is.
    slice_number
        Of that patient's slices.
    """
    one, bars = patients[place], bars_without(patients, place)
    off = np.abs(one.picture - one.truth)
    figure = Figure(figsize=(17, 4.1), layout="constrained")
    panels = figure.subplots(1, 5)
    top = float(np.percentile(off[slice_number], 99.5))
    for panel, (title, image, most) in zip(
        panels[:4],
        (
            ("picture", one.picture, float(np.percentile(one.picture[slice_number], 99.5))),
            ("error, its size", off, top),
            ("spread over mirrored scans", one.spread, top),
            ("68% error bar", one.unit * bars.factor_68, top),
        ),
        strict=True,
    ):
        drawn = panel.imshow(
            image[slice_number], vmin=0, vmax=most, cmap="gray" if title == "picture" else "magma"
        )
        panel.set_title(title, fontsize=10)
        panel.axis("off")
        figure.colorbar(drawn, ax=panel, shrink=0.75)
    _draw_coverage(panels[4], patients, place)
    FigureCanvasAgg(figure)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=75, metadata={"Software": None})
    with replacing(path) as temporary:
        temporary.write_bytes(content.getvalue())


def _draw_coverage(panel: Axes, patients: Sequence[Measured], place: int) -> None:
    one = patients[place]
    others = np.mean([each.quantiles[ALL] for n, each in enumerate(patients) if n != place], axis=0)
    factors = np.interp(LEVELS_DRAWN, np.linspace(0, 1, N_QUANTILES), others)
    panel.plot(LEVELS_DRAWN, [_held(one.quantiles[ALL], k) for k in factors], label="error bars")
    panel.plot(
        LEVELS_DRAWN,
        [_held(one.by_spread, _sigmas(p)) for p in LEVELS_DRAWN],
        label="spread, as a Gaussian's",
    )
    panel.plot([0, 1], [0, 1], "k:", linewidth=1)
    panel.set_xlabel("level")
    panel.set_ylabel("share of the voxels' errors within")
    panel.set_title("coverage of the patient left out", fontsize=10)
    panel.legend(fontsize=8)


def _held(quantiles: NDArray[np.float64], factor: float) -> float:
    """The share of errors up to a factor of their units."""
    return float(np.interp(factor, quantiles, np.linspace(0, 1, N_QUANTILES), left=0.0, right=1.0))


def _sigmas(level: float) -> float:
    return float(norm.ppf((1 + level) / 2))
