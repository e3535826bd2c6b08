"""Which pairs have target and reference exchanged, by what the other patients show."""

from __future__ import annotations

import numpy as np

from sites.duplicates.exchanged_contrasts import Coarse, find_exchanged, likeness


def pairs_of(n_patients: int, *, exchanged: frozenset[int] = frozenset()) -> dict[str, Coarse]:
    """Patients who share an anatomy, each with much of its own, and two contrasts that are opposed in half of it."""
    generator = np.random.default_rng(7)
    anatomy = generator.standard_normal(4096)
    sign = np.where(np.arange(4096) % 4 < 3, -1.0, 1.0)
    found = {}
    for number in range(n_patients):
        images = [
            np.stack([contrast + 0.7 * generator.standard_normal(4096), np.ones(4096)]).astype(np.float32)
            for contrast in (anatomy, sign * anatomy)
        ]
        if number in exchanged:
            images.reverse()
        found[f"p{number}.h5"] = dict(zip(("target", "reference"), images, strict=True))
    return found


def exchanged_in(pairs: dict[str, Coarse]) -> tuple[set[str], bool]:
    told = find_exchanged(pairs, patients={file: file for file in pairs})
    return set(told.likeness), told.undecided


def test_the_pairs_that_are_unlike_the_most_are_named_and_no_other() -> None:
    assert exchanged_in(pairs_of(8)) == (set(), False)
    assert exchanged_in(pairs_of(8, exchanged=frozenset({2, 5}))) == ({"p2.h5", "p5.h5"}, False)
    assert exchanged_in(pairs_of(30, exchanged=frozenset({29}))) == ({"p29.h5"}, False)


def test_where_half_lie_one_way_it_is_said_that_nobody_can_tell() -> None:
    assert exchanged_in(pairs_of(8, exchanged=frozenset({0, 1, 2, 3}))) == (set(), True)


def test_too_few_other_patients_and_an_anatomy_that_is_not_shared_tell_nothing() -> None:
    assert exchanged_in(pairs_of(3, exchanged=frozenset({0}))) == (set(), False)
    pairs = pairs_of(5, exchanged=frozenset({0}))
    told = find_exchanged(pairs, patients=dict.fromkeys(pairs, "the same patient"))
    assert not told.likeness
    empty = {role: np.zeros((2, 4096), np.float32) for role in ("target", "reference")}
    assert likeness(empty, pairs["p1.h5"]) is None
