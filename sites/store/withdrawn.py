"""Who was taken out of a store for good (`withdrawn.json`): pseudonyms, each with the digest of the cohort it left.

The page is the one step that counts. Who is on it is in no cohort that is read from then on, whatever was or was not
removed when the command ended; and no ingest takes the patient again.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from minet_core.errors import StoreDamaged
from minet_core.runtime.files.atomic_write import write_json
from minet_core.runtime.json_text import parse_json
from minet_core.settings.yaml_file import Settings
from sites.store.cohort import Hexadecimal

WITHDRAWN_FILE = "withdrawn.json"


class _Page(Settings):
    """The file."""

    schema_version: Literal[1] = 1
    patients: dict[Hexadecimal, Hexadecimal]


def read_withdrawn(store: Path) -> dict[str, str]:
    """Who was withdrawn.

    Parameters
    ----------
    store
        The folder of the store.

    Returns
    -------
    dict[str, str]
        By pseudonym, the digest of the last cohort that the patient was in; empty for a store without the page.

    Raises
    ------
    StoreDamaged
        FM-D207: the page cannot be read, or has another form.
    """
    path = store / WITHDRAWN_FILE
    if not path.exists():
        return {}
    try:
        page = _Page.model_validate(parse_json(path.read_bytes()))
    except (OSError, ValueError, ValidationError) as failure:
        raise StoreDamaged(
            "the list of withdrawn patients cannot be read",
            got=path.name,
            action="Restore it from a backup; without it a patient who was withdrawn would be trained on",
        ) from failure
    return dict(page.patients)


def add_withdrawn(store: Path, patient: str, *, cohort: str) -> None:
    """Put a patient on the page, for good; the store is held for writing.

    Parameters
    ----------
    store
        The folder of the store.
    patient
        The pseudonym; one that is on the page stays as it is.
    cohort
        The digest of the cohort that the patient leaves.

    Raises
    ------
    StoreDamaged
        FM-D207: the page that is there cannot be read.
    FileNotWritten
        FM-S509 or its kind.
    """
    former = read_withdrawn(store)
    if patient not in former:
        page = _Page(patients=dict(sorted({**former, patient: cohort}.items())))
        write_json(store / WITHDRAWN_FILE, page.model_dump(mode="json"))
