"""What crosses between a site and the server, and nothing else.

A request is the global weights and four agreed values. A reply is weights and agreed figures, or one failure
code. Both ends check against this page: the client before it sends, the server before it uses. Every figure leaves
rounded to what its use needs.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from minet_core.errors import INTERNAL_CODE, ReplyRefused
from minet_core.settings.adaptation import CANDIDATES

MODEL = "model"
"""Record that holds the weights, in a request and in a reply."""

PARCEL = "parcel"
"""Its only array: see `minet_core.weights.payload`."""

NPY_HEAD_BYTES = 128
"""What stands before a parcel's own bytes in an array that travels."""

REQUEST = "request"
"""Record of a request's agreed values: `round`, `federation` (the digest of the federation file), `run`, `ledger`."""

REQUEST_KEYS = frozenset({"round", "run", "federation", "ledger"})
"""`ledger`: the head of the coordinator's ledger, 64 hexadecimal digits (minet_core.ledger.records)."""

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
    """One agreed figure: a whole number, or a finite float in a closed range that leaves rounded.

    digits: significant ones. decimals: after the point, None for any number.
    """

    low: float
    high: float
    whole: bool = False
    required: bool = True
    digits: int = 4
    decimals: int | None = None

    def rounded(self, value: float) -> int | float:
        """The value as it leaves.

        Parameters
        ----------
        value
            As it was computed.

        Returns
        -------
        int or float
            Inside the range where `value` was inside.
        """
        if self.whole:
            return int(value)
        coarse = float(f"{value:.{self.digits - 1}e}")
        if self.decimals is not None:
            coarse = round(coarse, self.decimals)
        return min(max(coarse, self.low), self.high) if self.low <= value <= self.high else coarse


_BINDING = {
    "round": Figure(1, 1_000_000, whole=True),
    "run": Figure(0, 2**53, whole=True),
    "cohort": Figure(0, 2**48 - 1, whole=True),
}
"""`cohort`: the number of the cohort's digest, see `minet_core.protocol.cohort_declaration`."""

_PSNR_DB = Figure(-100.0, 200.0, digits=6, decimals=3)
_SSIM = Figure(-1.0, 1.0, digits=6, decimals=4)
_NMSE = Figure(0.0, 1e6, decimals=5)

_SCORE_FIGURES = {"psnr_db": _PSNR_DB, "ssim": _SSIM, "nmse": _NMSE}
"""As finely as the reports print them; of the PSNR one decimal more, for differences of two."""

_LOSS = Figure(0.0, 1e6, digits=3)
"""A curve is drawn of it."""

_SECONDS = Figure(0.0, 1e7, digits=2, decimals=1)
"""The server sees by its own clock when a reply comes."""

_HEAD_WORDS = 8

LEDGER_FIGURES = {
    f"ledger_{number}": Figure(0, 2**32 - 1, whole=True, required=False) for number in range(_HEAD_WORDS)
}
"""The head of the site's ledger, a SHA-256 of what the site wrote down, as eight whole numbers of 32 bits: a reply
holds numbers only, and this is no longer than a digest."""

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
    "target_slope": (-50.0, 50.0),
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
    "train_loss": _LOSS,
    "seconds": _SECONDS,
    **{f"validation_{score}": _SCORE_FIGURES[score] for score in SCORES},
    **LEDGER_FIGURES,
}
"""The figures of a training reply; the validation scores are those of the weights that came in."""

_OF_VALIDATION = frozenset(f"validation_{score}" for score in SCORES)

TEST_FIGURES: dict[str, Figure] = {
    **_BINDING,
    "n_training_slices": Figure(1, 1_000_000, whole=True),
    "n_test_volumes": Figure(1, 100_000, whole=True),
    "few_patients": Figure(0, 1, whole=True),
    "kind": Figure(0, len(KINDS) - 1, whole=True),
    "seconds": _SECONDS,
    **{f"{method}_{score}": _SCORE_FIGURES[score] for method in METHODS for score in SCORES},
    **{
        f"{method}_{score}_{end}": replace(_SCORE_FIGURES[score], required=False)
        for method in METHODS
        for score in SCORES
        for end in ("low", "high")
    },
    **LEDGER_FIGURES,
}
"""The figures of a test reply: the mean over the test volumes, and the ends of its 95% interval where the site
has enough patients: of two, its ends would be their own scores."""

COMPARED_PAIRS = (
    *((model, "sinc") for model in (*CANDIDATES, "chosen")),
    *(("chosen", model) for model in ("global", "alone")),
)
"""Of which models the paired difference of the PSNR is told where a site adapts: the first less the second."""

_DIFFERENCE_DB = Figure(-300.0, 300.0, required=False, digits=6, decimals=3)

