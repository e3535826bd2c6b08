"""Which patients are for training, validation and test: by patient, by a seed, and for good.

A patient who has a split keeps it, also one who was removed and comes back (`splits.json`).

By patient, which is the default, a new patient's split is drawn from the seed and the hospital's own identifier alone:
whoever else is there, the same patient is drawn alike, in every store. The proportions 7:1:2 are those of the draw,
not of every hospital's patients. A split that nobody was drawn for gets the patient who was drawn nearest to it.
So a store made anew after patients were removed trains on nobody whom the former one tested on, as long as one of
those drawn for training is left. docs/decisions/0014-splits-by-patient.md has what is promised and what is not.

By quota, new patients are taken in an order drawn in the same way, and each fills the split that is furthest behind
7:1:2: the proportions are exact, and other patients in a store made anew have other splits.

A site may bring a split that others have drawn (`listed_splits`): then nothing is drawn.

With fewer than ten patients and the site's leave (`allow_few_patients`), those drawn for it (by quota: one) are for
the test, all others for training, and validation takes a block of slices of the *training* patients, which they then
do not train on: a test patient is never looked at before the test.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Literal, get_args

from minet_core.errors import InvalidSetting, TooFewPatients
from minet_core.seeds import derived_seed

Split = Literal["training", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)

FEW_PATIENTS = 10
"""The sum of 7:1:2; below it no split by patient has these proportions."""

BLOCK = (5, 6, 8)
"""Where validation is taken from training patients: from 5/8 to 6/8 of the usable slices."""


def order_of(patient_id: str, *, seed: int) -> int:
    """A patient's place in the drawn order.

    Parameters
    ----------
    patient_id
        The hospital's identifier.
    seed
        `split.seed` of site.yaml.

    Returns
    -------
    int
        A number to sort by, 0 to `SEEDS - 1`.
    """
    return derived_seed(seed, patient_id, "split")


def drawn_share(patient_id: str, *, seed: int) -> float:
    """A patient's draw.

    Parameters
    ----------
    patient_id
        The hospital's identifier.
    seed
        `split.seed` of site.yaml.

    Returns
    -------
    float
        Uniform in [0, 1).
    """
    return order_of(patient_id, seed=seed) / SEEDS


SEEDS = 2**63
"""How many seeds `derived_seed` gives."""


def draw_splits(
    new_patients: Mapping[str, float],
    *,
    existing: Mapping[str, Split],
    ratio: tuple[int, int, int],
    allow_few: bool,
) -> dict[str, Split]:
    """The split of every patient, existing and new, where each new one is drawn alone.

    Parameters
    ----------
    new_patients
        By pseudonym, the draw of `drawn_share`; those who are in `existing` too keep what they have.
    existing
        By pseudonym, the split of those who have one.
    ratio
        (training, validation, test).
    allow_few
        Below `FEW_PATIENTS`, validate on slices of training patients.

    Returns
    -------
    dict[str, Split]
        By pseudonym.

    Raises
    ------
    TooFewPatients
        FM-D206: below three patients, with `allow_few` below two; or nobody is left for training or the test.
    """
    new = {patient: share for patient, share in new_patients.items() if patient not in existing}
    total = len(existing) + len(new)
    require_enough(total, allow_few=allow_few)
    few = allow_few and total < FEW_PATIENTS and "validation" not in existing.values()
    training, validation, _ = (part / sum(ratio) for part in ratio)
    assigned = dict(existing)
    for patient, share in new.items():
        if share >= training + validation:
            assigned[patient] = "test"
        else:
            assigned[patient] = "training" if few or share < training else "validation"
    _fill_empty(assigned, new, wanted=("test", "training") if few else ("test", "training", "validation"))
    return assigned


def _fill_empty(assigned: dict[str, Split], new: Mapping[str, float], *, wanted: Iterable[Split]) -> None:
    """Give each split that has nobody the new patient who was drawn nearest to it.

    The test takes the highest draw, so that who is in it stays when others leave. Validation is filled from training
    where it can be, and is otherwise on slices of training patients.
    """
    for split in wanted:
        held = Counter(assigned.values())
        if held[split]:
            continue
        givers = [patient for patient in new if split == "test" or held[assigned[patient]] > 1]
        of_training = [patient for patient in givers if assigned[patient] == "training"]
        if givers:
            from_below = split == "test" or (split == "validation" and bool(of_training))
            nearest = max if from_below else min
            chosen = of_training if split == "validation" and of_training else givers
            assigned[nearest(chosen, key=lambda patient: new[patient])] = split
        elif split != "validation":
            raise TooFewPatients(
                f"no patient is left for {split}",
                got=", ".join(f"{count} for {name}" for name, count in sorted(held.items())),
                expected="one at least",
                action="Ingest more patients: those who have a split keep it",
            )


def require_enough(total: int, *, allow_few: bool) -> None:
    """Refuse a store of too few patients to split.

    Parameters
    ----------
    total
        Patients, those who are there already and new ones.
    allow_few
        As `allow_few_patients` of site.yaml.

    Raises
    ------
    TooFewPatients
        FM-D206: below three patients, with `allow_few` below two.
    """
    least = 2 if allow_few else len(SPLITS)
    if total < least:
        accepted = (
            "" if allow_few or total < 2 else "; allow_few_patients in site.yaml accepts two, and says so"
        )
        raise TooFewPatients(
            "too few patients to split",
            got=total,
            expected=f"at least {least}",
            action=f"Add more patients' scans{accepted}",
        )


def assign_splits(
    new_patients: Sequence[str],
    *,
    existing: Mapping[str, Split],
    ratio: tuple[int, int, int],
    allow_few: bool,
) -> dict[str, Split]:
    """The split of every patient, existing and new, where new ones fill the split that is furthest behind the ratio.

    Parameters
    ----------
    new_patients
        Pseudonyms in their drawn order; those who are in `existing` too keep what they have.
    existing
        By pseudonym, the split of those who have one.
    ratio
        (training, validation, test).
    allow_few
        Below `FEW_PATIENTS`, validate on slices of training patients and test on one patient.

    Returns
    -------
    dict[str, Split]
        By pseudonym.

    Raises
    ------
    TooFewPatients
        FM-D206: below three patients, with `allow_few` below two.
    """
    new = [patient for patient in dict.fromkeys(new_patients) if patient not in existing]
    total = len(existing) + len(new)
    require_enough(total, allow_few=allow_few)
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
    """The split of every patient where lists say it.

    Parameters
    ----------
    patients
        Pseudonyms of the store's patients.
    existing
        By pseudonym, the split of those who have one.
    listed
        By pseudonym, the split that a list gives.
    expected
        The splits that have a list.

    Returns
    -------
    dict[str, Split]
        By pseudonym.

    Raises
    ------
    InvalidSetting
        FM-C102: the store has a patient in another split, or one that no list names.
    TooFewPatients
        FM-D206: a list gave no patient.
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
    """The slices that a volume gives to a split.

    Where validation is taken from training patients, one slice on either side of the block goes to neither:
    neighbouring slices are nearly the same.

    Parameters
    ----------
    usable
        [first, stop) of the volume's usable slices.
    of
        The split of the volume's patient.
    to
        The split that asks.
    validation_from_training
        Whether validation takes a block of slices of training patients.

    Returns
    -------
    Iterable[int]
        Indices from 0 in the stored volume, rising; it may be empty.
    """
    first, stop = usable
    if not validation_from_training or of != "training":
        return range(first, stop) if of == to else ()
    start = first + (stop - first) * BLOCK[0] // BLOCK[2]
    end = max(start + 1, first + (stop - first) * BLOCK[1] // BLOCK[2])
    if to == "validation":
        return range(start, end)
    return (*range(first, start - 1), *range(end + 1, stop)) if to == "training" else ()
