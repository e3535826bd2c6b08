"""Reading one YAML file into frozen settings, once, at the edge.

A key that no setting has is refused and the nearest known key is named, so that a misspelt limit cannot
silently fall back to its default.
"""

from __future__ import annotations

import copy
import difflib
import functools
import logging
import typing
from collections.abc import Iterable, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator, model_validator

from minet_core.errors import ConfigurationError, FileMissing, InvalidSetting, UnknownKey
from minet_core.runtime.files.file_failures import naming_failures
from minet_core.settings.two_readings import refuse_two_readings
from minet_core.settings.wrong_values import in_words, no_yaml, shown

MAX_FILE_BYTES = 1 << 20
"""A settings file of every key with its comment has 12 KB."""
MAX_VALUES = 100_000
"""Aliases written out: one that names another nine times, nine deep, is 400 million values in 200 bytes."""
MAX_LEVELS = 100
MAX_KEPT_CHARACTERS = 1 << 16
"""What a text of more says is not kept for who reads it again."""


class Settings(BaseModel):
    """The base of every settings model: frozen, and closed to keys it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    @model_validator(mode="before")
    @classmethod
    def _take_former_keys(cls, content: Any) -> Any:
        """Take a key by its former name once more, and note it for the warning of who reads the file."""
        if not isinstance(content, dict):
            return content
        former = {
            key: name
            for key in content
            if (name := _present_name(key, cls)) is not None and name not in content
        }
        noted = _FORMER_KEYS.get()
        if noted is not None:
            noted.extend(former)
        return {former.get(key, key): value for key, value in content.items()}

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_yes_for_a_number(cls, value: Any, field: ValidationInfo) -> Any:
        """Refuse true and false, as which YAML reads yes, no, on and off: for a number pydantic takes 1 and 0."""
        held = (
            value.values()
            if isinstance(value, dict)
            else value
            if isinstance(value, list | tuple)
            else (value,)
        )
        if any(isinstance(one, bool) for one in held) and not _takes_bool(
            cls.model_fields[field.field_name or ""].annotation
        ):
            raise ValueError("true or false is there, and neither is wanted here")
        return value

    def keys_that_say_nothing(self) -> frozenset[str]:
        """Keys that are not written into a file, since beside the others they have no effect and keep their defaults.

        Returns
        -------
        frozenset of str
            None of them, unless a kind of settings says more.
        """
        return frozenset()


_LOG = logging.getLogger("fedminet.settings")

_FORMER_KEYS: ContextVar[list[str] | None] = ContextVar("former keys of the file that is read", default=None)
_told: set[str] = set()
"""Warnings that this process gave."""

FORMER_PREFIXES = {"most": "max", "least": "min"}
"""How limits began before they were called as everybody calls them; of version 0.1.0."""

AnySettings = TypeVar("AnySettings", bound=Settings)


def read_settings(path: Path, model: type[AnySettings], *, ours_to_edit: bool = True) -> AnySettings:
    """Read a YAML file into settings. Of keys by their former names a warning says how they are called now.

    Parameters
    ----------
    path
        Of a file of at most `MAX_FILE_BYTES`, UTF-8.
    model
        The class of the settings.
    ours_to_edit
        False for a file that nobody here may change, as a signed kit's: nothing is said of its keys' names.

    Returns
    -------
    AnySettings
        An instance of `model`, frozen.

    Raises
    ------
    FileMissing
        FM-C103, where there is no file.
    ConfigurationError
        FM-C100, for what is not YAML.
    UnknownKey, InvalidSetting
        FM-C101 and FM-C102; each names the file and the key.

    Examples
    --------
    >>> from pathlib import Path
    >>> from minet_core.settings.federation import FederationSettings
    >>> from minet_core.settings.presets import federation_of
    >>> from minet_core.settings.yaml_file import read_settings, write_settings
    >>> pilot = federation_of(name="pilot", sites=("north",), preset="quick", scale=2, rounds=3)
    >>> write_settings(Path("federation.yaml"), pilot)
    >>> federation = read_settings(Path("federation.yaml"), FederationSettings)
    >>> federation.rounds, federation.training.batch_size, federation == pilot
    (3, 8, True)
    """
    if not path.is_file():
        raise FileMissing(
            "a settings file is missing",
            got=path,
            action="Give the path of an existing file",
        )
    with naming_failures(f"{path} cannot be read", path=path), path.open("rb") as stream:
        text = stream.read(MAX_FILE_BYTES + 1)
    if len(text) > MAX_FILE_BYTES:
        raise ConfigurationError(
            f"{path} is no settings file", got="over 1 MiB", expected="some KB of keys and values"
        )
    try:
        content = parse_yaml(text.decode("utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as failure:
        raise no_yaml(path, failure) from failure
    if not isinstance(content, dict):
        raise ConfigurationError(
            f"{path} holds no settings",
            got="an empty file" if content is None else f"a {type(content).__name__} alone",
            expected="lines `key: value`",
            action="Take it from a back-up, or write it anew by docs/configuration.md",
        )
    former: list[str] = []
    noting = _FORMER_KEYS.set(former if ours_to_edit else None)
    try:
        return parse_settings(content, model, source=str(path))
    finally:
        _FORMER_KEYS.reset(noting)
        _tell_former(former, path)


def parse_yaml(text: str) -> Any:
    """What a YAML text says, by libyaml where PyYAML has it, ten times as fast.

    Parameters
    ----------
    text
        One document.

    Returns
    -------
    Any
        Plain values, lists and mappings.

    Raises
    ------
    yaml.YAMLError
        For what is not YAML, a date or a number that is none, a key that is there twice, a number that YAML 1.1 and 1.2
        read differently, aliases that hold themselves, and what would be more than `MAX_VALUES` values or `MAX_LEVELS`
        levels once its aliases are written out.
    """
    if len(text) > MAX_KEPT_CHARACTERS:
        return _parsed(text)
    return copy.deepcopy(_parsed_before(text))


def _parsed(text: str) -> Any:
    try:
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(text)
        try:
            root = loader.get_single_node()
            if root is not None:
                refuse_two_readings(root)
            content = None if root is None else loader.construct_document(root)
        finally:
            loader.dispose()
    except yaml.YAMLError:
        raise
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError) as failure:
        raise yaml.YAMLError(f"a value cannot be read: {failure}") from failure
    _count(content, {}, level=0)
    return content


_parsed_before = functools.lru_cache(maxsize=16)(_parsed)
"""A site reads its `site.yaml` four times for a message. The text decides, not the file's name or time."""


