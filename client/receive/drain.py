"""Emptying the inbox: which studies an ingest takes up, and where each goes when it is done.

A study to which nothing came for `receive.settled_s` is whole. With it go the objects of the same study that were set
aside before, or that the inbox still keeps of what the store took: a study that came in two halves is one again.

The order of the steps makes a kill harmless. Objects are renamed, never copied; what an ended ingest left in
`ingesting` goes back to `received` first, where a newer object of the same name stays. An object leaves for `taken`
when the store, on the disk, has the study.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from client.receive.inbox import Inbox, fsync_folder
from minet_core.errors import FedminetError, RunBusy, StudyIncomplete
from minet_core.runtime.files.atomic_write import write_json
from minet_core.runtime.files.file_failures import naming_failures
from minet_core.runtime.files.file_lock import held
from sites.pairing.dicom_pairs import study_label
from sites.scans.dicom.derived_header import read_elements
from sites.scans.dicom.elements import patient_id_of, value_of
from sites.settings.receive_settings import ReceiveSettings
from sites.store.pseudonym import pseudonym

OBJECTS = "objects.json"
DAY_S = 86_400.0


@dataclass(frozen=True)
class Batch:
    """What an ingest has before it: `folder` with the studies of these labels.

    incomplete: studies of which the store has more than what came, set aside. n_arriving: studies that are left.
    """

    inbox: Inbox
    settings: ReceiveSettings
    labels: tuple[str, ...]
    incomplete: tuple[tuple[str, StudyIncomplete], ...]
    n_arriving: int

    @property
    def folder(self) -> Path:
        """What is to be ingested."""
        return self.inbox.ingesting

    def settle(self, *, taken: Collection[str], refused: Collection[str]) -> dict[str, int]:
        """Put every study where it belongs; how many went where.

        taken: labels of which the store has a pair, on the disk. refused: labels of which anything was refused. A
        study that is neither, since nothing in it is a measured MR image, is set aside too.
        """
        kept = [label for label in self.labels if label in taken and label not in refused]
        with naming_failures("the inbox cannot be written to", path=self.inbox.folder):
            for label in self.labels:
                if label in kept:
                    _keep(self.inbox, label)
                else:
                    _move(_place(self.inbox.ingesting, label), _place(self.inbox.refused, label))
            _forget_old(self.inbox, self.settings.keep_taken_days)
        return {
            "taken": len(kept),
            "set_aside": len(self.labels) - len(kept) + len(self.incomplete),
            "arriving": self.n_arriving,
        }


@contextlib.contextmanager
def draining(
    inbox: Inbox, settings: ReceiveSettings, *, withdrawn: Collection[str], again: bool = False
) -> Iterator[Batch]:
    """Take up what is whole; what is not settled when the block is left stays in the inbox.

    withdrawn: pseudonyms of patients whose objects are removed. again: take up everything that was set aside. Raises
    RunBusy (FM-S507); FileNotWritten (FM-S509) or its kind.
    """
    inbox.make_folders()
    with held(inbox.folder / ".ingest.lock") as alone:
        if not alone:
            raise RunBusy("another ingest empties the inbox", action="Wait until it has ended")
        with naming_failures("the inbox cannot be written to", path=inbox.folder):
            _put_back(inbox)
            _forget_old(inbox, settings.keep_taken_days)
            remove_patients(inbox, withdrawn)
            batch = _take_up(inbox, settings, again=again)
        try:
            yield batch
        finally:
            with naming_failures("the inbox cannot be written to", path=inbox.folder):
                _put_back(inbox)


def remove_patients(inbox: Inbox, pseudonyms: Collection[str]) -> int:
    """Remove every object of some patients, wherever in the inbox; how many there were. Raises OSError."""
    count = 0
    if pseudonyms:
        for path in sorted(inbox.folder.rglob("*.dcm")):
            if _owner(inbox, path)[1] in pseudonyms:
                path.unlink(missing_ok=True)
                count += 1
    return count


def _take_up(inbox: Inbox, settings: ReceiveSettings, *, again: bool) -> Batch:
    """Move the studies that are whole to `ingesting`, with what there is of each elsewhere."""
    studies: dict[str, list[Path]] = defaultdict(list)
    newest: dict[str, float] = defaultdict(float)
    for path in sorted(inbox.received.glob("*.dcm")):
        label = _owner(inbox, path)[0]
        studies[label].append(path)
        newest[label] = max(newest[label], path.stat().st_mtime)
    arriving = {label for label, latest in newest.items() if time.time() - latest < settings.settled_s}
    found = sorted(set(studies) - arriving)
    if again:
        found = sorted({*found, *(_label(one) for one in inbox.refused.iterdir())} - arriving)
    labels, incomplete = list[str](), list[tuple[str, StudyIncomplete]]()
    for label in found:
        place = _place(inbox.ingesting, label)
        for former in (inbox.taken, inbox.refused):
            _move(_place(former, label), place)
        for path in studies[label]:  # last: what came again takes the place of what was there
            path.replace(place / path.name)
        fsync_folder(place)
        missing = _objects(inbox, label) - {path.name for path in place.glob("*.dcm")}
        if missing:
            _move(place, _place(inbox.refused, label))
            incomplete.append((label, _incomplete(len(missing))))
        elif any(place.iterdir()):
            labels.append(label)
    fsync_folder(inbox.received)
    return Batch(inbox, settings, tuple(labels), tuple(incomplete), len(arriving))


def _incomplete(n_missing: int) -> StudyIncomplete:
    return StudyIncomplete(
        "a study that the store has came again in part",
        got=f"{n_missing} of its objects are missing",
        expected="every object that the store took",
        action="Have the PACS send the whole study; until then the store's pair stays as it is",
    )


def _owner(inbox: Inbox, path: Path) -> tuple[str, str | None]:
    """The study's label and the patient's pseudonym; an object that cannot be read is a study of its own."""
    try:
        header = read_elements(path, name=path.name, keywords=["PatientID", "StudyInstanceUID"])
        patient, study = patient_id_of(header), str(value_of(header, "StudyInstanceUID") or "")
    except FedminetError:
        return f"object {path.stem[:8]}", None
    return study_label(patient, study, key=inbox.key), pseudonym(inbox.key, patient)


def _keep(inbox: Inbox, label: str) -> None:
    """The list of the objects first: a kill after it has the study ingested once more, to no effect."""
    source, place = _place(inbox.ingesting, label), _place(inbox.taken, label)
    names = _objects(inbox, label) | {path.name for path in source.glob("*.dcm")}
    place.mkdir(exist_ok=True, mode=0o700)
    write_json(place / OBJECTS, sorted(names))
    _move(source, place)


def _objects(inbox: Inbox, label: str) -> set[str]:
    """The names of the objects that the store took of a study."""
    path = _place(inbox.taken, label) / OBJECTS
    return set(json.loads(path.read_text())) if path.is_file() else set()


def _forget_old(inbox: Inbox, keep_days: float | None) -> None:
    """Remove objects that were taken longer ago than they are kept; the lists stay."""
    if keep_days is None:
        return
    for place in inbox.taken.iterdir():
        listed = place / OBJECTS
        if listed.is_file() and time.time() - listed.stat().st_mtime >= keep_days * DAY_S:
            for path in place.glob("*.dcm"):
                path.unlink()


def _put_back(inbox: Inbox) -> None:
    """What an ingest did not settle goes back; an object that came again meanwhile is the newer one."""
    for place in inbox.ingesting.iterdir():
        for path in place.glob("*.dcm"):
            if (inbox.received / path.name).exists():
                path.unlink()
            else:
                path.rename(inbox.received / path.name)
        shutil.rmtree(place)
    fsync_folder(inbox.received)


def _move(source: Path, place: Path) -> None:
    """Every object of a folder into another one. The emptied one goes, where nothing else is in it."""
    place.mkdir(exist_ok=True, mode=0o700)
    if not source.is_dir():
        return
    for path in source.glob("*.dcm"):
        path.replace(place / path.name)
    fsync_folder(place)
    if not any(source.iterdir()):
        source.rmdir()


def _place(folder: Path, label: str) -> Path:
    return folder / label.replace(" ", "-")


def _label(place: Path) -> str:
    return place.name.replace("-", " ")
