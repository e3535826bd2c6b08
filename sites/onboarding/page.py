"""`onboarding.html`: one page without a link, a script or a name, for the site alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, select_autoescape

from minet_core.runtime.files.atomic_write import write_private
from sites.ingest_report import IngestReport, causes_of
from sites.onboarding.drawn import FILE, mark_of
from sites.onboarding.thumbnail import RIM_MM, thumbnails
from sites.settings.site_settings import SiteSettings
from sites.store.cohort import PairRecord
from sites.store.split import SPLITS
from sites.store.store import Store

MAX_PICTURES = 12
MAX_ROWS = 500
MAX_NAMES = 5
N_BINS = 16


@dataclass(frozen=True)
class Distribution:
    """One figure over the pairs. bars: heights, 0 to 1. limit: where in the picture the site's limit lies, 0 to 1."""

    title: str
    unit: str
    low: str
    high: str
    n: int
    bars: tuple[float, ...]
    limit: float | None
    limit_text: str


def write_page(report: IngestReport, store: Path, settings: SiteSettings, path: Path) -> None:
    """Write the page of an ingest.

    Parameters
    ----------
    report
        What came of it.
    store
        The folder of the store; one slice of up to `MAX_PICTURES` pairs is read.
    settings
        The site's.
    path
        The page, readable by its owner alone.

    Raises
    ------
    StoreDamaged, FileNotWritten
        A pair cannot be read, or the page not be written.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=select_autoescape(["html"]),
        trim_blocks=True,
    )
    page = environment.get_template(FILE).render(**_content(report, Store(store), settings))
    write_private(path, page.encode())


def _content(report: IngestReport, store: Store, settings: SiteSettings) -> dict[str, Any]:
    cohort = report.cohort
    pairs = list(cohort.pairs)
    chosen = [
        pairs[index]
        for index in np.unique(np.linspace(0, len(pairs) - 1, min(len(pairs), MAX_PICTURES)).round()).astype(
            int
        )
    ]
    keyed = settings.reader == "dicom"  # else labels and messages are paths, which may name a patient
    return {
        "mark": mark_of(report, settings),
        "settings": settings,
        "cohort": cohort,
        "report": report,
        "rim_mm": RIM_MM,
        "pictures": [(pair, cohort.patients[pair.patient], thumbnails(store, pair)) for pair in chosen],
        "causes": causes_of(report.refused),
        "refused": [(one.label, one.message) for one in report.refused[:MAX_ROWS]] if keyed else [],
        "left_out": report.remarks if keyed else (),
        "drifts": [(one, *one.figures(), one.names(MAX_NAMES) if keyed else "") for one in report.drifts],
        "splits": [(split, cohort.counts[split]) for split in SPLITS],
        "rows": pairs[:MAX_ROWS],
        "distributions": distributions(pairs, settings),
        "remarks": cohort.remarks(),
    }


def distributions(pairs: Sequence[PairRecord], settings: SiteSettings) -> list[Distribution]:
    """The gate's figures over the pairs.

    Parameters
    ----------
    pairs
        Of a cohort.
    settings
        The site's, for the limits.

    Returns
    -------
    list[Distribution]
        Those that at least one pair has.
    """
    limits, registration = settings.quality, settings.registration
    asked: list[tuple[str, str, Callable[[PairRecord], float | None], float | None]] = [
        ("Error of the registration", "pixels", lambda pair: pair.residual_px, registration.max_error_px),
        ("Blocks that agree", "share", lambda pair: pair.agreement, registration.min_agreement),
        ("Frequencies held in the plane", "share", _in_plane, limits.min_occupied),
    ]
    for role in ("target", "reference"):
        asked += [
            (f"Signal-to-noise ratio, {role}", "", _signal(role, "snr"), limits.min_snr),
            (f"Ghosting, {role}", "share", _signal(role, "ghosting"), limits.max_ghosting),
            (f"Saturated, {role}", "share", _signal(role, "saturated"), limits.max_saturated),
            (f"Anatomy on the edge, {role}", "share", _signal(role, "cut_off"), limits.max_cut_off),
            (f"Motion between slices, {role}", "pixels", _signal(role, "shift_px"), limits.max_shift_px),
        ]
    found = []
    for title, unit, value, limit in asked:
        values = [one for one in map(value, pairs) if one is not None]
        if values:
            found.append(_distribution(title, unit, values, limit))
    return found


def _in_plane(pair: PairRecord) -> float | None:
    return None if pair.quality is None else pair.quality.in_plane


def _signal(role: str, name: str) -> Callable[[PairRecord], float | None]:
    def value(pair: PairRecord) -> float | None:
        signal = getattr(pair.quality, f"{role}_signal", None)
        return None if signal is None else getattr(signal, name)

    return value


def _distribution(title: str, unit: str, values: Sequence[float], limit: float | None) -> Distribution:
    ends = [*values, *([] if limit is None else [limit])]
    low, high = min(0.0, *ends), max(ends) or 1.0
    counts, _ = np.histogram(values, bins=N_BINS, range=(low, high))
    return Distribution(
        title=title,
        unit=unit,
        low=f"{low:.3g}",
        high=f"{high:.3g}",
        n=len(values),
        bars=tuple(float(count) for count in counts / counts.max()),
        limit=None if limit is None else (limit - low) / (high - low),
        limit_text="" if limit is None else f"{limit:g}",
    )
