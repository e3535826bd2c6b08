from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from minet_core.errors import InvalidSetting, TooFewPatients
from sites.store.split import (
    SPLITS,
    Split,
    assign_splits,
    draw_splits,
    drawn_share,
    listed_splits,
    order_of,
    slices_of,
)

RATIO = (7, 1, 2)


def names(n: int) -> list[str]:
    return sorted((f"patient{i}" for i in range(n)), key=lambda name: order_of(name, seed=1))


def counts(assigned: dict[str, Split]) -> tuple[int, ...]:
    return tuple(sum(1 for split in assigned.values() if split == wanted) for wanted in SPLITS)


@pytest.mark.parametrize(
    ("n", "expected"),
    [
        (3, (1, 1, 1)),
        (5, (3, 1, 1)),
        (10, (7, 1, 2)),
        (50, (35, 5, 10)),
        (155, (109, 15, 31)),
        (251, (176, 25, 50)),
    ],
)
def test_patients_are_split_seven_to_one_to_two(n: int, expected: tuple[int, ...]) -> None:
    assert counts(assign_splits(names(n), existing={}, ratio=RATIO, allow_few=False)) == expected


@pytest.mark.parametrize(("n", "expected"), [(2, (1, 0, 1)), (3, (2, 0, 1)), (9, (8, 0, 1)), (10, (7, 1, 2))])
def test_few_patients_leave_one_for_the_test(n: int, expected: tuple[int, ...]) -> None:
    assert counts(assign_splits(names(n), existing={}, ratio=RATIO, allow_few=True)) == expected


@pytest.mark.parametrize(("n", "allow_few"), [(0, True), (1, True), (1, False), (2, False)])
def test_too_few_patients_are_refused(n: int, allow_few: bool) -> None:
    with pytest.raises(TooFewPatients, match="FM-D206"):
        assign_splits(names(n), existing={}, ratio=RATIO, allow_few=allow_few)


@given(batches=st.lists(st.integers(0, 15), min_size=1, max_size=6), allow_few=st.booleans())
def test_a_patient_never_changes_split(batches: list[int], allow_few: bool) -> None:
    assigned: dict[str, Split] = {}
    total = 0
    for batch in [3, *batches]:
        total += batch
        before = dict(assigned)
        assigned = assign_splits(names(total), existing=before, ratio=RATIO, allow_few=allow_few)
        assert set(assigned) == set(names(total))
        assert all(assigned[patient] == split for patient, split in before.items())
        training, validation, test = counts(assigned)
        assert min(training, test) >= 1
        assert validation >= 1 or (allow_few and total < 10)


@given(first=st.integers(3, 60), then=st.integers(0, 60))
def test_a_split_that_grew_keeps_its_proportions(first: int, then: int) -> None:
    grown: dict[str, Split] = {}
    for n in range(first, first + then + 1):  # one patient after the other
        grown = assign_splits(names(n), existing=grown, ratio=RATIO, allow_few=False)
    at_once = assign_splits(names(first + then), existing={}, ratio=RATIO, allow_few=False)
    assert all(abs(a - b) <= 1 for a, b in zip(counts(grown), counts(at_once), strict=True))


def test_another_seed_draws_another_test_patient() -> None:
    tests = {min(names(3), key=lambda name: order_of(name, seed=seed)) for seed in range(20)}
    assert tests == set(names(3))


@given(first=st.integers(0, 20), n=st.integers(4, 200))
def test_validation_slices_of_training_patients_touch_no_training_slice(first: int, n: int) -> None:
    usable = (first, first + n)

    def taken(split: Split) -> list[int]:
        return list(slices_of(usable, of="training", to=split, validation_from_training=True))

    training, validation = taken("training"), taken("validation")
    assert training
    assert validation
    assert set(training) | set(validation) <= set(range(*usable))
    assert min(abs(a - b) for a in training for b in validation) >= 2
    assert taken("test") == []


def test_a_test_patient_gives_no_slice_to_training_or_validation() -> None:
    for of_training in (False, True):
        given_to = [
            list(slices_of((0, 9), of="test", to=s, validation_from_training=of_training)) for s in SPLITS
        ]
        assert given_to == [[], [], list(range(9))]


LISTED: dict[str, Split] = {"a": "training", "b": "training", "c": "test"}


def test_a_listed_split_is_what_the_lists_say() -> None:
    expected = ("training", "test")
    assert listed_splits("abc", existing={}, listed=LISTED, expected=expected) == LISTED
    grown = listed_splits(
        "abc", existing={"a": "training"}, listed={"b": "training", "c": "test"}, expected=expected
    )
    assert grown == LISTED  # a, who came with an earlier ingest, stays


@pytest.mark.parametrize("existing", [{"a": "test"}, {}])
def test_a_patient_whom_the_lists_put_elsewhere_or_do_not_name_is_refused(existing: dict[str, Split]) -> None:
    listed = LISTED if existing else {"b": "training", "c": "test"}
    with pytest.raises(InvalidSetting, match=r"FM-C102.*such as a\..*new store"):
        listed_splits("abc", existing=existing, listed=listed, expected=("training", "test"))


def test_a_list_of_which_nothing_was_accepted_is_refused() -> None:
    with pytest.raises(TooFewPatients, match=r"FM-D206.*validation list"):
        listed_splits("abc", existing={}, listed=LISTED, expected=SPLITS)


def drawn(patients: list[str], *, allow_few: bool = False) -> dict[str, Split]:
    shares = {patient: drawn_share(patient, seed=1) for patient in patients}
    return draw_splits(shares, existing={}, ratio=RATIO, allow_few=allow_few)


def test_a_store_made_anew_of_fewer_patients_tests_nobody_it_trained_on() -> None:
    """200 random removals; drawn by quota, the same removals move 383 of 4,300 patients from the test to training."""
    generator = np.random.default_rng(0)
    for trial in range(200):
        patients = [f"H{number:06d}" for number in generator.integers(10**6, size=generator.integers(5, 60))]
        left = [patient for patient in patients if generator.random() < 0.7]
        few = bool(trial % 2)
        before = drawn(patients, allow_few=few)
        if sum(before[patient] == "training" for patient in left) < 2:
            continue  # nobody is left to train on: docs/decisions/0014-splits-by-patient.md
        after = drawn(left, allow_few=few)
        assert not [p for p in left if (before[p], after[p]) == ("test", "training")]


def test_drawn_by_patient_a_split_has_its_proportions_over_many_patients_and_nobody_is_left_out() -> None:
    training, validation, test = counts(drawn(names(2000)))
    assert training + validation + test == 2000
    assert (training, validation, test) == pytest.approx(
        (1400, 200, 400), abs=60
    )  # three standard deviations
    for n in range(3, 40):
        assert min(counts(drawn(names(n)))) >= 1
        training, validation, test = counts(drawn(names(n), allow_few=True))
        assert min(training, test) >= 1


@given(first=st.integers(3, 30), then=st.integers(1, 30))
def test_drawn_by_patient_nobody_who_has_a_split_changes_it(first: int, then: int) -> None:
    before = drawn(names(first))
    shares = {patient: drawn_share(patient, seed=1) for patient in names(first + then)}
    assert draw_splits(shares, existing=before, ratio=RATIO, allow_few=False).items() >= before.items()


def test_a_store_with_nobody_left_to_train_on_is_refused() -> None:
    with pytest.raises(TooFewPatients, match=r"FM-D206.*no patient is left for training"):
        draw_splits({}, existing={"a": "test", "b": "test", "c": "validation"}, ratio=RATIO, allow_few=False)
