"""The hospital's word to a federation file: what a kit changes of the one that it agreed to before."""

from __future__ import annotations

from collections.abc import Callable

from minet_core.errors import PolicyRefused
from minet_core.settings.federation import FederationSettings
from minet_core.settings.federation_changes import federation_changes, federation_in_words

Agree = Callable[[tuple[str, ...]], bool]
"""Asks a person whether these changes are agreed to."""


def changes_of(
    former: FederationSettings | None, former_digest: str | None, present: FederationSettings
) -> tuple[str, ...]:
    """What `present` changes, one line a setting; empty where nothing is, or where none was agreed to before.

    former: None where the kit in use cannot be read. former_digest: of the file that was agreed to last, where known.
    """
    if former is not None:
        return federation_changes(former, present)
    if former_digest is None or former_digest == present.digest():
        return ()
    return ("the former file cannot be read; the new one says", *federation_in_words(present))


def require_agreed(changes: tuple[str, ...], agree: Agree | None) -> None:
    """Raise PolicyRefused (FM-F420) where there are changes and nobody agrees; agree None: nobody can be asked."""
    if not changes or (agree is not None and agree(changes)):
        return
    raise PolicyRefused(
        "the kit has another federation file than this site agreed to",
        got="; ".join(changes),
        action="Ask the coordinator why; `fedminet site accept` shows the changes and asks, with --yes it takes them",
    )
