"""What came of a folder of DICOM the last time, given again where neither the folder nor the store has changed.

Of DICOM alone: its reports call everything by keyed names, and to read its headers again takes longest. A folder counts
as unchanged where every file and folder in it has the size, the times and the number that it had, none of them changed
within two seconds before the ingest began to look or later, and the settings and every file of the store are the same.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import time
from pathlib import Path

from minet_core.errors import FedminetError
from minet_core.runtime.files.atomic_write import status_of
from sites.ingest_report import Accepted, IngestReport
from sites.pairing.candidates import Refusal
from sites.pairing.protocol_drift import Drift
from sites.settings.site_settings import SiteSettings
from sites.store.pseudonym import KEY_FILE, keyed, site_key
from sites.store.read_before import FILE, SETTLED_S, ReadBefore
from sites.store.store import COHORT_FILE, LOCK_FILE, Store


def recall(
    source: Path, store: Path, settings: SiteSettings, *, version: str, prune: bool = False
) -> IngestReport | None:
    """The report of the last ingest of a folder, if another one would come to the same.

    Parameters
    ----------
    source
        The folder with the scans.
    store
        The folder of the store.
    settings
        The site's.
    version
        Of what reads and judges.
    prune
        As it would be given to the ingest.

    Returns
    -------
    IngestReport | None
        With every pair as already there; None where the ingest must be made.
    """
    began = time.monotonic()
    if settings.reader != "dicom" or not all(
        (store / name).exists() for name in (KEY_FILE, COHORT_FILE, FILE)
    ):
        return None
    try:
        key = site_key(store, may_make=False)
        former = ReadBefore(store, key=key, version=version).folder(_name(source, key))
        if former is None or former["state"] != _state(source, store, settings, prune=prune):
            return None
        cohort, report = Store(store).cohort, former["report"]
        return IngestReport(
            accepted=tuple(Accepted(**{**one, "reused": True}) for one in report["accepted"]),
            refused=tuple(Refusal(**one) for one in report["refused"]),
            cohort=cohort,
            seconds=time.monotonic() - began,
            ignored=tuple(report["ignored"]),
            remarks=tuple(report["remarks"]),
            drifts=tuple(Drift(**{**one, "labels": tuple(one["labels"])}) for one in report["drifts"]),
            mapping=report["mapping"],
            missing=report["missing"],
            removed=report["removed"],
        )
    except (FedminetError, KeyError, TypeError):  # the ingest itself says what is wrong
        return None


def remember(
    report: IngestReport,
    source: Path,
    store: Path,
    settings: SiteSettings,
    *,
    before: ReadBefore,
    began: float,
) -> None:
    """Keep the report of an ingest for the next one.

    Parameters
    ----------
    report
        What came of it.
    source
        The folder with the scans.
    store
        The folder of the store.
    settings
        The site's.
    before
        The store's entries; one is added or removed, none is written.
    began
        When the folder was first looked at, in seconds of the clock.
    """
    if settings.reader != "dicom":
        return
    key = site_key(store, may_make=False)
    state = _state(source, store, settings, prune=report.removed, settled=began - SETTLED_S)
    content = dataclasses.asdict(dataclasses.replace(report, cohort=None))  # type: ignore[arg-type]
    kept = None if state is None else {"state": state, "report": {**content, "cohort": None}}
    before.keep_folder(_name(source, key), kept)


def _name(source: Path, key: bytes) -> str:
    return keyed(key, "folder", str(source.absolute()))[:32]


def _state(
    source: Path, store: Path, settings: SiteSettings, *, prune: bool, settled: float | None = None
) -> str | None:
    """A digest of all that an ingest depends on. None: a folder is not listed, or something changed after `settled`."""
    failed: list[OSError] = []
    state = hashlib.sha256(json.dumps([settings.model_dump(mode="json"), prune], sort_keys=True).encode())
    for place, folders, names in os.walk(source, onerror=failed.append):
        here = Path(place)
        if here.resolve() == store.resolve():
            folders.clear()
            continue
        folders.sort()
        for path in (here, *(here / name for name in sorted(names))):
            try:
                found = path.lstat()
            except OSError:
                return None
            if settled is not None and max(found.st_mtime, found.st_ctime) > settled:
                return None
            said = (found.st_mode, found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)
            state.update(f"{os.fspath(path)} {said}\n".encode("utf-8", "surrogateescape"))
    for path in sorted(store.iterdir()):
        status = None if path.name in (FILE, LOCK_FILE) else status_of(path)
        if status is not None:
            state.update(f"{path.name} {status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}\n".encode())
    return None if failed else state.hexdigest()
