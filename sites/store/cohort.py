"""The cohort: what a store holds, in one page with digests (`cohort.json`). Holds no identifier of a patient."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from minet_core.errors import InvalidSetting
from minet_core.settings.yaml_file import Settings
from sites.quality.pair_quality import PairQuality, quality_remarks
from sites.store.split import FEW_PATIENTS, SPLITS, Split, slices_of

DataKind = Literal["real", "surrogate", "phantom"]

Hexadecimal = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]+$")]


LATER_FIELDS = ("residual_px", "moved_mm", "stretch", "agreement", "similarity", "quality")
"""Fields of a pair that not every version wrote: None where it did not."""
LATER_FIGURES = ("target_signal", "reference_signal")
"""The same of a pair's quality."""


class PairRecord(Settings):
    """One pair of the store."""

    file: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]+-[0-9a-f]+(-[0-9a-f]+)?\.h5$")]
    patient: Hexadecimal
    shape: tuple[int, int, int]
    usable_slices: tuple[int, int] = Field(
        description="[first, stop) of the slices with anatomy in both contrasts"
    )
    resampled: bool = Field(description="whether the reference was brought from another grid or position")
    residual_mm: float = Field(description="estimated error of the registration [mm]")
    residual_px: float | None = Field(None, description="the same in pixels of the target's plane")
    moved_mm: float | None = Field(None, description="mean displacement that registration found")
    stretch: float | None = Field(None, description="largest relative change of length that was corrected")
    agreement: float | None = Field(None, description="share of blocks found in their place")
    similarity: float | None = Field(None, description="of pairs made before the agreement was measured")
    quality: PairQuality | None = Field(
        None, description="what ingest saw of the images; null: an older record"
    )
    fingerprint: Hexadecimal
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]

    @property
    def name(self) -> str:
        """The pair's name: the patient's pseudonym and the examination. Made anew of other scans it keeps its name."""
        return "-".join(self.file.removesuffix(".h5").split("-")[:2])


class Count(Settings):
    """What one split holds. `patients` of a validation on training patients' slices are those patients."""

    patients: int
    pairs: int
    slices: int


class Cohort(Settings):
    """`cohort.json`."""

    schema_version: Literal[1] = 1
    site: str
    data_kind: DataKind
    target: str
    reference: str
    few_patients: bool = Field(description="fewer than ten: the test says little about patients in general")
    validation_from_training: bool = Field(description="validation on held-out slices of training patients")
    patients: dict[Hexadecimal, Split]
    pairs: tuple[PairRecord, ...]
    counts: dict[Split, Count]
    digest: str = ""

    def pairs_of(self, split: Split) -> list[tuple[PairRecord, list[int]]]:
        """The pairs that give slices to a split.

        Parameters
        ----------
        split
            "training", "validation" or "test".

        Returns
        -------
        list[tuple[PairRecord, list[int]]]
            Each with the indices of its slices, from 0 in the stored volume, rising; a pair without any is left out.
        """
        found = []
        for pair in self.pairs:
            indices = slices_of(
                pair.usable_slices,
                of=self.patients[pair.patient],
                to=split,
                validation_from_training=self.validation_from_training,
            )
            if indices:
                found.append((pair, list(indices)))
        return found

    def computed_digest(self) -> str:
        """SHA-256 over everything else in the page, in a canonical form."""
        content = self.model_dump(mode="json", exclude={"digest"})
        for pair in content["pairs"]:
            for name in LATER_FIELDS:
                if pair[name] is None:  # the digest of a cohort that was written before there was one
                    del pair[name]
            for name in LATER_FIGURES:
                if pair.get("quality") and pair["quality"][name] is None:
                    del pair["quality"][name]
        return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    def remarks(self) -> list[str]:
        """What must be said beside every figure of this cohort.

        Returns
        -------
        list[str]
            Sentences; empty where nothing is to be said.
        """
        said = []
        if self.data_kind != "real":
            said.append(f"The scans are {self.data_kind} data, not the site's own.")
        if self.few_patients:
            said.append(f"Few patients ({len(self.patients)}): figures say little about patients in general.")
        if self.validation_from_training:
            said.append("Validation is on held-out slices of training patients.")
        return said + quality_remarks([pair.quality for pair in self.pairs if pair.quality is not None])


def make_cohort(
    pairs: Iterable[PairRecord],
    patients: dict[str, Split],
    *,
    site: str,
    data_kind: DataKind,
    target: str,
    reference: str,
) -> Cohort:
    """The cohort of these pairs, counted and signed with its digest.

    Parameters
    ----------
    pairs
        In any order; they are sorted by file.
    patients
        By pseudonym, the split; every pair's patient is in it.
    site
        The site's registered name.
    data_kind
        What the scans are.
    target, reference
        Names of the contrasts.

    Returns
    -------
    Cohort
        Validation is on slices of training patients where no patient has that split.
    """
    cohort = Cohort(
        site=site,
        data_kind=data_kind,
        target=target,
        reference=reference,
        few_patients=len(patients) < FEW_PATIENTS,
        validation_from_training="validation" not in patients.values(),
        patients=dict(sorted(patients.items())),
        pairs=tuple(sorted(pairs, key=lambda pair: pair.file)),
        counts={},
    )
    counts = {split: _count(cohort, split) for split in SPLITS}
    cohort = cohort.model_copy(update={"counts": counts})
    return cohort.model_copy(update={"digest": cohort.computed_digest()})


def leave_out(cohort: Cohort, patient: str) -> Cohort:
    """The cohort of a fold: one patient is tested, all others train, and nobody validates.

    Parameters
    ----------
    cohort
        Whatever its own split.
    patient
        The pseudonym of the one to test.

    Returns
    -------
    Cohort
        Of the same pairs, counted and with a digest of its own. All examinations of the patient are for the test, and
        every usable slice of the others trains.

    Raises
    ------
    InvalidSetting
        FM-C102, where the cohort has no such patient, or no other.
    """
    pairs = {pair.patient for pair in cohort.pairs}
    if patient not in pairs or len(pairs) < 2:
        raise InvalidSetting(
            "a patient cannot be left out",
            got=f"{patient} of {len(pairs)} patients",
            expected="a patient of the store, and another to train on",
        )
    split: dict[str, Split] = {one: "test" if one == patient else "training" for one in cohort.patients}
    left = cohort.model_copy(update={"patients": split, "validation_from_training": False})
    left = left.model_copy(update={"counts": {name: _count(left, name) for name in SPLITS}})
    return left.model_copy(update={"digest": left.computed_digest()})


def _count(cohort: Cohort, split: Split) -> Count:
    found = cohort.pairs_of(split)
    return Count(
        patients=len({pair.patient for pair, _ in found}),
        pairs=len(found),
        slices=sum(len(indices) for _, indices in found),
    )


def cohort_lines(cohort: Cohort) -> list[str]:
    """A cohort's counts and remarks, for a person.

    Parameters
    ----------
    cohort
        Counted.

    Returns
    -------
    list[str]
        One line a split, then the remarks.
    """
    lines = [
        f"{split}: {count.patients} patients, {count.pairs} pairs, {count.slices} slices"
        for split, count in ((split, cohort.counts[split]) for split in SPLITS)
    ]
    return [*lines, *cohort.remarks()]