ADAPTATION_FIGURES: dict[str, Figure] = {
    "chosen": Figure(0, len(CANDIDATES) - 1, whole=True),
    **{
        f"{model}_{score}{end}": replace(_SCORE_FIGURES[score], required=False)
        for model in CANDIDATES
        if model not in METHODS
        for score in SCORES
        for end in ("", "_low", "_high")
    },
    **{
        f"{first}_less_{second}_db{end}": _DIFFERENCE_DB
        for first, second in COMPARED_PAIRS
        for end in ("", "_low", "_high")
    },
}
"""What a test reply holds besides where the federation file has an adaptation. chosen: index into `CANDIDATES`, by the
validation patients. The scores of a model that a site did not train, or that diverged, are missing. An interval is by
patient, and leaves where those of `TEST_FIGURES` do."""


def train_figures(*, validated: bool) -> dict[str, Figure]:
    """The figures of a training reply.

    Parameters
    ----------
    validated
        Whether the federation file has a validation in this round.

    Returns
    -------
    dict of Figure
        `TRAIN_FIGURES`; without the validation scores in a round that has none.
    """
    if validated:
        return TRAIN_FIGURES
    return {name: figure for name, figure in TRAIN_FIGURES.items() if name not in _OF_VALIDATION}


def test_figures(*, adapted: bool) -> dict[str, Figure]:
    """The figures of a test reply.

    Parameters
    ----------
    adapted
        Whether the federation file has an adaptation.

    Returns
    -------
    dict of Figure
        `TEST_FIGURES`, and with an adaptation `ADAPTATION_FIGURES`.
    """
    return TEST_FIGURES | ADAPTATION_FIGURES if adapted else TEST_FIGURES


def run_number(run: str, *, federation: str) -> int:
    """A run's name and its federation's digest as a whole number, which a reply repeats.

    Parameters
    ----------
    run
        Name of the run.
    federation
        Digest of the federation file.

    Returns
    -------
    int
        Below 2^53, which a float64 holds exactly.
    """
    digest = hashlib.sha256(f"{federation}/{run}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 11


def checked_figures(received: Mapping[str, object], *, agreed: Mapping[str, Figure]) -> dict[str, float]:
    """The figures of a reply, if they are exactly what was agreed.

    Parameters
    ----------
    received
        As the other end sent them.
    agreed
        By name, the range and the kind of each.

    Returns
    -------
    dict of float
        Those that came; only figures that are not required may be missing.

    Raises
    ------
    ReplyRefused
        FM-F401. The message never repeats a key or a text that the other end chose.
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
        # The range first: it is what a whole number of any length can be held to. NaN is in none.
        if not figure.low <= value <= figure.high or not math.isfinite(value):
            got = value if isinstance(value, float) or value.bit_length() <= 64 else "a longer number"
            raise ReplyRefused(
                f"the figure {name} is out of its range", got=got, expected=f"{figure.low} to {figure.high}"
            )
        figures[name] = float(value)
    return figures


def rounded_figures(
    figures: Mapping[str, int | float], *, agreed: Mapping[str, Figure]
) -> dict[str, int | float]:
    """Figures as they leave: each rounded as agreed.

    Parameters
    ----------
    figures
        By name.
    agreed
        By name, how each is rounded.

    Returns
    -------
    dict
        Of the same names: one that was not agreed stays as it is, to be refused.
    """
    return {name: agreed[name].rounded(value) if name in agreed else value for name, value in figures.items()}


def head_figures(head: str) -> dict[str, int]:
    """The head of a ledger as the numbers that travel in a reply.

    Parameters
    ----------
    head
        64 hexadecimal digits.

    Returns
    -------
    dict of int
        The eight `LEDGER_FIGURES`, 32 bits each.
    """
    return {name: int(head[8 * n : 8 * n + 8], 16) for n, name in enumerate(LEDGER_FIGURES)}


def head_in(figures: Mapping[str, float]) -> str | None:
    """The head of the site's ledger in a reply's figures.

    Parameters
    ----------
    figures
        That were checked.

    Returns
    -------
    str or None
        64 hexadecimal digits; None where the site sent none.
    """
    if not LEDGER_FIGURES.keys() <= figures.keys():
        return None
    return "".join(f"{int(figures[name]):08x}" for name in LEDGER_FIGURES)


def without_head(figures: Mapping[str, float]) -> dict[str, float]:
    """A reply's figures but those of the site's ledger.

    Parameters
    ----------
    figures
        By name.

    Returns
    -------
    dict
        Without `LEDGER_FIGURES`.
    """
    return {name: value for name, value in figures.items() if name not in LEDGER_FIGURES}


_CODE = re.compile(r"FM-[CDMFS][0-9]{3}")


def code_within(reason: str | None) -> str:
    """All of an error's text that may be kept or may leave a site: its code.

    Parameters
    ----------
    reason
        Any text.

    Returns
    -------
    str
        The first code in it, or FM-S900 where it has none.
    """
    found = _CODE.search(reason or "")
    return found.group() if found else INTERNAL_CODE


def checked_code(received: object) -> str:
    """A failure code as it may be stored.

    Parameters
    ----------
    received
        Anything that the other end sent.

    Returns
    -------
    str
        FM-S900 in place of what is not of a code's form.
    """
    if isinstance(received, str) and _CODE.fullmatch(received):
        return received
    return INTERNAL_CODE
