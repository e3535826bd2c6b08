"""Curves as the numbers of an inline SVG: one line a site, which colours, markers and gaps tell apart.

The report's charts are drawn by matplotlib with their colours inside; these take theirs from the page's style sheet, so
that they follow its light and dark, and cost a millisecond.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from server.dashboard.run_view import Figures, SiteView

WIDTH, HEIGHT = 480.0, 230.0
LEFT, RIGHT, TOP, BOTTOM = 58.0, 14.0, 12.0, 38.0
N_STYLES = 8
"""Colours and markers in the style sheet; from the ninth site on they begin again, with a dashed line."""

MAX_POINTS = 400
"""Points of a line; of a longer run every n-th round is drawn, and the last."""

FLAT = 1e-6
"""Values that lie closer than this, absolutely below 1 and relatively above, are drawn as one line in the middle."""

MAX_MARKERS = 12
STRIP_ROUNDS = 40
"""Rounds in a site's participation strip, the last ones."""


@dataclass(frozen=True)
class Tick:
    """A mark on an axis: where, and its label."""

    at: float
    label: str


@dataclass(frozen=True)
class Line:
    """One site's curve. pieces: points of the polylines between gaps. markers: where the marker is drawn."""

    name: str
    style: int
    dashed: bool
    pieces: tuple[str, ...]
    markers: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Curves:
    """A chart, and the same in words."""

    key: str
    title: str
    unit: str
    lines: tuple[Line, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    words: str


@dataclass(frozen=True)
class StripCell:
    """One round in a participation strip."""

    at: float
    outcome: str


def curves(
    sites: Sequence[SiteView],
    value_of: Callable[[Figures], float | None],
    *,
    key: str,
    title: str,
    unit: str,
) -> Curves | None:
    """One value of each site by round; None before any site told one.

    A round that a site missed is a gap. One that it was in without the value, as between two validations, is none.
    """
    series = {
        site.name: [
            (entry.round, value_of(entry))
            for entry in _thinned(
                [one for one in site.rounds if one.outcome != "counted" or value_of(one) is not None]
            )
        ]
        for site in sites
    }
    known = [(number, value) for points in series.values() for number, value in points if value is not None]
    if not known:
        return None
    first, last = min(number for number, _ in known), max(number for number, _ in known)
    low, high, y_values = _nice(min(value for _, value in known), max(value for _, value in known))

    def place(number: int, value: float) -> tuple[str, str]:
        across = 0.5 if last == first else (number - first) / (last - first)
        x = LEFT + across * (WIDTH - LEFT - RIGHT)
        y = TOP + (high - value) / (high - low) * (HEIGHT - TOP - BOTTOM)
        return f"{x:.1f}", f"{y:.1f}"

    lines = tuple(_line(site.name, index, series[site.name], place) for index, site in enumerate(sites))
    step = y_values[1] - y_values[0]
    digits = next(number for number in range(12) if abs(round(step, number) - step) < 1e-6 * step)
    return Curves(
        key=key,
        title=title,
        unit=unit,
        lines=tuple(line for line in lines if line.markers),
        x_ticks=tuple(Tick(float(place(number, low)[0]), str(number)) for number in _rounds(first, last)),
        y_ticks=tuple(Tick(float(place(first, value)[1]), f"{value:.{digits}f}") for value in y_values),
        words=_words(series, title=title, unit=unit),
    )


def strip(site: SiteView) -> tuple[StripCell, ...]:
    """The last rounds of a site, oldest first: 8 units a round."""
    return tuple(
        StripCell(8.0 * index, entry.outcome) for index, entry in enumerate(site.rounds[-STRIP_ROUNDS:])
    )


def _line(
    name: str,
    index: int,
    points: Sequence[tuple[int, float | None]],
    place: Callable[[int, float], tuple[str, str]],
) -> Line:
    pieces: list[list[tuple[str, str]]] = [[]]
    for number, value in points:
        if value is None:
            pieces.append([])
        else:
            pieces[-1].append(place(number, value))
    placed = [point for piece in pieces for point in piece]
    every = max(1, math.ceil(len(placed) / MAX_MARKERS))
    alone = [piece[0] for piece in pieces if len(piece) == 1]  # else nothing would be drawn of them
    markers = dict.fromkeys([*placed[(len(placed) - 1) % every :: every], *alone])
    return Line(
        name=name,
        style=index % N_STYLES,
        dashed=index >= N_STYLES,
        pieces=tuple(" ".join(",".join(point) for point in piece) for piece in pieces if len(piece) > 1),
        markers=tuple(markers),
    )


def _thinned(rounds: Sequence[Figures]) -> list[Figures]:
    every = math.ceil(len(rounds) / MAX_POINTS) or 1
    return [entry for index, entry in enumerate(rounds) if (len(rounds) - 1 - index) % every == 0]


def _nice(low: float, high: float) -> tuple[float, float, list[float]]:
    """An axis that holds both ends, and three to six round values on it."""
    if high - low < FLAT * max(abs(low), abs(high), 1.0):
        half = max(0.05 * abs(low), 1e-4)
        low, high = low - half, high + half
    rough = (high - low) / 4
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough)
    start, end = math.floor(low / step), math.ceil(high / step)
    return start * step, end * step, [step * number for number in range(start, end + 1)]


def _rounds(first: int, last: int) -> list[int]:
    """At most six round numbers, the last among them."""
    every = math.ceil((last - first) / 5) or 1
    return sorted({last - every * number for number in range((last - first) // every + 1)})


def _words(series: dict[str, list[tuple[int, float | None]]], *, title: str, unit: str) -> str:
    parts = []
    for name, points in series.items():
        told = [(number, value) for number, value in points if value is not None]
        if not told:
            parts.append(f"{name}: nothing yet")
        elif len(told) == 1:
            parts.append(f"{name}: {told[0][1]:.4g}{unit} in round {told[0][0]}")
        else:
            (first, begins), (last, ends) = told[0], told[-1]
            parts.append(f"{name}: {begins:.4g}{unit} in round {first}, {ends:.4g}{unit} in round {last}")
    return f"{title}, by round and site. {'; '.join(parts)}."
