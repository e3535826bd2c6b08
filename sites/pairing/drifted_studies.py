"""What becomes of studies that depart from the protocol: it is said, or they are refused."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from minet_core.errors import ProtocolDrifted
from sites.pairing.candidates import Found
from sites.pairing.protocol_drift import SeriesByRole, figures_of, find_drifts
from sites.settings.protocol_settings import ProtocolSettings
from sites.store.kept_figures import FILE, KeptFigures

UNREADABLE = f"the store's {FILE} is damaged: protocols are compared with the median of this ingest alone"
"""The remark on it."""


def note_drift(
    found: Found,
    chosen: Mapping[str, SeriesByRole],
    settings: ProtocolSettings,
    *,
    kept: KeptFigures | None = None,
) -> None:
    """Say what departs from the protocol; refuse such studies where the site asks for that.

    Parameters
    ----------
    found
        Its figures and drifts are set, and candidates may become refusals (FM-D222).
    chosen
        By label of a candidate, its series.
    settings
        The site's.
    kept
        What the store's series were acquired with; their figures count for the median.
    """
    found.figures = {label: figures_of(series) for label, series in chosen.items()}
    if kept is not None and not kept.readable:
        found.remarks.append(UNREADABLE)
    others = [] if kept is None else kept.without(chosen)
    found.drifts = find_drifts(found.figures, settings, others=others)
    if settings.on_drift == "remark":
        return
    drifted: dict[str, list[str]] = defaultdict(list)
    for drift in found.drifts:
        for label in drift.labels:
            drifted[label].append(drift.clause)
    for label, clauses in drifted.items():
        failure = ProtocolDrifted(
            "a study departs from the site's protocol",
            got="; ".join(clauses),
            expected=f"within {(settings.tolerance or 0) * 100:g} %",
            action="See protocol in site.yaml: give another definition, or on_drift: remark",
        )
        found.refuse(label, failure)
    found.candidates[:] = [one for one in found.candidates if one.label not in drifted]
