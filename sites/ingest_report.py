"""What came of an ingest, for the site's own eyes: labels and messages hold paths."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sites.pairing.candidates import Refusal
from sites.pairing.protocol_drift import Drift, drift_lines
from sites.store.cohort import Cohort, cohort_lines

SHOWN = 3


@dataclass(frozen=True)
class Accepted:
    """A pair that is in the store. `label` is for the site's own eyes."""

    label: str
    file: str
    residual_mm: float
    residual_px: float | None
    agreement: float | None
    resampled: bool
    reused: bool

    def fit_as_text(self) -> str:
        """How well the reference fits: the estimated error, and the share of blocks that are found in their place."""
        pixels = "" if self.residual_px is None else f" ({self.residual_px:.2f} pixels)"
        agreement = "" if self.agreement is None else f", {self.agreement:.0%} of the blocks agree"
        return f"within about {self.residual_mm:.2f} mm{pixels}{agreement}"


@dataclass(frozen=True)
class IngestReport:
    """What came of a folder. Stays at the site: labels and messages hold paths.

    mapping: by label of a pair, the patient it is taken for. drifts: what departs from the site's protocol. missing: by
    pseudonym, how many pairs of the store are not in the folder; removed: whether they were removed. made_anew:
    how many of the accepted pairs take the place of one that the store had.
    """

    accepted: tuple[Accepted, ...]
    refused: tuple[Refusal, ...]
    ignored: tuple[str, ...]
    cohort: Cohort
    seconds: float
    mapping: dict[str, str] = dataclasses.field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    drifts: tuple[Drift, ...] = ()
    missing: dict[str, int] = dataclasses.field(default_factory=dict)
    removed: bool = False
    made_anew: int = 0

    def as_json(self) -> dict[str, Any]:
        """The report as plain values.

        Returns
        -------
        dict[str, Any]
            The fields, with the cohort's digest and counts in the cohort's place, its remarks, and the causes of the
            refusals.
        """
        content = dataclasses.asdict(dataclasses.replace(self, cohort=None))  # type: ignore[arg-type]
        counts = {split: count.model_dump() for split, count in self.cohort.counts.items()}
        content |= {"cohort": self.cohort.digest, "counts": counts}
        content["remarks"] = [*self.remarks, *self.cohort.remarks()]
        content["causes"] = [dataclasses.asdict(cause) for cause in causes_of(self.refused)]
        return content

    def as_text(self) -> str:
        """The report for a person."""
        reused = sum(pair.reused for pair in self.accepted)
        seen = {pair.file: f"; {pair.quality.as_text()}" for pair in self.cohort.pairs if pair.quality}
        head = f"Accepted {len(self.accepted)} pairs"
        lines = [f"{head} ({reused} already there), refused {len(self.refused)}, in {self.seconds:.0f} s."]
        if self.made_anew:
            lines.append(
                f"{self.made_anew} of them the store had, and they were made anew: their scans, site.yaml or the "
                "release of fedminet changed since."
            )
        lines += [
            f"  {pair.label} -> {pair.file}: {pair.fit_as_text()}"
            + (", reference registered" if pair.resampled else "")
            + seen.get(pair.file, "")
            for pair in self.accepted
        ]
        lines += refusal_lines(self.refused)
        if self.ignored:
            lines.append(
                f"  {len(self.ignored)} files are none of the definition's, such as {self.ignored[0]}"
            )
        return "\n".join(
            [
                *lines,
                *(f"  {said}" for said in self.remarks),
                *drift_lines(self.drifts),
                *self._missing_lines(),
                *cohort_lines(self.cohort),
            ]
        )

    def _missing_lines(self) -> list[str]:
        if not self.missing:
            return []
        n_pairs = sum(self.missing.values())
        who = ", ".join(
            f"{patient} ({self.cohort.patients.get(patient, 'removed')})" for patient in sorted(self.missing)
        )
        head = f"{n_pairs} pairs of {len(self.missing)} patients of the store have no scans in this folder: {who}."
        if self.removed:
            return [f"{head} They were removed; a patient who comes back has the former split."]
        return [f"{head} They stay; --prune removes them."]


@dataclass(frozen=True)
class Cause:
    """One reason for refusals. labels: of what was refused for it."""

    code: str
    cause: str
    labels: tuple[str, ...]
    action: str


def causes_of(refused: Iterable[Refusal]) -> list[Cause]:
    """Refusals by code and cause.

    Parameters
    ----------
    refused
        In any order.

    Returns
    -------
    list[Cause]
        The most frequent first.
    """
    groups: dict[tuple[str, str], list[Refusal]] = defaultdict(list)
    for refusal in refused:
        groups[refusal.code, refusal.cause].append(refusal)
    ordered = sorted(groups.items(), key=lambda group: (-len(group[1]), group[0]))
    return [
        Cause(
            code,
            cause,
            tuple(one.label for one in held),
            next((one.action for one in held if one.action), ""),
        )
        for (code, cause), held in ordered
    ]


def refusal_lines(refused: Sequence[Refusal]) -> list[str]:
    """Every refusal with its figures, then how many there were of each cause and what to do.

    Parameters
    ----------
    refused
        In the order in which they are to be shown.

    Returns
    -------
    list[str]
        Lines for a person; a cause has one only where several share it.
    """
    lines = [f"  refused {refusal.label}: {refusal.message}" for refusal in refused]
    return lines + [
        f"  {len(cause.labels)} refused ({cause.code}): {cause.cause}"
        + (f". {cause.action}" if cause.action else "")
        for cause in causes_of(refused)
        if len(cause.labels) > 1
    ]


def causes_in_short(refused: Iterable[Refusal]) -> str:
    """Refusals in a clause, for the message of what follows from them.

    Parameters
    ----------
    refused
        In any order.

    Returns
    -------
    str
        The `SHOWN` most frequent causes with their counts, then how many others there are.
    """
    causes = causes_of(refused)
    said = [f"{len(cause.labels)} x {cause.code} ({cause.cause})" for cause in causes[:SHOWN]]
    left = sum(len(cause.labels) for cause in causes[SHOWN:])
    return ", ".join([*said, *([f"{left} others"] if left else [])])
