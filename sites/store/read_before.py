"""What earlier ingests read, so that it is not read again: a small file beside the store's pairs, never a truth.

An entry holds what the file system said of some files (sizes, times, numbers) and what was found in them then: a digest
of their bytes, or why no pair came of them. It counts while the file system says the same, and never for files that
were changed within the two seconds before they were looked at: a second change might then leave no trace. Whatever is
made is made from bytes that are read; the entries only say what need not be made. A lost or damaged file of entries
costs time alone. Paths are keyed digests, and no text that names a file is kept.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any

from minet_core.runtime.files.atomic_write import write_private
from minet_core.runtime.json_text import parse_json
from sites.store.pseudonym import keyed

FILE = "read-before.json"
SETTLED_S = 2.0
"""The coarsest clock of a file system in use (FAT's)."""
MAX_ENTRIES = 200_000
"""Of each kind; the oldest go first. An entry has about 200 bytes."""


class ReadBefore:
    """The entries of one store.

    Parameters
    ----------
    store
        The folder of the store.
    key
        The store's.
    version
        Of what reads and judges: entries of another one do not count.
    trusted
        False: nothing that was found before counts, and all is found anew.
    """

    def __init__(self, store: Path, *, key: bytes, version: str, trusted: bool = True) -> None:
        self._path, self._key, self._version = store / FILE, key, version
        content = _read(self._path)
        usable = trusted and content.get("version") == version
        self._changed = not usable
        self._kinds: dict[str, dict[str, Any]] = {
            kind: dict(content.get(kind, {})) if usable else {} for kind in ("digests", "refusals", "folders")
        }

    def digest_of(self, paths: Collection[Path], compute: Callable[[], str], *, part: str = "") -> str:
        """The digest of some files' content.

        Parameters
        ----------
        paths
            The files that `compute` reads.
        compute
            Reads them.
        part
            What of them it reads, where that is not all.

        Returns
        -------
        str
            What `compute` gives, now or when the files were last read.
        """
        name = keyed(self._key, "read", part, *sorted(str(path.absolute()) for path in paths))[:32]
        state = state_of(paths)
        former = self._kinds["digests"].get(name)
        if state is not None and former is not None and former[0] == state:
            return str(former[1])
        found = compute()
        if state is not None and state_of(paths) == state:
            self._put("digests", name, [state, found])
        return found

    def keep_digest(self, path: Path, digest: str) -> None:
        """Remember a file that was written here, with the digest of what was written.

        Parameters
        ----------
        path
            The file; nobody else writes to it.
        digest
            Of its bytes.
        """
        name = keyed(self._key, "read", "", str(path.absolute()))[:32]
        self._put("digests", name, [state_of([path], settled_s=0), digest])

    def refusal(self, fingerprint: str) -> dict[str, Any] | None:
        """Why no pair came of what has this fingerprint.

        Parameters
        ----------
        fingerprint
            Of scans and settings.

        Returns
        -------
        dict[str, Any] | None
            What `keep_refusal` was given.
        """
        return self._kinds["refusals"].get(fingerprint)

    def keep_refusal(self, fingerprint: str, content: dict[str, Any]) -> None:
        """Remember why no pair came of some scans.

        Parameters
        ----------
        fingerprint
            Of scans and settings.
        content
            JSON values without a name.
        """
        self._put("refusals", fingerprint, content)

    def folder(self, name: str) -> dict[str, Any] | None:
        """What came of a whole folder.

        Parameters
        ----------
        name
            A digest of its path.

        Returns
        -------
        dict[str, Any] | None
            What `keep_folder` was given.
        """
        return self._kinds["folders"].get(name)

    def keep_folder(self, name: str, content: dict[str, Any] | None) -> None:
        """Remember what came of a whole folder, or forget it.

        Parameters
        ----------
        name
            A digest of its path.
        content
            JSON values without a name; None: nothing to be remembered.
        """
        if content is None:
            self._changed |= self._kinds["folders"].pop(name, None) is not None
        else:
            self._put("folders", name, content)

    def save(self) -> None:
        """Write the entries, if any is new.

        Raises
        ------
        FileNotWritten
            FM-S509 or its kind.
        """
        if not self._changed:
            return
        kept = {kind: dict(list(entries.items())[-MAX_ENTRIES:]) for kind, entries in self._kinds.items()}
        write_private(self._path, json.dumps({"version": self._version, **kept}).encode())

    def _put(self, kind: str, name: str, content: Any) -> None:
        if self._kinds[kind].pop(name, None) != content:
            self._changed = True
        self._kinds[kind][name] = content  # the newest last


def state_of(paths: Iterable[Path], *, settled_s: float = SETTLED_S) -> str | None:
    """What the file system says of some files.

    Parameters
    ----------
    paths
        Links are followed, as a reader does.
    settled_s
        How long ago the last change must be.

    Returns
    -------
    str | None
        A digest of the size, the times of content and entry [ns], and the number of each; None where one is not there
        or has changed too lately.
    """
    latest, states = time.time() - settled_s, hashlib.sha256()
    for path in sorted(paths):
        try:
            found = path.stat()
        except OSError:
            return None
        if settled_s and max(found.st_mtime, found.st_ctime) > latest:
            return None
        states.update(f"{found.st_size} {found.st_mtime_ns} {found.st_ctime_ns} {found.st_ino}\n".encode())
    return states.hexdigest()


def _read(path: Path) -> dict[str, Any]:
    try:
        content = parse_json(path.read_bytes())
    except (OSError, ValueError):
        return {}
    kinds = ("digests", "refusals", "folders")
    whole = isinstance(content, dict) and all(isinstance(content.get(kind, {}), dict) for kind in kinds)
    return content if whole else {}
