"""Whether `onboarding.html` is of an ingest already: it begins with a digest of what it was drawn from.

Nothing large is imported: an ingest that finds nothing changed leaves the page as it is.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

from sites.ingest_report import IngestReport
from sites.processing import VERSION
from sites.settings.site_settings import SiteSettings

FILE = "onboarding.html"
MARK_BYTES = 256
"""Of the page's beginning, where its mark is."""


def mark_of(report: IngestReport, settings: SiteSettings) -> str:
    """A digest of all that the page shows, and of the version that draws it.

    Parameters
    ----------
    report
        What came of an ingest.
    settings
        The site's.

    Returns
    -------
    str
        Hexadecimal; neither how long it took nor what was there before counts.
    """
    content = {
        "version": VERSION,
        "settings": settings.model_dump(mode="json"),
        "cohort": report.cohort.digest,
        "accepted": sorted(one.file for one in report.accepted),
        "refused": [(one.code, one.label, one.message) for one in report.refused],
        "ignored": len(report.ignored),
        "remarks": list(report.remarks),
        "drifts": [dataclasses.asdict(one) for one in report.drifts],
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def is_drawn(report: IngestReport, settings: SiteSettings, path: Path) -> bool:
    """Whether a page shows an ingest.

    Parameters
    ----------
    report
        What came of the ingest.
    settings
        The site's.
    path
        The page.

    Returns
    -------
    bool
        False where it is not there.
    """
    try:
        with path.open("rb") as page:
            return mark_of(report, settings).encode() in page.read(MARK_BYTES)
    except OSError:
        return False
