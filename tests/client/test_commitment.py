"""Storage commitment by other peers than Orthanc: who is refused, and what is not committed to."""

from __future__ import annotations

import contextlib
import queue
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from pydicom import dcmread
from pydicom.dataset import Dataset
from pynetdicom import AE, build_context, evt
from pynetdicom.sop_class import StorageCommitmentPushModel, StorageCommitmentPushModelInstance

from client.pacs.send import send_series
from client.receive.inbox import Inbox
from client.receive.peer import Caller, Peer, associated
from client.receive.receiver import Receiver
from sites.settings.receive_settings import ReceiveSettings
from tests.support.dicom_series import write_classic
from tests.support.small_scans import affine_of

ENHANCED = "1.2.840.10008.5.1.4.1.1.4.1"
TRANSACTION = "2.25.4711"


@contextlib.contextmanager
def scanner() -> Iterator[tuple[int, queue.Queue[tuple[int, Dataset]]]]:
    """A peer that waits for reports; its port, and what came: the event's type and its information."""
    reports: queue.Queue[tuple[int, Dataset]] = queue.Queue()

    def reported(event: Any) -> tuple[int, None]:
        reports.put((event.event_type, event.event_information))
        return 0, None

    application = AE(ae_title="SCANNER")
    application.add_supported_context(StorageCommitmentPushModel, scu_role=True, scp_role=True)
    handlers = [(evt.EVT_N_EVENT_REPORT, reported)]
    server = application.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    try:
        yield server.server_address[1], reports
    finally:
        server.shutdown()


def ask(port: int, content: Dataset, *, title: str = "SCANNER", action: int = 1) -> int:
    """The status that a request has."""
    with associated(
        Caller(title, 20), Peer("FEDMINET", "127.0.0.1", port), [build_context(StorageCommitmentPushModel)]
    ) as association:
        status, _ = association.send_n_action(
            content, action, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
        )
    return int(status.Status)


def request(*objects: tuple[str, str]) -> Dataset:
    asked = Dataset()
    asked.TransactionUID, asked.ReferencedSOPSequence = TRANSACTION, []
    for kind, instance in objects:
        one = Dataset()
        one.ReferencedSOPClassUID, one.ReferencedSOPInstanceUID = kind, instance
        asked.ReferencedSOPSequence.append(one)
    return asked


def settings(port: int) -> ReceiveSettings:
    return ReceiveSettings(
        calling_titles=("SCANNER", "OTHER"),
        port=0,
        min_free_bytes=1,
        max_objects=10,
        keep_taken_days=None,
        commitment={"SCANNER": f"127.0.0.1:{port}"},
    )


def test_each_object_is_committed_to_or_has_a_reason(tmp_path: Path) -> None:
    paths = write_classic(tmp_path / "files", np.zeros((3, 8, 8), np.uint16), affine_of((4.0, 3.0, 3.0)))
    ones = [dcmread(path) for path in paths]
    inbox = Inbox(tmp_path / "inbox", key=b"k" * 32)
    with scanner() as (port, reports), Receiver(settings(port), inbox).running() as own:
        send_series(tmp_path / "files", Peer("FEDMINET", "127.0.0.1", own), Caller("SCANNER"))
        for place in (inbox.taken, inbox.refused):  # wherever an ingest has put them
            (place / "study-1").mkdir()
        name = inbox.name_of(ones[0].SOPInstanceUID)
        (inbox.received / name).rename(inbox.taken / "study-1" / name)
        name = inbox.name_of(ones[1].SOPInstanceUID)
        (inbox.received / name).rename(inbox.refused / "study-1" / name)
        all_of_them = [(str(one.SOPClassUID), str(one.SOPInstanceUID)) for one in ones]
        assert ask(own, request(*all_of_them)) == 0
        kind, report = reports.get(timeout=30)
        assert (kind, report.TransactionUID) == (1, TRANSACTION)
        assert len(report.ReferencedSOPSequence) == 3
        assert "FailedSOPSequence" not in report
        assert ask(own, request(all_of_them[0], (ENHANCED, all_of_them[1][1]), (ENHANCED, "2.25.1"))) == 0
        kind, report = reports.get(timeout=30)
        assert kind == 2
        assert [one.ReferencedSOPInstanceUID for one in report.ReferencedSOPSequence] == [all_of_them[0][1]]
        reasons = {one.ReferencedSOPInstanceUID: one.FailureReason for one in report.FailedSOPSequence}
        assert reasons == {all_of_them[1][1]: 0x0119, "2.25.1": 0x0112}


def test_who_is_not_listed_and_what_is_no_request_is_refused(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path / "inbox", key=b"k" * 32)
    with scanner() as (port, reports), Receiver(settings(port), inbox).running() as own:
        whole = request((ENHANCED, "2.25.1"))
        assert ask(own, whole, title="OTHER") == 0x0124
        assert ask(own, whole, action=2) == 0x0123
        partial = request()
        del partial.ReferencedSOPSequence
        assert ask(own, partial) == 0x0115
        assert ask(own, request(*[(ENHANCED, f"2.25.{n}") for n in range(11)])) == 0x0213
        assert reports.empty()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"keep_taken_days": 7.0}, "keep_taken_days"),
        ({"calling_titles": ["OTHER"]}, "calling_titles"),
        ({"commitment": {"SCANNER": "nowhere"}}, "commitment"),
    ],
)
def test_settings_that_could_not_be_kept_are_refused(changes: dict[str, object], said: str) -> None:
    given = {
        "calling_titles": ["SCANNER"],
        "keep_taken_days": None,
        "commitment": {"SCANNER": "10.1.2.9:104"},
    }
    assert ReceiveSettings.model_validate(given)
    with pytest.raises(ValidationError, match=said):
        ReceiveSettings.model_validate(given | changes)
