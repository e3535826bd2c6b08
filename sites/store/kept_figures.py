"""What the series of a store were acquired with (`protocol.json`): figures that later ingests are compared with.

Studies are called by a keyed digest. Figures go with their patient. The page is of use for the median alone, so a
damaged one costs that and nothing else: it is said, and the next ingest begins another.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, FiniteFloat, StringConstraints, ValidationError

from minet_core.runtime.files.atomic_write import write_json
from sites.store.pseudonym import KEY_FILE, keyed, site_key

FILE = "protocol.json"
MAX_BYTES = 1 << 26
NAME_DIGITS = 16

Figures = dict[Literal["target", "reference"], dict[str, float | None]]
"""By role and name of the figure; None where the series does not say it."""
_Digits = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]+$")]


class KeptStudy(BaseModel):
    """Whose a study is, by pseudonym, and its figures."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    patient: _Digits
    figures: dict[Literal["target", "reference"], dict[str, FiniteFloat | None]]


class _Page(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    schema_version: Literal[1] = 1
    studies: dict[_Digits, KeptStudy] = {}


@dataclass(frozen=True)
class KeptFigures:
    """Of a store. key: the site's. readable: whether the page was none or whole."""

    key: bytes
    studies: Mapping[str, KeptStudy]
    readable: bool = True

    def without(self, labels: Collection[str]) -> list[Figures]:
        """The figures of the store's other studies.

        Parameters
        ----------
        labels
            Of the studies to leave out.

        Returns
        -------
        list[Figures]
            In the order of the page.
        """
        left_out = {_name(label, key=self.key) for label in labels}
        return [study.figures for name, study in self.studies.items() if name not in left_out]


def read_kept(store: Path) -> KeptFigures | None:
    """The figures of a store's series.

    Parameters
    ----------
    store
        The folder of the store.

    Returns
    -------
    KeptFigures | None
        None for a store without a key, which has no series; empty without the page, or where it is damaged.

    Raises
    ------
    StoreDamaged
        FM-D207: the key cannot be read.
    """
    if not (store / KEY_FILE).exists():
        return None
    key, path = site_key(store, may_make=False), store / FILE
    try:
        with path.open("rb") as stream:
            content = stream.read(MAX_BYTES)
        return KeptFigures(key, _Page.model_validate_json(content).studies)
    except FileNotFoundError:
        return KeptFigures(key, {})
    except (OSError, ValidationError):
        return KeptFigures(key, {}, readable=False)


def keep_figures(store: Path, new: Mapping[str, KeptStudy], *, patients: Collection[str]) -> None:
    """Add the figures of an ingest's studies, and drop those of patients who are not in the store.

    Parameters
    ----------
    store
        The folder of the store, held for writing.
    new
        By label of the study; they replace what the page says of the same.
    patients
        Everyone in the store, by pseudonym.

    Raises
    ------
    FileNotWritten
        FM-S509 or its kind.
    """
    former = read_kept(store)
    if former is None:
        return
    named = {_name(label, key=former.key): study for label, study in new.items()}
    studies = {**former.studies, **named}
    left = {name: study for name, study in sorted(studies.items()) if study.patient in patients}
    if left != former.studies or not former.readable:
        write_json(store / FILE, _Page(studies=left).model_dump(mode="json"))


def _name(label: str, *, key: bytes) -> str:
    return keyed(key, "protocol", label)[:NAME_DIGITS]
