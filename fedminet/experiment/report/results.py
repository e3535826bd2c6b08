"""The cells of an experiment that are done, and what is asked of them: scores, their means, differences of pairs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set

import numpy as np
from numpy.typing import NDArray

from fedminet.experiment.analysis.statistics import (
    Key,
    Scores,
    estimate,
    holm,
    mean,
    paired_differences,
    paired_p,
)
from fedminet.experiment.cells import Cell
from fedminet.experiment.methods import METHODS, is_learned
from fedminet.experiment.scores import PatientScores
from fedminet.experiment.study import MODES, Mode

Score = Callable[[PatientScores], float | None]

BEST = "minet"
"""The method that the paper has first, and that the others are compared with."""

LEVEL = 0.05
"""A corrected p below it has a star."""


def score_named(name: str) -> Score:
    return lambda patient: getattr(patient, name)


SCORE_COLUMNS = (
    *("mode", "method", "scale", "seed", "member", "site", "patient"),
    *("psnr_db", "ssim", "nmse"),
)


def score_rows(cells: Iterable[Cell]) -> Iterator[tuple[str, ...]]:
    """One row for each patient of each cell, under `SCORE_COLUMNS`. patient: the number in the order of the cell."""
    for cell in cells:
        for site, patients in cell.sites.items():
            for number, patient in enumerate(patients, start=1):
                key = (cell.mode, cell.method, cell.scale, cell.seed, cell.member or "", site, number)
                scores = (patient.psnr_db, patient.ssim, patient.nmse)
                yield (*map(str, key), *(f"{score:.6g}" for score in scores))


class Results:
    """The cells that are done, by what they are asked for. same_patients: whether every seed has the same ones."""

    def __init__(
        self, cells: Iterable[Cell], *, sites: Sequence[str], methods: Sequence[str], same_patients: bool
    ) -> None:
        self.cells, self.same_patients = list(cells), same_patients
        self.sites, self.methods = tuple(sites), tuple(methods)

    @property
    def kind(self) -> str:
        """What was measured on, as a table's title has it."""
        return "scans" if self.same_patients else "phantoms"

    def scores(
        self, method: str, site: str, *, scale: int, mode: Mode, score: Score
    ) -> dict[int, list[float]]:
        """By seed, the score of each test patient of `site`, NaN for one who has none; a method of interpolation has
        one mode. No seed where nobody has a score."""
        mode = mode if is_learned(method) else "federated"
        found: dict[int, list[float]] = {}
        for cell in self.cells:
            if (cell.method, cell.scale, cell.mode) != (method, scale, mode) or site not in cell.sites:
                continue
            values = [score(patient) for patient in cell.sites[site]]
            if any(value is not None for value in values):
                found[cell.seed] = [float("nan") if value is None else value for value in values]
        return dict(sorted(found.items()))

    def text(self, scores: Scores, *, decimals: int, interval: bool = True) -> str:
        """ "36.21 [35.90, 36.48]", or nothing where there is no score."""
        if not scores:
            return ""
        if not interval:
            return f"{mean(scores):.{decimals}f}"
        found = estimate(scores, same_patients=self.same_patients)
        if found.low is None:
            return f"{found.mean:.{decimals}f}"
        return f"{found.mean:.{decimals}f} [{found.low:.{decimals}f}, {found.high:.{decimals}f}]"

    def differences(
        self, mine: str, other: str, site: str, *, scale: int, score: Score
    ) -> NDArray[np.float64]:
        """What a method scores over another in the main mode, patient by patient."""
        first, second = (
            self.scores(method, site, scale=scale, mode=self.main_mode(), score=score)
            for method in (mine, other)
        )
        return paired_differences(first, second, same_patients=self.same_patients)

    def between_modes(
        self, method: str, site: str, mine: Mode, other: Mode, *, scale: int, score: Score
    ) -> NDArray[np.float64]:
        """What a method scores over itself trained in another way, patient by patient."""
        first, second = (
            self.scores(method, site, scale=scale, mode=mode, score=score) for mode in (mine, other)
        )
        return paired_differences(first, second, same_patients=self.same_patients)

    def seeds(self) -> set[int]:
        return {cell.seed for cell in self.cells}

    def label(self, method: str, *, scale: int, mode: Mode) -> str:
        """The method's name; with its seeds where it has not all that the others have, at every site."""
        mode = mode if is_learned(method) else "federated"
        of_mode = [cell for cell in self.cells if (cell.scale, cell.mode) == (scale, mode)]
        members: dict[int, set[str | None]] = {}
        for cell in of_mode:
            if cell.method == method:
                members.setdefault(cell.seed, set()).add(cell.member)
        every = {cell.member for cell in of_mode if is_learned(cell.method) == is_learned(method)}
        seeds = {seed for seed, there in members.items() if there == every}
        label = METHODS[method].label
        if members and not seeds:
            return f"{label} (not at every site)"
        return label + self.of_seeds(seeds)

    def of_seeds(self, seeds: Set[int]) -> str:
        """Which seeds a figure is of, where these are not all; nothing where there is none."""
        if not seeds or seeds == self.seeds():
            return ""
        return f" (of seeds {', '.join(map(str, sorted(seeds)))} only)"

    def scales(self) -> list[int]:
        return sorted({cell.scale for cell in self.cells})

    def modes(self) -> list[Mode]:
        there = {cell.mode for cell in self.cells if is_learned(cell.method)}
        return [mode for mode in MODES if mode in there]

    def main_mode(self) -> Mode:
        """The first way of training that has cells: what the main tables are of."""
        return next(iter(self.modes()), "federated")


def difference_texts(differences: Mapping[Key, NDArray[np.float64]], *, decimals: int = 2) -> dict[Key, str]:
    """By comparison, "+0.52 (p 0.004)*": the p where there are patients enough, the star where it is below `LEVEL`
    after Holm's correction for all of these comparisons; nothing where there is no pair."""
    found = {key: paired_p(of_patients) for key, of_patients in differences.items()}
    corrected = holm({key: p for key, p in found.items() if p is not None})
    return {
        key: f"{of_patients.mean():+.{decimals}f}{_p_text(found[key], corrected.get(key))}"
        if len(of_patients)
        else ""
        for key, of_patients in differences.items()
    }


def _p_text(p: float | None, corrected: float | None) -> str:
    if p is None or corrected is None:
        return ""
    return f" (p {p:.3f})" + ("*" if corrected < LEVEL else "")
