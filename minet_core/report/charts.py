"""The report's charts, each a small SVG that is readable on a telephone.

Colours are Okabe and Ito's, told apart by the colour-blind; a marker repeats what a colour says. Text is drawn
as paths, so a chart looks the same everywhere, and a `$` in a name is never taken for a formula.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from minet_core.report.summary import Metric, RoundSite, Summary

INK, FAINT = "#1a1a1a", "#d9d9d9"
SITE_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
METHOD_STYLES = {"sinc": ("#767676", "o"), "bicubic": ("#E69F00", "s"), "global": ("#0072B2", "D")}
OTHER_STYLES = (("#009E73", "^"), ("#CC79A7", "v"), ("#56B4E9", "P"))
WIDTH_INCHES = 4.6


LEGEND_COLUMNS = 4
"""Sites side by side in a legend; the chart grows with its rows."""


@dataclass(frozen=True)
class Chart:
    """A chart as a `data:` address, and the same in words."""

    title: str
    uri: str
    words: str


def data_uri(content: bytes, media_type: str) -> str:
    """Bytes as an address that needs no other file.

    Parameters
    ----------
    content
        Of an image.
    media_type
        Such as "image/png".

    Returns
    -------
    str
        `data:...`, in base64.
    """
    return f"data:{media_type};base64,{base64.b64encode(content).decode('ascii')}"


def score_chart(summary: Summary, metric: Metric, *, title: str) -> Chart | None:
    """A chart of every method's mean and 95% interval at every site.

    Parameters
    ----------
    summary
        Of the run.
    metric
        Of the test scores.
    title
        With its unit.

    Returns
    -------
    Chart or None
        None before a site was scored.
    """
    scored = {name: site.methods() for name, site in summary.all_sites().items() if site.methods()}
    if not scored:
        return None
    methods = list(dict.fromkeys(method for scores in scored.values() for method in scores))
    others = (method for method in methods if method not in METHOD_STYLES)
    styles = METHOD_STYLES | {
        method: OTHER_STYLES[index % len(OTHER_STYLES)] for index, method in enumerate(others)
    }
    with _axes(height=0.9 + 0.62 * len(scored)) as (figure, axes):
        for row, (name, scores) in enumerate(scored.items()):
            for lane, method in enumerate(methods):
                if method not in scores:
                    continue
                y = row + (lane - (len(methods) - 1) / 2) * 0.6 / len(methods)
                colour, marker = styles[method]
                value = getattr(scores[method], metric)
                bounds = getattr(summary.sites[name].intervals.get(method), metric, None)
                if bounds is not None:
                    axes.plot(bounds, (y, y), color=colour, linewidth=1.6, solid_capstyle="butt")
                label = ("global model" if method == "global" else method) if row == 0 else None
                axes.plot(value, y, marker=marker, color=colour, markersize=6, linestyle="none", label=label)
        axes.set_yticks(range(len(scored)), list(scored))
        axes.set_ylim(len(scored) - 0.5, -0.5)
        axes.grid(axis="x", color=FAINT, linewidth=0.7)
        axes.tick_params(axis="y", length=0)
        _legend(axes, n_columns=len(methods))
        uri = _svg_uri(figure)
    words = "; ".join(
        f"{name}: " + ", ".join(f"{method} {getattr(value, metric):.3f}" for method, value in scores.items())
        for name, scores in scored.items()
    )
    return Chart(title, uri, f"{title}, mean over test volumes. {words}.")


def round_chart(
    summary: Summary, value_of: Callable[[RoundSite], float | None], *, title: str, bars: bool
) -> Chart | None:
    """A chart of one value per site and round, as lines or as grouped bars from zero.

    A grey band is a round that aggregated nothing.

    Parameters
    ----------
    summary
        Of the run.
    value_of
        From a site's round to the value; None where it has none.
    title
        With its unit.
    bars
        Bars, or else lines.

    Returns
    -------
    Chart or None
        None where nothing is known.
    """
    series = {
        name: [
            (entry.round, value)
            for entry in summary.per_round
            if name in entry.sites and (value := value_of(entry.sites[name])) is not None
        ]
        for name in summary.all_sites()
    }
    series = {name: points for name, points in series.items() if points}
    if not series:
        return None
    legend_rows = -(-len(series) // LEGEND_COLUMNS)
    with _axes(height=2.4 + 0.22 * legend_rows) as (figure, axes):
        for entry in summary.per_round:
            if not entry.aggregated:
                axes.axvspan(entry.round - 0.5, entry.round + 0.5, color=FAINT, alpha=0.6, linewidth=0)
        for index, (name, points) in enumerate(series.items()):
            rounds, values = zip(*points, strict=True)
            colour = SITE_COLOURS[index % len(SITE_COLOURS)]
            if bars:
                width = 0.8 / len(series)
                offset = (index - (len(series) - 1) / 2) * width
                axes.bar([entry + offset for entry in rounds], values, width, color=colour, label=name)
            else:
                marker = MARKERS[index % len(MARKERS)]
                axes.plot(rounds, values, color=colour, marker=marker, markersize=4.5, label=name)
        axes.set_xlabel("round")
        axes.set_xlim(0.5, max(entry.round for entry in summary.per_round) + 0.5)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(axis="y", color=FAINT, linewidth=0.7)
        _legend(axes, n_columns=min(LEGEND_COLUMNS, len(series)))
        uri = _svg_uri(figure)
    words = "; ".join(
        f"{name}: {points[0][1]:.3g} in round {points[0][0]}, {points[-1][1]:.3g} in round {points[-1][0]}"
        for name, points in series.items()
    )
    return Chart(title, uri, f"{title}, by round and site. {words}.")


@contextmanager
def _axes(*, height: float) -> Iterator[tuple[Figure, Axes]]:
    settings: Any = {
        "font.size": 9,
        "text.parse_math": False,
        "axes.edgecolor": INK,
        "axes.linewidth": 0.8,
        "axes.axisbelow": True,
        "lines.linewidth": 1.6,
        "svg.hashsalt": "fedminet",
    }
    with mpl.rc_context(settings):
        figure = Figure(figsize=(WIDTH_INCHES, height), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        axes.spines[["top", "right"]].set_visible(False)
        yield figure, axes


def _legend(axes: Axes, *, n_columns: int) -> None:
    axes.figure.legend(
        *axes.get_legend_handles_labels(),
        loc="outside upper left",
        ncols=n_columns,
        frameon=False,
        handletextpad=0.3,
        columnspacing=1.2,
        borderaxespad=0.1,
    )


def _svg_uri(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    return data_uri(buffer.getvalue(), "image/svg+xml")
