"""A run's report draws six charts, four fifths of the time of a run over sites that do not train.

Nine of ten tests that run a federation ask nothing of its charts. For them each chart is drawn once a process, by the
real code, and stands in the further reports too; the rest of a report is each run's own. Tests that look at a report
carry the mark `charts`, and theirs are drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from unittest import mock

from minet_core.report import render
from minet_core.report.charts import Chart, round_chart, score_chart

_drawn: dict[str, Chart] = {}


def _once(draw: Callable[..., Chart | None]) -> Callable[..., Chart | None]:
    def drawn(*arguments: object, title: str, **options: object) -> Chart | None:
        if title not in _drawn:
            chart = draw(*arguments, title=title, **options)
            if chart is None:
                return None
            _drawn[title] = chart
        return _drawn[title]

    return drawn


@contextmanager
def repeated_charts() -> Iterator[None]:
    """Within it, a chart of a title is drawn once."""
    with (
        mock.patch.object(render, "score_chart", _once(score_chart)),
        mock.patch.object(render, "round_chart", _once(round_chart)),
    ):
        yield