def _count(value: Any, counted: dict[int, int], *, level: int) -> int:
    """How many values `value` is, itself with all that it holds. counted: by identity, of what aliases share."""
    if not isinstance(value, dict | list | set | tuple):
        return 1
    if level > MAX_LEVELS:  # also what holds itself
        raise yaml.YAMLError(f"it is nested over {MAX_LEVELS} levels deep")
    known = counted.get(id(value))
    if known is not None:
        return known
    held: Iterable[Any] = [*value, *value.values()] if isinstance(value, dict) else value
    number = 1 + sum(_count(one, counted, level=level + 1) for one in held)
    if number > MAX_VALUES:
        raise yaml.YAMLError(f"it says over {MAX_VALUES} values")
    counted[id(value)] = number
    return number


def parse_settings(content: dict[str, object], model: type[AnySettings], *, source: str) -> AnySettings:
    """Settings from keys and values.

    Parameters
    ----------
    content
        As a file says them.
    model
        The class of the settings.
    source
        Names where they come from, in an error message.

    Returns
    -------
    AnySettings
        An instance of `model`, frozen.

    Raises
    ------
    UnknownKey
        FM-C101, with the nearest known key.
    InvalidSetting
        FM-C102, with the key and the value.
    """
    try:
        return model.model_validate(content)
    except ValidationError as failure:
        # A misspelt key shows twice, as unknown and as missing: the first says more.
        first = min(failure.errors(), key=lambda error: error["type"] != "extra_forbidden")
        key = shown(".".join(str(part) for part in first["loc"])) or "the keys together"
        if first["type"] == "extra_forbidden":
            raise UnknownKey(
                f"{source} holds an unknown key",
                got=repr(key),
                action=_suggestion(first["loc"], model),
            ) from failure
        # What is wrong of several keys together is in the text: all of them would hide it.
        got = shown(repr(first["input"])) if first["loc"] else None
        raise InvalidSetting(f"{source}: {key}: {in_words(first)}", got=got) from failure


