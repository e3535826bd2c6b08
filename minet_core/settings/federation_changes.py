"""What is different between two federation files, in words, for the person who has to agree to the second."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic_core import to_jsonable_python

from minet_core.settings.federation import FederationSettings
from minet_core.settings.yaml_file import Settings

FIRST = (
    *(
        "name",
        "rounds",
        "algorithm",
        "training",
        "local_work",
        "adaptation",
        "model",
        "sites",
        "scale",
        "seed",
    ),
    *("traffic", "participation", "quarantine"),
)
"""Sections in the order in which they matter to a hospital; any other follows."""


def federation_changes(former: FederationSettings, present: FederationSettings) -> tuple[str, ...]:
    """The settings that differ between two federation files, one line for each.

    Parameters
    ----------
    former, present
        The file that was agreed to, and the one that is to be agreed to.

    Returns
    -------
    tuple of str
        `rounds: 6 -> 1000000`, what matters most to a hospital first (`FIRST`); empty where the files say the same.
    """
    before, after = _said(former), _said(present)
    keys = sorted(before.keys() | after.keys(), key=_place)
    return tuple(
        f"{key}: {_word(before.get(key))} -> {_word(after.get(key))}"
        for key in keys
        if before.get(key) != after.get(key)
    )


def federation_in_words(federation: FederationSettings) -> tuple[str, ...]:
    """What a first federation file asks for, in the lines that a hospital looks at first.

    Parameters
    ----------
    federation
        The file.

    Returns
    -------
    tuple of str
        `rounds: 24`; settings that are null are left out.
    """
    leaves = _leaves(federation.model_dump(mode="json"))
    shown = (
        *("name", "rounds", "algorithm.name", "training.local_steps", "training.local_epochs"),
        *("training.local_seconds", "training.batch_size", "training.patch_px", "model.architecture"),
        *("adaptation.head_steps", "adaptation.steps", "adaptation.rates", "adaptation.alone"),
    )
    return tuple(f"{key}: {_word(leaves[key])}" for key in shown if leaves.get(key) is not None)


def _said(settings: Settings, prefix: str = "") -> dict[str, Any]:
    """Every setting by its key, also one that a file leaves out where it has its default: so `1 -> 20` is told."""
    found: dict[str, Any] = {}
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if isinstance(value, Settings):
            found |= _said(value, f"{prefix}{name}.")
        else:
            found |= _leaves({name: to_jsonable_python(value)}, prefix)
    return found


def _leaves(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in content.items():
        if isinstance(value, dict):
            found |= _leaves(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def _place(key: str) -> tuple[int, str]:
    section = key.partition(".")[0]
    return (FIRST.index(section) if section in FIRST else len(FIRST), key)


def _word(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return str(value)
