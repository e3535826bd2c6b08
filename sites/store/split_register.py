"""Which split every patient of a store was ever given (`splits.json`): kept when a patient is removed.

Who was tested on and comes back must not be trained on. The page holds the store's pseudonyms and no
other name.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from minet_core.errors import StoreDamaged
from minet_core.runtime.files.atomic_write import write_json
from minet_core.runtime.json_text import parse_json
from sites.store.split import SPLITS, Split

SPLITS_FILE = "splits.json"


def read_register(store: Path) -> dict[str, Split]:
    """The split of everyone who ever had one.

    Parameters
    ----------
    store
        The folder of the store.

    Returns
    -------
    dict[str, Split]
        By pseudonym; empty for a store without the page.

    Raises
    ------
    StoreDamaged
        FM-D207: the page cannot be read, or has another form.
    """
    path = store / SPLITS_FILE
    if not path.is_file():
        return {}
    try:
        content = parse_json(path.read_bytes())
        patients: dict[str, Split] = dict(content["patients"])
        if content["schema_version"] != 1 or not set(patients.values()) <= set(SPLITS):
            raise ValueError("another form of page")
    except (OSError, ValueError, KeyError, TypeError) as failure:
        raise StoreDamaged(
            "the register of splits cannot be read",
            got=f"{path.name}: {failure}",
            action="Restore it from a backup; without it a patient who was removed may come back into another split",
        ) from failure
    return patients


def write_register(store: Path, splits: Mapping[str, Split]) -> None:
    """Add splits to the page; nothing is written where nothing is new.

    Parameters
    ----------
    store
        The folder of the store.
    splits
        By pseudonym; they replace what the page says of the same patients.

    Raises
    ------
    StoreDamaged
        FM-D207: the page that is there cannot be read.
    """
    former = read_register(store)
    patients = dict(sorted({**former, **splits}.items()))
    if patients != former:
        write_json(store / SPLITS_FILE, {"schema_version": 1, "patients": patients})
