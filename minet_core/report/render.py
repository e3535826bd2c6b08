"""`report.html`: one file that shows a run to the people who decide about it.

It loads nothing and runs nothing: every image is in it, and its content security policy forbids scripts and
connections, so that a report can be mailed between hospitals.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2

from minet_core.report.charts import Chart, round_chart, score_chart
from minet_core.report.figures import colour_bar_uri, sheet_of
from minet_core.report.panel import Panel
from minet_core.report.summary import METRICS, Metric, Scores, SiteSummary, Summary, verdict
from minet_core.report.wording import (
    KEPT_WORDS,
    KIND_WORDS,
    STATUS_WORDS,
    architecture_text,
    code_meaning,
    count_text,
    difference_text,
    duration_text,
    gain_text,
    method_label,
    size_text,
    verdict_text,
)
from minet_core.runtime.files import atomic_write

DECIMALS: dict[Metric, int] = {"psnr_db": 2, "ssim": 4, "nmse": 5}


@dataclass(frozen=True)
class Figure:
    """A mean and its interval, as printed."""

    mean: str
    interval: str


@dataclass(frozen=True)
class MethodRow:
    """One method at one site."""

    label: str
    is_global: bool
    figures: tuple[Figure, ...]
    gain: str


@dataclass(frozen=True)
class Traffic:
    """What one site took and sent over the whole run."""

    site: str
    seconds: str
    up: str
    down: str


def write_report(path: Path, summary: Summary, *, panels: dict[str, Panel] | None = None) -> None:
    """Write `report.html` durably.

    Parameters
    ----------
    path
        Of the file; replaced where it is there.
    summary
        Of the run.
    panels
        By site, one slice that is shown. Pass phantoms anywhere, and a patient's slice only where the report stays at
        the site that owns it: the pixels are in the file.

    Raises
    ------
    DiskFull
        FM-S504, and the other failures of writing (`FileNotWritten`).
    """
    atomic_write.write_text(path, report_html(summary, panels=panels))


def report_html(summary: Summary, *, panels: dict[str, Panel] | None = None) -> str:
    """The report as text.

    Parameters
    ----------
    summary
        Of the run; every name in it is escaped.
    panels
        As in `write_report`.

    Returns
    -------
    str
        One HTML page that loads nothing.
    """
    judged = verdict(summary)
    return _template().render(
        summary=summary,
        architecture=architecture_text(summary.federation),
        sites=summary.all_sites(),
        started=summary.started.strftime("%Y-%m-%d %H:%M %Z").strip(),
        duration=duration_text(summary.seconds),
        status_words=STATUS_WORDS[summary.status],
        verdict_words=verdict_text(judged),
        beats=judged.beats_everywhere,
        kind_words=KIND_WORDS,
        kept_words=KEPT_WORDS,
        difference_text=difference_text,
        rows={name: _method_rows(site) for name, site in summary.all_sites().items()},
        score_charts=_present(
            score_chart(summary, "psnr_db", title="PSNR [dB], higher is better"),
            score_chart(summary, "ssim", title="SSIM, higher is better"),
        ),
        round_charts=_round_charts(summary),
        sheets={name: sheet_of(panel) for name, panel in (panels or {}).items()},
        colour_bar=colour_bar_uri(),
        traffic=_traffic(summary),
        all_aggregated=all(entry.aggregated for entry in summary.per_round),
        refusals=_refusals(summary),
        settings=_flattened(summary.federation),
        duration_text=duration_text,
        size_text=size_text,
        count_text=count_text,
    )


@functools.cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    source = (files("minet_core.report") / "template.html").read_text(encoding="utf-8")
    return environment.from_string(source)


def _method_rows(site: SiteSummary) -> tuple[MethodRow, ...]:
    methods = site.methods()
    sinc = methods.get("sinc")
    return tuple(
        MethodRow(
            label=method_label(method),
            is_global=method == "global",
            figures=tuple(_figure(site, method, scores, metric) for metric in METRICS),
            gain="" if sinc is None or method == "sinc" else gain_text(scores.psnr_db - sinc.psnr_db),
        )
        for method, scores in methods.items()
    )


def _figure(site: SiteSummary, method: str, scores: Scores, metric: Metric) -> Figure:
    digits = DECIMALS[metric]
    bounds = getattr(site.intervals.get(method), metric, None)
    interval = "" if bounds is None else f"{bounds[0]:.{digits}f} to {bounds[1]:.{digits}f}"
    return Figure(f"{getattr(scores, metric):.{digits}f}", interval)


def _round_charts(summary: Summary) -> tuple[Chart, ...]:
    return _present(
        round_chart(
            summary,
            lambda site: None if site.validation is None else site.validation.psnr_db,
            title="Validation PSNR [dB] of the model a round begins with",
            bars=False,
        ),
        round_chart(
            summary, lambda site: site.train_loss, title="Training loss, mean of a round", bars=False
        ),
        round_chart(summary, lambda site: site.seconds_to_reply, title="Seconds of a round", bars=True),
        round_chart(
            summary,
            lambda site: (site.bytes_up + site.bytes_down) / 1e6,
            title="Megabytes of a round, both directions",
            bars=True,
        ),
    )


def _present(*charts: Chart | None) -> tuple[Chart, ...]:
    return tuple(chart for chart in charts if chart is not None)


def _traffic(summary: Summary) -> tuple[Traffic, ...]:
    rows = []
    for name in summary.all_sites():
        entries = [entry.sites[name] for entry in summary.per_round if name in entry.sites]
        rows.append(
            Traffic(
                site=name,
                seconds=duration_text(sum(entry.seconds_to_reply or 0.0 for entry in entries)),
                up=size_text(sum(entry.bytes_up for entry in entries)),
                down=size_text(sum(entry.bytes_down for entry in entries)),
            )
        )
    return tuple(rows)


def _refusals(summary: Summary) -> tuple[tuple[int, str, str, str], ...]:
    """(round, site, code, meaning) of every reply that was refused, did not come, or was noted."""
    rows = []
    for entry in summary.per_round:
        for name in summary.all_sites():
            if name not in entry.sites:
                rows.append((entry.round, name, "no reply", "Nothing came before the round's deadline."))
            elif (code := entry.sites[name].refused) is not None:
                rows.append((entry.round, name, code, code_meaning(code)))
            if name in entry.sites:
                rows += [
                    (
                        entry.round,
                        name,
                        noted,
                        f"{code_meaning(noted)} It was noted, and a reply of the site counts.",
                    )
                    for noted in entry.sites[name].noted
                ]
    return tuple(rows)


def _flattened(settings: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested settings as dotted keys with printed values."""
    flat: dict[str, str] = {}
    for key, value in settings.items():
        if isinstance(value, dict):
            flat |= _flattened(value, f"{prefix}{key}.")
        else:
            listed = isinstance(value, list | tuple)
            flat[f"{prefix}{key}"] = ", ".join(map(str, value)) if listed else str(value)
    return flat
