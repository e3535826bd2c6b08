"""The screen's HTML. Everything that comes from a record is escaped; no page loads anything from elsewhere."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import jinja2
from markupsafe import Markup

from minet_core.report.wording import (
    KEPT_WORDS,
    code_meaning,
    count_text,
    duration_text,
    gain_text,
    size_text,
)
from minet_core.settings.adaptation import CANDIDATES
from server.dashboard import wording
from server.dashboard.curves import HEIGHT, LEFT, N_STYLES, RIGHT, STRIP_ROUNDS, TOP, WIDTH, curves, strip
from server.dashboard.node_presence import Sighting
from server.dashboard.run_reader import RunEntry
from server.dashboard.run_view import RunView

TABLE_ROUNDS = 20
QUARANTINES_SHOWN = 30
EVENTS_SHOWN = 40
RUNS_IN_MENU = 6


@dataclass(frozen=True)
class Reader:
    """Who looks at a page. may_control: whether the dashboard allows control at all."""

    may_control: bool = False
    logged_in: bool = False
    csrf: str = ""


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("server.dashboard"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {
        "words": wording,
        "code_meaning": code_meaning,
        "count_text": count_text,
        "duration_text": duration_text,
        "gain_text": gain_text,
        "kept_words": KEPT_WORDS,
        "candidates": CANDIDATES,
        "size_text": size_text,
        "strip": strip,
        "strip_rounds": STRIP_ROUNDS,
        "n_styles": N_STYLES,
        "chart": {"width": WIDTH, "height": HEIGHT, "left": LEFT, "right": WIDTH - RIGHT, "top": TOP},
    }
    environment.filters["moment"] = moment
    environment.filters["clock"] = clock
    return environment


def moment(value: datetime.datetime) -> Markup:
    """A moment in UTC; the page's script adds how long ago it was."""
    utc = value.astimezone(datetime.UTC)
    return Markup('<time datetime="{}" data-ago>{}</time>').format(
        utc.isoformat(timespec="seconds"), utc.strftime("%Y-%m-%d %H:%M:%S UTC")
    )


def clock(value: datetime.datetime) -> Markup:
    """The same, without its day, for a list that is read in order."""
    utc = value.astimezone(datetime.UTC)
    return Markup('<time datetime="{}" title="{}">{}</time>').format(
        utc.isoformat(timespec="seconds"), utc.strftime("%Y-%m-%d %H:%M:%S UTC"), utc.strftime("%H:%M:%S")
    )


_ENVIRONMENT = _environment()


def run_sections(view: RunView, sighting: Sighting | None, *, may_control: bool) -> dict[str, str]:
    """By name, the HTML of each part of the page of a run."""
    macros = _ENVIRONMENT.get_template("sections.html").module
    charts = [
        curves(
            view.sites,
            lambda entry: entry.psnr_db,
            key="psnr",
            title="Validation PSNR of the model a round begins with",
            unit=" dB",
        ),
        curves(
            view.sites,
            lambda entry: entry.train_loss,
            key="loss",
            title="Training loss, mean of a round",
            unit="",
        ),
    ]
    content = {
        "status": macros.status(view, may_control),  # type: ignore[attr-defined]
        "sites": macros.sites(view, sighting),  # type: ignore[attr-defined]
        "curves": macros.curves(view, [chart for chart in charts if chart], TABLE_ROUNDS),  # type: ignore[attr-defined]
        "results": macros.results(view),  # type: ignore[attr-defined]
        "quarantine": macros.quarantine(view, QUARANTINES_SHOWN),  # type: ignore[attr-defined]
        "log": macros.log(view, EVENTS_SHOWN),  # type: ignore[attr-defined]
    }
    return {name: str(html).strip() for name, html in content.items()}


def run_page(view: RunView, sections: Mapping[str, str], runs: Sequence[RunEntry], reader: Reader) -> str:
    """The page of a run; works without its script, and as it stood when it was asked for."""
    safe = {name: Markup(html) for name, html in sections.items()}  # noqa: S704  made by the templates above
    return _page("run.html", view=view, sections=safe, runs=runs, menu=_menu(runs, view.name), reader=reader)


def runs_page(runs: Sequence[RunEntry], reader: Reader) -> str:
    """The list of all runs, the newest first; also what is shown where there is none."""
    return _page("runs.html", runs=runs, menu=(), reader=reader)


def control_page(
    view: RunView, reader: Reader, *, failure: str | None = None, done: str | None = None
) -> str:
    """Stop or resume, for who is logged in."""
    return _page("control.html", view=view, reader=reader, failure=failure, done=done, menu=())


def login_page(reader: Reader, *, run: str, failure: str | None = None) -> str:
    """The login form. run: where to go afterwards."""
    return _page("login.html", reader=reader, run=run, failure=failure, menu=())


def message_page(reader: Reader, *, title: str, text: str) -> str:
    """A page that says one thing."""
    return _page("message.html", reader=reader, title=title, text=text, menu=())


def page_title(view: RunView) -> str:
    """What the browser's tab says of a run."""
    state = view.state
    return f"{state.status}, {state.round} of {state.rounds} rounds: {view.name}"


def announcement(event: Mapping[str, object]) -> str | None:
    """What is read out of an event; None for those that come with every reply."""
    quiet = ("reply-accepted", "round-started", "cohort-declared", "test-received", "run-submitted")
    return None if event["event"] in quiet else wording.event_words(event)


def _menu(runs: Sequence[RunEntry], shown: str) -> tuple[RunEntry, ...]:
    """The newest runs, and the one that is shown."""
    newest = tuple(runs[:RUNS_IN_MENU])
    return (
        newest
        if any(run.name == shown for run in newest)
        else (*newest, *(run for run in runs if run.name == shown))
    )


def _page(template: str, **values: object) -> str:
    return _ENVIRONMENT.get_template(template).render(**values)
