"""A run's report draws six charts, four fifths of the time of a run over sites that do not train.

Nine of ten tests that run a federation ask nothing of its charts. For them each chart is drawn once a process, by the
real code, and stands in the further reports too; the rest of a report is each run's own. Tests that look at a report
carry the mark `charts`, and theirs are drawn. The picture of an experiment's images is repeated likewise.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
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


@functools.cache
def _picture(n_rows: int) -> list[bytes]:
    """The one of so many rows that was drawn, once there is one."""
    return []


def _picture_once(draw: Callable[..., None]) -> Callable[..., None]:
    def drawn(panels: list[object], path: Path) -> None:
        known = _picture(len(panels))
        if not known:
            draw(panels, path)
            known.append(path.read_bytes())
        path.write_bytes(known[0])

    return drawn


@contextmanager
def repeated_charts() -> Iterator[None]:
    """Within it, a chart of a title is drawn once."""
    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(render, "score_chart", _once(score_chart)))
        stack.enter_context(mock.patch.object(render, "round_chart", _once(round_chart)))
        if "fedminet.experiment.report.write_results" in sys.modules:  # else no test of this file has any
            from fedminet.experiment.report import figure3, write_results

            stack.enter_context(mock.patch.object(write_results, "draw", _picture_once(figure3.draw)))
        yield
