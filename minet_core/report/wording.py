"""How the report and the terminal say the same things."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from minet_core.errors import INTERNAL_CODE, FedminetError
from minet_core.report.summary import Difference, Kind, Metric, Status, Verdict
from minet_core.settings.adaptation import Candidate


class KindWords(NamedTuple):
    """A site's kind in one word and in a sentence."""

    short: str
    long: str


KIND_WORDS: dict[Kind | None, KindWords] = {
    "phantom": KindWords("phantom", "simulated anatomy, no patient"),
    "surrogate": KindWords("surrogate", "real scans of another source that stand in for this site"),
    "real": KindWords("real", "the site's own scans"),
    None: KindWords("kind unknown", "the site has not said what its scans are"),
}
STATUS_WORDS: dict[Status, str] = {
    "running": "The run goes on; these are the figures so far.",
    "completed": "Every declared round aggregated the replies it needed.",
    "partial": "A declared participation was not met in some round.",
    "failed": "The run ended without a global model that can be relied on.",
}
ARCHITECTURE_WORDS = {
    "minet": "MINet",
    "late-fusion": "late fusion",
    "edsr": "EDSR",
    "smore": "SMORE",
    "zeng": "Zeng et al.",
    "lyu": "Lyu et al.",
}
METHOD_WORDS = {
    "global": "global model",
    "adapted": "adapted at the site",
    "alone": "trained alone at the site",
    "ensemble": "mean of the models",
}
KEPT_WORDS: dict[Candidate, str] = {
    "global": "the global model",
    "adapted": "the global model as it was adapted there",
    "alone": "the model that was trained there alone",
    "ensemble": "the global model, the one adapted there and the one trained there alone, without one that is missing "
    "or plainly worse, and averages their images",
}
METRIC_WORDS: dict[Metric, str] = {"psnr_db": "PSNR", "ssim": "SSIM", "nmse": "NMSE"}


def architecture_text(federation: Mapping[str, Any]) -> str:
    """The name of the method that a federation trains.

    Parameters
    ----------
    federation
        Its settings, as a summary has them.

    Returns
    -------
    str
        As the field calls it; of a method without a name here, its setting.
    """
    name: str = federation.get("model", {}).get("architecture", "minet")
    return ARCHITECTURE_WORDS.get(name, name)


def method_label(method: str) -> str:
    """A method's name in a table.

    Parameters
    ----------
    method
        As a summary has it.

    Returns
    -------
    str
        "global model" for "global", where one of the site's own was trained; any other as it is.
    """
    return METHOD_WORDS.get(method, method)


def difference_text(difference: Difference) -> str:
    """A paired difference and its interval.

    Parameters
    ----------
    difference
        dB.

    Returns
    -------
    str
        "+0.42 [+0.31, +0.55]", or without an interval where there is none.
    """
    if difference.interval is None:
        return gain_text(difference.mean_db)
    low, high = (gain_text(end) for end in difference.interval)
    return f"{gain_text(difference.mean_db)} [{low}, {high}]"


def verdict_text(verdict: Verdict) -> str:
    """The verdict as sentences, naming each site and metric in which the model falls short.

    Parameters
    ----------
    verdict
        Of a summary.

    Returns
    -------
    str
        Sentences with a space between them.
    """
    sentences = []
    if verdict.beats_everywhere:
        sentences.append("The global model beats sinc and bicubic on every site, in PSNR and in SSIM.")
    by_site: dict[str, list[str]] = {}
    for shortfall in verdict.shortfalls:
        by_site.setdefault(shortfall.site, []).append(
            f"{shortfall.baseline} in {METRIC_WORDS[shortfall.metric]}"
        )
    sentences += [
        f"At {site} the global model does not beat {', '.join(what)}." for site, what in by_site.items()
    ]
    if verdict.unscored:
        sentences.append(f"Not evaluated: {', '.join(verdict.unscored)}.")
    return " ".join(sentences)


def count_text(number: int, noun: str) -> str:
    """A number of things, in the singular for one.

    Parameters
    ----------
    number
        Of things.
    noun
        In the singular; its plural ends in s.

    Returns
    -------
    str
        "1 round", "24 rounds".
    """
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def gain_text(gain_db: float) -> str:
    """A difference, with its sign.

    Parameters
    ----------
    gain_db
        dB.

    Returns
    -------
    str
        Two decimals, without the unit.
    """
    return f"{gain_db:+.2f}".replace("-", "−")


def size_text(n_bytes: float) -> str:
    """A number of bytes in decimal units, as network traffic is counted.

    Parameters
    ----------
    n_bytes
        0 or more.

    Returns
    -------
    str
        "1.50 MB": a thousand of a unit is one of the next.
    """
    for unit in ("B", "kB", "MB", "GB"):
        if n_bytes < 1000:
            return f"{n_bytes:.0f} B" if unit == "B" else f"{n_bytes:.2f} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.2f} TB"


def duration_text(seconds: float) -> str:
    """A duration in the two largest units that it has.

    Parameters
    ----------
    seconds
        0 or more, s.

    Returns
    -------
    str
        "12.3 s", "4 min 05 s" or "2 h 07 min".
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def code_meaning(code: str) -> str:
    """What a stable code stands for: the first line of its class in the exception tree.

    Parameters
    ----------
    code
        Such as "FM-F402".

    Returns
    -------
    str
        A sentence, also for a code that is not known.
    """
    if code == INTERNAL_CODE:
        return "A failure that has no code of its own: see the site's own log."
    pending: list[type[FedminetError]] = [FedminetError]
    while pending:
        failure = pending.pop()
        pending += failure.__subclasses__()
        if failure.code == code and failure.__doc__:
            return failure.__doc__.strip().splitlines()[0]
    return "A code that this version does not know."