def _tell_former(keys: Sequence[str], path: Path) -> None:
    """One warning for all keys of a file that have other names now, once a process."""
    if not keys:
        return
    beginnings = sorted({key.partition("_")[0] for key in keys})
    renamed = " and ".join(f"{former}_ to {FORMER_PREFIXES[former]}_" for former in beginnings)
    text = f"{path} has keys by their former names, which are taken: please rename {renamed} in {', '.join(keys)}"
    warn_once(text)


def warn_once(text: str) -> None:
    """Log a warning about settings, once a process: a site reads its file at every message.

    Parameters
    ----------
    text
        The whole warning.
    """
    if text not in _told:
        _told.add(text)
        _LOG.warning("%s", text)


def write_settings(path: Path, settings: Settings) -> None:
    """Write settings to a YAML file, each key with its description as a comment.

    Parameters
    ----------
    path
        Of the file; written over where it is there.
    settings
        What to write.
    """
    path.write_text(settings_text(settings), encoding="utf-8")


def settings_text(settings: Settings, *, indent: str = "") -> str:
    """The YAML of `settings`, commented from the fields' descriptions, as a person would write it.

    Parameters
    ----------
    settings
        What to write.
    indent
        Spaces before each key.

    Returns
    -------
    str
        Lines that `parse_yaml` and `parse_settings` read back as equal settings.
    """
    lines: list[str] = []
    written = settings.model_dump(mode="json")
    for name, field in type(settings).model_fields.items():
        # A key that a file of before it does not have, or one that says nothing here.
        if name not in written or name in settings.keys_that_say_nothing():
            continue
        value = getattr(settings, name)
        if isinstance(value, Settings):
            lines += [f"{indent}{name}:", settings_text(value, indent=indent + "  ").rstrip("\n")]
            continue
        text = yaml.safe_dump(written[name], default_flow_style=True, width=10_000, allow_unicode=True)
        text = text.removesuffix("...\n").strip()
        comment = f"  # {field.description}" if field.description else ""
        lines.append(f"{indent}{name}: {text}{comment}")
    return "\n".join(lines) + "\n"


def _takes_bool(annotation: Any) -> bool:
    """Whether a field may hold true and false, itself or in what it holds."""
    if isinstance(annotation, type) and issubclass(annotation, bool | BaseModel):
        return True
    return (
        isinstance(annotation, bool)
        or annotation is Any
        or any(map(_takes_bool, typing.get_args(annotation)))
    )


def _present_name(key: object, model: type[BaseModel]) -> str | None:
    """What a key of a former version is called now; None for one that is no such key."""
    prefix, _, rest = str(key).partition("_")
    if prefix not in FORMER_PREFIXES:
        return None
    name = f"{FORMER_PREFIXES[prefix]}_{rest}"
    return name if name in model.model_fields and key not in model.model_fields else None


def _suggestion(location: Sequence[str | int], model: type[BaseModel]) -> str:
    """The nearest key of the part that the unknown one stands in; where none is near, the keys that it may have."""
    part = model
    for step in location[:-1]:
        part = next(iter(_models_of(part, str(step))), part)
    known = sorted(part.model_fields)
    nearest = difflib.get_close_matches(str(location[-1]), known, n=1)
    said = f"Did you mean {nearest[0]!r}?" if nearest else f"Known keys: {', '.join(known)}."
    return f"{said} A key that only another release has is to be taken out"


def _models_of(model: type[BaseModel], name: str) -> list[type[BaseModel]]:
    """The settings that a key of `model` may hold."""
    field = model.model_fields.get(name)
    if field is None:
        return []
    candidates = (field.annotation, *typing.get_args(field.annotation))
    return [one for one in candidates if isinstance(one, type) and issubclass(one, BaseModel)]
