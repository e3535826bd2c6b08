"""The one picture of `experiment worth`: how much better a site's images are than by its own model alone."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from minet_core.runtime.files.atomic_write import replacing

SITE_WORDS = {"sms": "brain\n(sms)", "umr": "brain\n(umr)", "fastmri": "knee\n(fastmri)"}
GAIN, LOSS, NEITHER = "#2f6f9f", "#b5483a", "#8c8c8c"
PIXELS_PER_INCH = 110

Gains = Mapping[int, Mapping[str, Sequence[float]]]
"""By training patients, by site, one gain in dB for each federation that was trained."""


def draw_gains(path: Path, gains: Gains, *, wanted_db: Mapping[int, float], when: str) -> None:
    """Write the picture as a PNG. wanted_db: by training patients, what the project wants at least. when: a hospital
    gains what is drawn."""
    figure = gains_figure(gains, wanted_db=wanted_db, when=when)
    FigureCanvasAgg(figure)
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=PIXELS_PER_INCH, metadata={"Software": None})
    with replacing(path) as temporary:
        temporary.write_bytes(drawn.getvalue())


def gains_figure(gains: Gains, *, wanted_db: Mapping[int, float], when: str) -> Figure:
    """A panel for each number of patients; a bar for each site, its mean; a dot for each federation."""
    figure = Figure(figsize=(1.0 + 3.2 * max(len(gains), 2), 4.4), layout="constrained")
    panels = figure.subplots(1, len(gains), sharey=True, squeeze=False)[0]
    for panel, (n_patients, sites) in zip(panels, sorted(gains.items()), strict=True):
        _draw_panel(panel, sites, wanted_db=wanted_db.get(n_patients))
        wanted = f"\n(dashed: {wanted_db[n_patients]:g} dB is wanted)" if n_patients in wanted_db else ""
        panel.set_title(
            f"{n_patients} own patient{'s' if n_patients > 1 else ''} to learn from{wanted}", fontsize=11
        )
    panels[0].set_ylabel("above the hospital's own model, dB (PSNR)")
    figure.suptitle(
        f"What a hospital's images gain when {when}\n(bar: mean; dot: one federation)", fontsize=12
    )
    return figure


def _draw_panel(panel: Axes, sites: Mapping[str, Sequence[float]], *, wanted_db: float | None) -> None:
    for place, values in enumerate(sites.values()):
        mean = float(np.mean(values))
        shown = round(mean, 1)
        colour = NEITHER if shown == 0 else GAIN if mean > 0 else LOSS
        panel.bar(place, mean, width=0.6, color=colour, zorder=2)
        panel.plot([place] * len(values), values, "o", color="black", markersize=4, zorder=3)
        panel.annotate(
            f"{shown:+.1f}" if shown else "0.0",
            (place, max(0.0, *values)),
            xytext=(0, 6),
            textcoords="offset points",
            ha="center",
            fontsize=11,
            zorder=4,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8},
        )
    if wanted_db is not None:
        panel.axhline(wanted_db, color="grey", linestyle="--", linewidth=1.2, zorder=2.5)
    panel.axhline(0, color="black", linewidth=0.8)
    panel.set_xticks(range(len(sites)), [SITE_WORDS.get(site, site) for site in sites])
    panel.margins(y=0.18)
    for side in ("top", "right"):
        panel.spines[side].set_visible(False)
