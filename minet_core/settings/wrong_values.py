"""What is wrong with a settings file, in the words of who wrote it and not of the parser."""

from __future__ import annotations

from pathlib import Path

import yaml
from pydantic_core import ErrorDetails

from minet_core.errors import ConfigurationError
from minet_core.settings.names import PATTERNS_IN_WORDS

_SHOWN_CHARACTERS = 200
"""Of a wrong value in a message."""


def no_yaml(path: Path, failure: yaml.YAMLError | UnicodeDecodeError) -> ConfigurationError:
    """The failure of a file that is not YAML, with the place in it.

    Parameters
    ----------
    path
        Of the file.
    failure
        What its bytes or its lines were refused for.

    Returns
    -------
    ConfigurationError
        FM-C100, to be raised by the caller.
    """
    if isinstance(failure, UnicodeDecodeError):
        return ConfigurationError(
            f"{path} is not a YAML file",
            got=f"byte {failure.object[failure.start]:#04x} at place {failure.start}",
            expected="text in UTF-8",
            action="Save it as UTF-8, or take the file from a back-up",
        )
    return ConfigurationError(
        f"{path} is not a YAML file",
        got=_problem_of(failure),
        expected="lines `key: value`, a section's keys indented by two spaces",
        action="Correct the line that is named, or the one above it",
    )


def in_words(error: ErrorDetails) -> str:
    """What pydantic found wrong with a value, for a person who knows neither Python nor regular expressions.

    Parameters
    ----------
    error
        One of `ValidationError.errors()`.

    Returns
    -------
    str
        A clause of at most 200 characters.
    """
    if error["type"] == "string_pattern_mismatch":
        words = PATTERNS_IN_WORDS.get(error["ctx"]["pattern"])
        if words is not None:
            return f"it should be {words}"
    said = error["msg"].removeprefix("Value error, ")
    return shown(said[:1].lower() + said[1:])


def shown(text: str) -> str:
    """The beginning of a text, as a message shows it.

    Parameters
    ----------
    text
        Of a value or a key.

    Returns
    -------
    str
        All of it, or 200 characters and dots.
    """
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."


def _problem_of(failure: yaml.YAMLError) -> str:
    """A parser's complaint with its line and column, both counted from 1."""
    mark, problem = getattr(failure, "problem_mark", None), getattr(failure, "problem", None)
    if mark is None or problem is None:
        return shown(" ".join(str(failure).split()))
    return f"line {mark.line + 1}, column {mark.column + 1}: {shown(problem)}"
