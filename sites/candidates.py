"""What a search of a folder finds: pairs of files to be tried, what was refused, and what was passed over."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from minet_core.runtime.errors import FedminetError
from sites.split import Split


@dataclass(frozen=True)
class Candidate:
    """Two files that should make a pair. `patient_id` is the hospital's: it is never written to the store.

    split: where a list puts the patient; None: to be drawn.
    """

    patient_id: str
    target: Path
    reference: Path
    label: str
    split: Split | None = None


@dataclass(frozen=True)
class Refusal:
    """A scan or pair that was not taken. For the site's own eyes: `label` and `message` hold paths."""

    label: str
    code: str
    message: str


@dataclass
class Found:
    """What a folder holds. `ignored`: scan files that the definition does not speak of."""

    candidates: list[Candidate] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)

    def refuse(self, label: str, failure: FedminetError) -> None:
        self.refused.append(Refusal(label=label, code=failure.code, message=str(failure)))


def label_of(path: Path, source: Path) -> str:
    """A file's path below the folder that is searched."""
    return path.relative_to(source).as_posix()
