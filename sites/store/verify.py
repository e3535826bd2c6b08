"""Verifying a store: every file against its digest, and what the store holds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minet_core.errors import StoreDamaged
from minet_core.runtime.files.atomic_write import sha256_of_file
from sites.store.cohort import Cohort, cohort_lines
from sites.store.pair_file import INGEST_AGAIN, read_failure
from sites.store.pseudonym import site_key
from sites.store.store import Store


@dataclass(frozen=True)
class CheckReport:
    """A store that was found whole. `loose`: files that no cohort names, of an interrupted ingest or replaced since."""

    cohort: Cohort
    n_bytes: int
    loose: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """The report as plain values.

        Returns
        -------
        dict[str, Any]
            The cohort's digest, site, kind and counts, `bytes` of the pair files, the loose files and the remarks.
        """
        counts = {split: count.model_dump() for split, count in self.cohort.counts.items()}
        return {
            "cohort": self.cohort.digest,
            "site": self.cohort.site,
            "data_kind": self.cohort.data_kind,
            "counts": counts,
            "bytes": self.n_bytes,
            "loose": list(self.loose),
            "remarks": self.cohort.remarks(),
        }

    def as_text(self) -> str:
        """The report for a person."""
        cohort = self.cohort
        lines = [
            f"{len(cohort.pairs)} pairs, {self.n_bytes / 1e6:.0f} MB, all digests match.",
            *cohort_lines(cohort),
        ]
        if self.loose:
            lines.append(
                f"{len(self.loose)} files that the cohort does not name: replaced by the last ingest, or of an "
                "interrupted one, which is to be repeated. The next ingest uses or removes them."
            )
        return "\n".join(lines)


def check(store: Path) -> CheckReport:
    """Read every byte of the store.

    Parameters
    ----------
    store
        The folder of the store.

    Returns
    -------
    CheckReport
        Of a store that was found whole.

    Raises
    ------
    StoreDamaged
        FM-D207, naming the files; or the key is missing or damaged.
    NoScansFound
        FM-D205: the store holds no cohort.
    FileNotWritten
        FM-S510 or another kind: the file system refuses a file that may be whole.
    """
    cohort = Store(store).cohort
    site_key(store, may_make=False)
    damaged, n_bytes = [], 0
    for pair in cohort.pairs:
        path = store / pair.file
        try:
            if not path.is_file():
                damaged.append(f"{pair.file} (missing)")
                continue
            if sha256_of_file(path) != pair.sha256:
                damaged.append(pair.file)
                continue
            n_bytes += path.stat().st_size
        except OSError as failure:
            unread = read_failure(failure, path, what=pair.file)
            if not isinstance(unread, StoreDamaged):
                raise unread from failure
            damaged.append(f"{pair.file} ({failure.strerror})")
    if damaged:
        raise StoreDamaged("files do not match their digests", got=", ".join(damaged), action=INGEST_AGAIN)
    known = {pair.file for pair in cohort.pairs}
    loose = tuple(path.name for path in sorted(store.glob("*.h5")) if path.name not in known)
    return CheckReport(cohort=cohort, n_bytes=n_bytes, loose=loose)
