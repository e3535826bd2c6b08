"""Of each site, how its updates agreed with the others' and how the model did on its patients, over a whole run.

A run of thousands of rounds has a long metrics.jsonl: what lies far back is read once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from server.runs.run_directory import RunDirectory

SCORE = "psnr_db"
"""The validation score by which sites are said to be worse off."""

MAY_CHANGE_ROUNDS = 10
"""Last rounds that are read anew each time: a round that is rolled back is made again, and no more than one at once."""


@dataclass
class SiteFigures:
    """Of one site, oldest round first. agreements: cosines to the others' mean direction. scores: dB."""

    agreements: list[float] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)


@dataclass
class FiguresOfRun:
    """By site, the figures of a run's completed rounds."""

    _n_settled: int = 0
    _settled: dict[str, SiteFigures] = field(default_factory=dict)

    def of(self, run: RunDirectory) -> dict[str, SiteFigures]:
        """The figures of all rounds that are completed now; a round without a site has none of it.

        Raises RunDamaged (FM-S517).
        """
        done = run.state.round
        recent = run.rounds_recorded(last=max(done - self._n_settled, 0))
        recent = [record for record in recent if record["round"] > self._n_settled]
        settled = [record for record in recent if record["round"] <= done - MAY_CHANGE_ROUNDS]
        _add(settled, self._settled)
        self._n_settled += len(settled)
        found = {
            site: SiteFigures(list(one.agreements), list(one.scores)) for site, one in self._settled.items()
        }
        _add(recent[len(settled) :], found)
        return found


def _add(records: list[dict[str, Any]], found: dict[str, SiteFigures]) -> None:
    for record in records:
        for site, entry in record["sites"].items():
            figures = found.setdefault(site, SiteFigures())
            if "agreement" in entry:
                figures.agreements.append(entry["agreement"])
            if SCORE in entry.get("validation", {}):
                figures.scores.append(entry["validation"][SCORE])
