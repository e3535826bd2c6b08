"""Which patients are for training, validation and test: by patient, by a seed, and for good.

A patient who has a split keeps it. New patients are taken in an order drawn from the seed and the hospital's own
identifier, so the same patients are split alike in every store; each fills the split that is furthest behind
7:1:2. Every split gets at least one patient.

A site may bring a split that others have drawn (`listed_splits`): then nothing is drawn.

With fewer than ten patients and the site's leave (`allow_few_patients`), one patient is for the test, all others
for training, and validation takes a block of slices of the *training* patients, which they then do not train on: a
test patient is never looked at before the test.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Literal, get_args

from minet_core.runtime.errors import InvalidSetting, TooFewPatients
from minet_core.seeds import derived_seed

Split = Literal["training", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)

FEW_PATIENTS = 10
"""The sum of 7:1:2; below it no split by patient has these proportions."""

BLOCK = (5, 6, 8)
"""Where validation is taken from training patients: from 5/8 to 6/8 of the usable slices."""


def order_of(patient_id: str, *, seed: int) -> int:
    """A patient's place in the drawn order: a number to sort by."""
    return derived_seed(seed, patient_id, "split")


def assign_splits(
    new_patients: Sequence[str],
    *,
    existing: Mapping[str, Split],
    ratio: tuple[int, int, int],
    allow_few: bool,
) -> dict[str, Split]:
    """The split of every patient, existing and new (these in their drawn order).

    Raises TooFewPatients (FM-D206) below three patients, with `allow_few` below two.
    """
    new = [patient for patient in dict.fromkeys(new_patients) if patient not in existing]
    total = len(existing) + len(new)
    least = 2 if allow_few else len(SPLITS)
    if total < least:
        raise TooFewPatients(
            "too few patients to split",
            got=total,
            expected=f"at least {least}",
            action=None
            if allow_few or total < 2
            else "allow_few_patients in site.yaml accepts two, and says so",
        )
    assigned = dict(existing)
    counts = {split: sum(1 for other in existing.values() if other == split) for split in SPLITS}
    few = allow_few and total < FEW_PATIENTS and counts["validation"] == 0
    wanted = {"training": total - 1, "validation": 0, "test": 1} if few else _quota(total, ratio=ratio)
    for patient in new:
        split = max(
            SPLITS, key=lambda name: (counts[name] == 0 and wanted[name] > 0, wanted[name] - counts[name])
        )
        assigned[patient] = split
        counts[split] += 1
    return assigned


def listed_splits(
    patients: Iterable[str],
    *,
    existing: Mapping[str, Split],
    listed: Mapping[str, Split],
    expected: Collection[Split],
) -> dict[str, Split]:
    """The split of every patient where lists say it. expected: the splits that have a list.

    Raises InvalidSetting (FM-C102) where the store has a patient in another split, or one that no list names;
    TooFewPatients (FM-D206) where a list gave no patient.
    """
    assigned = {patient: existing.get(patient) or listed.get(patient) for patient in patients}
    strangers = [
        patient for patient, split in assigned.items() if split is None or listed.get(patient, split) != split
    ]
    if strangers:
        raise InvalidSetting(
            "the store holds patients whom the lists put elsewhere or do not name",
            got=f"{len(strangers)} such as {strangers[0]}",
            action="Ingest into a new store",
        )
    for split in expected:
        if split not in assigned.values():
            raise TooFewPatients(f"no pair of the {split} list was accepted", got=0, expected="at least 1")
    return {patient: split for patient, split in assigned.items() if split is not None}


def _quota(total: int, *, ratio: tuple[int, int, int]) -> dict[Split, int]:
    """Patients of each split: the ratio's share rounded to its largest remainders, and one at the least."""
    shares = [total * part / sum(ratio) for part in ratio]
    counts = [int(share) for share in shares]
    by_remainder = sorted(range(len(ratio)), key=lambda i: counts[i] - shares[i])
    for index in by_remainder[: total - sum(counts)]:
        counts[index] += 1
    for index, count in enumerate(counts):
        if count == 0:
            counts[counts.index(max(counts))] -= 1
            counts[index] = 1
    return dict(zip(SPLITS, counts, strict=True))


def slices_of(
    usable: tuple[int, int], *, of: Split, to: Split, validation_from_training: bool
) -> Iterable[int]:
    """The slice indices that a volume of split `of` gives to split `to`.

    Where validation is taken from training patients, one slice on either side of the block goes to neither:
    neighbouring slices are nearly the same.
    """
    first, stop = usable
    if not validation_from_training or of != "training":
        return range(first, stop) if of == to else ()
    start = first + (stop - first) * BLOCK[0] // BLOCK[2]
    end = max(start + 1, first + (stop - first) * BLOCK[1] // BLOCK[2])
    if to == "validation":
        return range(start, end)
    return (*range(first, start - 1), *range(end + 1, stop)) if to == "training" else ()
