"""A pair whose target is its reference and the other way round, told by the site's other patients.

Names of files say which contrast is which, and one patient's files may be named the wrong way round. In every patient
the same contrast shows the same tissues bright; so a pair's target is like the others' targets, and its reference like
their references. Of an exchanged pair it is the opposite, by the same amount:

    likeness to another patient's pair, at 12 mm     least
    42 phantom brains of two sites                   0.62
    10 phantom knees                                 1.21
    5 real brains (open_ms_data, two protocols)      0.76

It says which pairs are unlike the most. Where all are exchanged it says nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from minet_core.errors import ScanInvalid
from sites.duplicates.signature import MIN_VOXELS, Floats

LIMIT = 0.3
"""Half of the least that was seen; from there to its opposite nothing is said."""
MIN_OTHERS = 3
MAX_SHARE = 1 / 3
"""Share of the pairs; of more, which way is right is not for the most to say."""
MAX_OTHERS = 12
"""Evenly spread over the store: each gives the same answer."""

UNDECIDED = (
    "In about as many patients as not, target and reference are exchanged: look at the pairs in onboarding.html, and "
    "at the patterns in site.yaml"
)

Coarse = Mapping[str, Floats]
"""By role, "target" and "reference", (2, voxel): the image at 12 mm, and its foreground there."""


@dataclass(frozen=True)
class Exchanged:
    """likeness: by file, of the pairs that are exchanged, to the others'. undecided: so many lie either way that nobody
    can say which are right."""

    likeness: Mapping[str, float]
    undecided: bool


def find_exchanged(pairs: Mapping[str, Coarse], *, patients: Mapping[str, str]) -> Exchanged:
    """The pairs whose contrasts are exchanged, as far as the other patients' pairs tell.

    Parameters
    ----------
    pairs
        By name of a pair's file.
    patients
        By name of a pair's file, whose it is.

    Returns
    -------
    Exchanged
        None and decided where fewer than `MIN_OTHERS` other patients' pairs can be compared with.
    """
    medians = {}
    for file in sorted(pairs):
        others = [other for other in sorted(pairs) if patients[other] != patients[file]]
        places = np.unique(np.linspace(0, len(others) - 1, min(len(others), MAX_OTHERS)).astype(int))
        found = [one for place in places if (one := likeness(pairs[file], pairs[others[place]])) is not None]
        if len(found) >= MIN_OTHERS:
            medians[file] = float(np.median(found))
    against = {file: one for file, one in medians.items() if one <= -LIMIT}
    if len(against) > MAX_SHARE * len(medians):
        return Exchanged({}, undecided=True)
    return Exchanged(against, undecided=False)


def exchanged_pair(found: float) -> ScanInvalid:
    """What is said of a pair.

    Parameters
    ----------
    found
        Its likeness to the others'.

    Returns
    -------
    ScanInvalid
        FM-D202.
    """
    return ScanInvalid(
        "target and reference are exchanged: each shows what the other shows in the site's other patients",
        got=f"a likeness of {found:+.2f}",
        expected=f"more than {-LIMIT:+.1f}; pairs that lie right have about as much above 0",
        action="Look at the two scans and name each by what it shows; where they are right all the same, set "
        "duplicates.exchanged: remark",
    )


def likeness(one: Coarse, other: Coarse) -> float | None:
    """How much more a pair is like another patient's as it lies than with its two images exchanged.

    Parameters
    ----------
    one, other
        Two patients' pairs.

    Returns
    -------
    float or None
        -2 to 2: half of the two correlations of the same role, less the two of different roles; None where too little
        anatomy lies in the same place.
    """
    products = [
        _correlation(one[mine], other[theirs])
        for mine, theirs in (
            ("target", "target"),
            ("reference", "reference"),
            ("target", "reference"),
            ("reference", "target"),
        )
    ]
    if any(product is None for product in products):
        return None
    same, exchanged = products[:2], products[2:]
    return float(sum(filter(None, same)) - sum(filter(None, exchanged))) / 2


def _correlation(one: Floats, other: Floats) -> float | None:
    shared = (one[1] > 0) & (other[1] > 0)
    if shared.sum() < MIN_VOXELS:
        return None
    a, b = one[0][shared], other[0][shared]
    spread = float(a.std() * b.std())
    return float(((a - a.mean()) * (b - b.mean())).mean()) / spread if spread > 0 else None
