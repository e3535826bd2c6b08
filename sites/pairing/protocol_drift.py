"""Protocol drift: chosen series whose figures depart from the site's definition, or from the median of the others.

A scanner's software update changes a protocol for all later patients, and a physicist for some; neither is wrong, and a
model that is trained on both should be known to be. So it is said with the figures, and refused only where the site
asks for that.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from minet_core.errors import ProtocolDrifted
from sites.pairing.series_choice import Role, SeriesScan
from sites.settings.protocol_settings import ProtocolSettings, SeriesProtocol
from sites.store.kept_figures import Figures

SeriesByRole = Mapping[Role, SeriesScan]
"""The series of one study."""
ROLES: tuple[Role, ...] = ("target", "reference")
SHOWN = 3


@dataclass(frozen=True)
class Drift:
    """One figure of some studies. value, expected: None where it is not said. by: what it was compared with.

    labels: of the studies. n_studies: of all that were compared. n_kept: of the store, which the median is of besides.
    """

    role: Role
    fact: str
    unit: str
    value: float | None
    expected: float | None
    by: Literal["site.yaml", "the median"]
    tolerance: float
    labels: tuple[str, ...]
    n_studies: int
    n_kept: int = 0

    @property
    def basis(self) -> str:
        """What it was compared with, for people."""
        return f"{self.by} with {self.n_kept} of the store" if self.n_kept else self.by

    @property
    def clause(self) -> str:
        """The figure beside the expected one, as a part of a sentence."""
        value, expected, _ = self.figures()
        return f"{self.role} {self.fact} {value}, {expected} by {self.basis}"

    def figures(self) -> tuple[str, str, str]:
        """The figure, the expected one, and the difference, for people.

        Returns
        -------
        tuple[str, str, str]
            With units; "not said" for what is missing.
        """
        said = [
            "not said" if one is None else f"{one:.6g} {self.unit}".strip()
            for one in (self.value, self.expected)
        ]
        if self.value is None or not self.expected:
            return said[0], said[1], ""
        return said[0], said[1], f"{(self.value / self.expected - 1) * 100:+.3g} %"

    def as_text(self) -> str:
        """One sentence with the figures."""
        value, expected, difference = self.figures()
        off = f", {difference}" if difference else ""
        where = f"{len(self.labels)} of {self.n_studies} studies"
        return (
            f"{ProtocolDrifted.code}: {self.role} {self.fact} {value} in {where}, {expected} by {self.basis}{off} "
            f"(tolerance {self.tolerance * 100:g} %): {self.names(SHOWN)}"
        )

    def names(self, at_most: int) -> str:
        """The first studies, by their labels.

        Parameters
        ----------
        at_most
            How many are named.

        Returns
        -------
        str
            With "..." where there are more.
        """
        return ", ".join(self.labels[:at_most]) + (", ..." if len(self.labels) > at_most else "")


def figures_of(series: SeriesByRole) -> Figures:
    """The figures of a study's series.

    Parameters
    ----------
    series
        By role.

    Returns
    -------
    Figures
        By role and name.
    """
    return {
        role: {fact: of_scan(series[role]) for fact, (_, of_scan, _) in FIGURES.items()}
        for role in ROLES
        if role in series
    }


def find_drifts(
    studies: Mapping[str, Figures], settings: ProtocolSettings, *, others: Sequence[Figures] = ()
) -> list[Drift]:
    """What departs from the site's definition, or where that says nothing from the median.

    Parameters
    ----------
    studies
        By label of a study, as `figures_of` gives it.
    settings
        The site's.
    others
        Studies that are not judged, and that the median is of besides.

    Returns
    -------
    list[Drift]
        One for each figure and contrast, with all studies that have it; the most frequent first.
    """
    if settings.tolerance is None:
        return []
    drifts = []
    for role, definition in ((role, getattr(settings, role)) for role in ROLES):
        for fact, (unit, _, of_definition) in FIGURES.items():
            values = {label: one[role][fact] for label, one in studies.items() if role in one}
            kept = [one[role][fact] for one in others if fact in one.get(role, {})]
            given = of_definition(definition)
            if given is None and len(values) + len(kept) < settings.min_series:
                continue
            expected = _median([*values.values(), *kept]) if given is None else given
            groups: dict[float | None, list[str]] = defaultdict(list)
            for label, value in values.items():
                if _differs(value, expected, settings.tolerance):
                    groups[None if value is None else float(f"{value:.4g}")].append(label)
            drifts += [
                Drift(
                    role=role,
                    fact=fact,
                    unit=unit,
                    value=value,
                    expected=expected,
                    by="the median" if given is None else "site.yaml",
                    tolerance=settings.tolerance,
                    labels=tuple(labels),
                    n_studies=len(values),
                    n_kept=len(kept) if given is None else 0,
                )
                for value, labels in groups.items()
            ]
    return sorted(drifts, key=lambda drift: -len(drift.labels))


def protocol_lines(chosen: Mapping[str, SeriesByRole]) -> list[str]:
    """The medians of the chosen series, to be copied into a site's definition.

    Parameters
    ----------
    chosen
        By label of a study, its series.

    Returns
    -------
    list[str]
        One line a contrast; none without a study.
    """
    lines = []
    for role in ROLES if chosen else ():
        medians = {
            fact: _median(of_scan(one[role]) for one in chosen.values())
            for fact, (_, of_scan, _) in FIGURES.items()
        }
        said = [
            f"{fact} {value:.6g} {FIGURES[fact][0]}".strip()
            for fact, value in medians.items()
            if value is not None
        ]
        lines.append(f"median of {len(chosen)} {role}s: {', '.join(said)}")
    return lines


def only_of(drifts: Iterable[Drift], labels: Iterable[str]) -> tuple[Drift, ...]:
    """Drifts of some studies alone.

    Parameters
    ----------
    drifts
        As `find_drifts` gives them.
    labels
        Of the studies to keep.

    Returns
    -------
    tuple[Drift, ...]
        Without those of which no study is left.
    """
    kept = set(labels)
    cut = [replace(one, labels=tuple(label for label in one.labels if label in kept)) for one in drifts]
    return tuple(one for one in cut if one.labels)


def _median(values: Iterable[float | None]) -> float | None:
    """The lower median; None where most say nothing."""
    given = sorted(math.inf if value is None else value for value in values)
    middle = statistics.median_low(given) if given else math.inf
    return None if middle == math.inf else middle


def _differs(value: float | None, expected: float | None, tolerance: float) -> bool:
    if value is None or expected is None:
        return value is not expected
    return abs(value - expected) > tolerance * abs(expected) * (1 + 1e-9)


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1000


def _edge(place: int) -> Callable[[SeriesScan], float | None]:
    return lambda scan: float(sorted(scan.shape, reverse=True)[place]) or None


def _edge_given(place: int) -> Callable[[SeriesProtocol], float | None]:
    return lambda given: None if given.matrix is None else float(sorted(given.matrix, reverse=True)[place])


FIGURES: dict[
    str, tuple[str, Callable[[SeriesScan], float | None], Callable[[SeriesProtocol], float | None]]
] = {
    "TE": (
        "ms",
        lambda one: _milliseconds(one.facts.echo_time_s),
        lambda one: _milliseconds(one.echo_time_s),
    ),
    "TR": (
        "ms",
        lambda one: _milliseconds(one.facts.repetition_time_s),
        lambda one: _milliseconds(one.repetition_time_s),
    ),
    "TI": (
        "ms",
        lambda one: _milliseconds(one.facts.inversion_time_s),
        lambda one: _milliseconds(one.inversion_time_s),
    ),
    "flip angle": ("degrees", lambda one: one.facts.flip_angle_deg, lambda one: one.flip_angle_deg),
    "field strength": ("T", lambda one: one.facts.field_strength_t, lambda one: one.field_strength_t),
    "slice spacing": (
        "mm",
        lambda one: None if one.spacing_mm is None else one.spacing_mm[0],
        lambda one: one.slice_spacing_mm,
    ),
    "matrix, longer edge": ("px", _edge(0), _edge_given(0)),
    "matrix, shorter edge": ("px", _edge(1), _edge_given(1)),
}
"""By name: the unit, the figure of a series, and that of a definition."""


def drift_lines(drifts: Sequence[Drift]) -> list[str]:
    """Every drift for a person.

    Parameters
    ----------
    drifts
        As `find_drifts` gives them.

    Returns
    -------
    list[str]
        A line each.
    """
    return [f"  {drift.as_text()}" for drift in drifts]
