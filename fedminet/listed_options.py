"""Options of the command line that are several words or numbers with commas between them."""

from __future__ import annotations

import math
from collections.abc import Collection

from minet_core.errors import ConfigurationError

MAX_DIGITS = 9
"""Of a whole number. Seeds and counts have fewer, and Python itself refuses to read some thousands of them."""


def listed_words(text: str, *, option: str, known: Collection[str]) -> tuple[str, ...]:
    """`minet, sinc` as words, each once, in their order.

    Parameters
    ----------
    text
        What the option says.
    option
        Its name, for the failure.
    known
        The words that are taken.

    Returns
    -------
    tuple of str
        One or more of `known`.

    Raises
    ------
    ConfigurationError
        FM-C100, for another word or none between two commas.
    """
    words = [part.strip() for part in text.split(",")]
    if unknown := [word for word in words if word not in known]:
        raise _not_understood(option, got=unknown[0] or text, expected=f"{' or '.join(known)}, with commas")
    return tuple(dict.fromkeys(words))


def listed_whole_numbers(text: str, *, option: str, minimum: int = 0) -> tuple[int, ...]:
    """`2,7` as numbers, each once, in their order.

    Parameters
    ----------
    text, option
        As of `listed_words`.
    minimum
        The least number that is taken.

    Returns
    -------
    tuple of int
        One or more, of at most `MAX_DIGITS` digits.

    Raises
    ------
    ConfigurationError
        FM-C100, for anything else.
    """
    numbers = []
    for part in (part.strip() for part in text.split(",")):
        digits = part.isascii() and part.isdecimal() and len(part) <= MAX_DIGITS
        if not digits or int(part) < minimum:
            wanted = f"whole numbers from {minimum} on, with commas"
            raise _not_understood(option, got=part or text, expected=wanted)
        numbers.append(int(part))
    return tuple(dict.fromkeys(numbers))


def listed_rates(text: str, *, option: str) -> tuple[float, ...]:
    """`3e-4,1e-3` as learning rates, each once, in their order.

    Parameters
    ----------
    text, option
        As of `listed_words`.

    Returns
    -------
    tuple of float
        One or more; finite and over zero.

    Raises
    ------
    ConfigurationError
        FM-C100, for anything else, `nan` and `inf` too.
    """
    rates = []
    for part in text.split(","):
        try:
            rate = float(part)
        except ValueError:
            rate = math.nan
        if not (math.isfinite(rate) and rate > 0):
            raise _not_understood(
                option, got=part.strip() or text, expected="learning rates over zero, with commas"
            )
        rates.append(rate)
    return tuple(dict.fromkeys(rates))


def _not_understood(option: str, *, got: str, expected: str) -> ConfigurationError:
    shown = got if len(got) <= 40 else f"{got[:40]}..."
    return ConfigurationError(f"{option} is not understood", got=repr(shown), expected=expected)
