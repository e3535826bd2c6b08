"""What crosses between a site and the server, and nothing else.

A request is the global weights and three agreed values. A reply is weights and agreed figures, or one failure
code. Both ends check against this page: the client before it sends, the server before it uses.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from minet_core.runtime.errors import INTERNAL_CODE, ReplyRefused

MODEL = "model"
"""Record that holds the weights, in a request and in a reply."""

PARCEL = "parcel"
"""Its only array: see `minet_core.parcel`."""

REQUEST = "request"
"""Record of a request's agreed values: `round`, `federation` (the digest of the federation file), `run`."""

METRICS = "metrics"
"""Record of a reply's agreed figures."""

FAILURE = "failure"
"""Record of a failed reply: the single key `code`."""

RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,60}")
"""A run's name. It names a folder at both ends, so it may hold nothing that leads elsewhere."""

METHODS = ("global", "sinc", "bicubic")
"""What every test volume is scored with: the global model beside the interpolations."""

SCORES = ("psnr_db", "ssim", "nmse")

KINDS = ("phantom", "surrogate", "real")
"""What a site's scans are, sent as the index into this tuple: a reply holds numbers only."""


@dataclass(frozen=True)
class Figure:
    """One agreed figure: a whole number or a finite float in a closed range."""

    low: float
    high: float
    whole: bool = False
    required: bool = True


_BINDING = {
    "round": Figure(1, 1_000_000, whole=True),
    "run": Figure(0, 2**53, whole=True),
    "cohort": Figure(0, 2**48 - 1, whole=True),
}
"""`cohort`: the number of the cohort's digest, see `minet_core.cohort_declaration`."""

_SCORE_RANGES = {"psnr_db": (-100.0, 200.0), "ssim": (-1.0, 1.0), "nmse": (0.0, 1e6)}

CONTRASTS = ("other", "T1", "T2", "PD", "FS-PD", "FLAIR")
"""What a scan's contrast is, sent as the index into this tuple."""

DOMAIN_SPANS = {
    "pixel_mm": (0.0, 50.0),
    "slice_mm": (0.0, 50.0),
    "band": (0.0, 1.0),
    **{
        f"{role}_{figure}": (0.0, high)
        for role in ("target", "reference")
        for figure, high in (("middle", 1.0), ("rim", 100.0), ("noise", 1.0))
    },
}
"""By name, the range of each coarse figure of what a site trains on: see `minet_core.training_domain`."""

DOMAIN_FIGURES: dict[str, Figure] = {
    "domain_target": Figure(0, len(CONTRASTS) - 1, whole=True, required=False),
    "domain_reference": Figure(0, len(CONTRASTS) - 1, whole=True, required=False),
    "domain_kind": Figure(0, len(KINDS) - 1, whole=True, required=False),
    **{
        f"domain_{name}_{end}": Figure(*span, required=False)
        for name, span in DOMAIN_SPANS.items()
        for end in ("low", "high")
    },
}
"""What a site trains on, for the model's manifest: the ends of ranges over its training patients, rounded."""

TRAIN_FIGURES: dict[str, Figure] = {
    **_BINDING,
    **DOMAIN_FIGURES,
    "n_training_slices": Figure(1, 1_000_000, whole=True),
    "train_loss": Figure(0.0, 1e6),
    "seconds": Figure(0.0, 1e7),
    **{f"validation_{score}": Figure(*_SCORE_RANGES[score]) for score in SCORES},
}
"""The figures of a training reply; the validation scores are those of the weights that came in."""

TEST_FIGURES: dict[str, Figure] = {
    **_BINDING,
    "n_training_slices": Figure(1, 1_000_000, whole=True),
    "n_test_volumes": Figure(1, 100_000, whole=True),
    "few_patients": Figure(0, 1, whole=True),
    "kind": Figure(0, len(KINDS) - 1, whole=True),
    "seconds": Figure(0.0, 1e7),
    **{f"{method}_{score}": Figure(*_SCORE_RANGES[score]) for method in METHODS for score in SCORES},
    **{
        f"{method}_{score}_{end}": Figure(*_SCORE_RANGES[score], required=False)
        for method in METHODS
        for score in SCORES
        for end in ("low", "high")
    },
}
"""The figures of a test reply: the mean over the test volumes, and the ends of its 95% interval where the site
has more than one."""


def run_number(run: str, *, federation: str) -> int:
    """A run's name and its federation's digest as a whole number below 2**53, which a reply repeats."""
    digest = hashlib.sha256(f"{federation}/{run}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 11


def checked_figures(received: Mapping[str, object], *, agreed: Mapping[str, Figure]) -> dict[str, float]:
    """`received` as floats, if it is exactly what was agreed.

    Raises ReplyRefused (FM-F401). The message never repeats a key or a text that the other end chose.
    """
    n_unknown = sum(1 for name in received if name not in agreed)
    if n_unknown:
        raise ReplyRefused("a reply holds figures that were not agreed", got=n_unknown, expected=0)
    figures: dict[str, float] = {}
    for name, figure in agreed.items():
        if name not in received:
            if figure.required:
                raise ReplyRefused(f"a reply lacks the figure {name}")
            continue
        value = received[name]
        if isinstance(value, bool) or not isinstance(value, int if figure.whole else int | float):
            raise ReplyRefused(f"the figure {name} has the wrong type", got=type(value).__name__)
        assert isinstance(value, int | float)
        if not math.isfinite(value) or not figure.low <= value <= figure.high:
            raise ReplyRefused(
                f"the figure {name} is out of its range", got=value, expected=f"{figure.low} to {figure.high}"
            )
        figures[name] = float(value)
    return figures


_CODE = re.compile(r"FM-[CDMFS][0-9]{3}")


def code_within(reason: str | None) -> str:
    """All of an error's text that may be kept or may leave a site: its code, or FM-S900 where it has none."""
    found = _CODE.search(reason or "")
    return found.group() if found else INTERNAL_CODE


def checked_code(received: object) -> str:
    """A failure code as it may be stored; anything that is not of a code's form becomes FM-S900."""
    if isinstance(received, str) and _CODE.fullmatch(received):
        return received
    return INTERNAL_CODE
