"""Storage commitment: a peer asks which of its objects are on the disk here, and is told in an association of our own.

The report goes where site.yaml says for the peer's title, never to where the request came from. An object is committed
to where its file is in the inbox and is of the class that the peer names. Who commits keeps the objects
(`sites.settings.receive_settings`).

References
----------
DICOM PS3.4, annex J (Storage Commitment Service Class, push model).
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom import build_context, build_role
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
)

from client.receive.inbox import Inbox
from client.receive.peer import Caller, Peer, associated
from minet_core.errors import FedminetError
from sites.scans.dicom.derived_header import read_elements
from sites.scans.dicom.elements import value_of
from sites.settings.receive_settings import ReceiveSettings

SUCCESS, BAD_VALUE, NOT_AUTHORISED, NO_SUCH_ACTION, NO_RESOURCES = 0x0000, 0x0115, 0x0124, 0x0123, 0x0213
NO_SUCH_OBJECT, CLASS_CONFLICT = 0x0112, 0x0119
MAX_WAITING = 64
"""Requests that are not reported yet; further ones are refused."""
PAUSES_S = (0.0, 5.0, 30.0)
"""Before each attempt to report. What is given up is asked again by the peer."""


@dataclass(frozen=True)
class _Request:
    peer: Peer
    transaction: str = field(repr=False)
    objects: tuple[tuple[str, str], ...] = field(repr=False)


class Commitment:
    """Answers requests at once, and reports from a thread of its own. count: as `Intake.count`."""

    def __init__(self, settings: ReceiveSettings, inbox: Inbox, count: Callable[[str], None]) -> None:
        self._inbox, self._count, self._max_objects = inbox, count, settings.max_objects
        self._peers = {title: Peer.parse(f"{title}@{place}") for title, place in settings.commitment.items()}
        tls = settings.certificate is not None
        self._caller = Caller.of_site(settings, timeout_s=settings.timeout_s, tls=tls)
        self._waiting: queue.Queue[_Request | None] = queue.Queue(MAX_WAITING)
        self._ended = threading.Event()

    def asked(self, event: Any) -> tuple[int, None]:
        """The status for an N-ACTION."""
        peer = self._peers.get(str(event.assoc.requestor.ae_title).strip())
        if peer is None:
            self._count("commitments refused by title")
            return NOT_AUTHORISED, None
        if event.action_type != 1:
            return NO_SUCH_ACTION, None
        try:
            asked = event.action_information
            objects = tuple(
                (str(UID(one.ReferencedSOPClassUID)), str(UID(one.ReferencedSOPInstanceUID)))
                for one in asked.ReferencedSOPSequence
            )
            request = _Request(peer, str(UID(asked.TransactionUID)), objects)
        except Exception:  # what its text says may be of a patient
            self._count("commitments that could not be read")
            return BAD_VALUE, None
        try:
            if len(objects) > self._max_objects:
                raise queue.Full
            self._waiting.put_nowait(request)
        except queue.Full:
            self._count("commitments refused for their number")
            return NO_RESOURCES, None
        self._count("commitments asked for")
        return SUCCESS, None

    @contextlib.contextmanager
    def reporting(self) -> Iterator[None]:
        """Report until the block is left."""
        thread = threading.Thread(target=self._report_all, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            with contextlib.suppress(queue.Full):
                self._waiting.put_nowait(None)
            thread.join(self._caller.timeout_s)

    def _report_all(self) -> None:
        while not self._ended.is_set():
            request = self._waiting.get()
            if request is None:
                return
            self._count("commitments reported" if self._report(request) else "commitment reports given up")

    def _report(self, request: _Request) -> bool:
        for pause in PAUSES_S:
            if self._ended.wait(pause):
                return False
            with contextlib.suppress(FedminetError):
                if self._send(request):
                    return True
        return False

    def _send(self, request: _Request) -> bool:
        report, has_failures = self._report_of(request)
        with associated(
            self._caller,
            request.peer,
            [build_context(StorageCommitmentPushModel)],
            roles=[build_role(StorageCommitmentPushModel, scp_role=True)],
        ) as association:
            try:
                status, _ = association.send_n_event_report(
                    report,
                    2 if has_failures else 1,
                    StorageCommitmentPushModel,
                    StorageCommitmentPushModelInstance,
                )
            except (ValueError, RuntimeError):  # the class is not accepted, or the association has ended
                return False
            return getattr(status, "Status", None) == SUCCESS

    def _report_of(self, request: _Request) -> tuple[Dataset, bool]:
        """What is reported, and whether it has failures."""
        report = Dataset()
        report.TransactionUID = request.transaction
        kept, failed = list[Dataset](), list[Dataset]()
        for kind, instance in request.objects:
            one = Dataset()
            one.ReferencedSOPClassUID, one.ReferencedSOPInstanceUID = kind, instance
            reason = self._failure_of(kind, instance)
            if reason is None:
                kept.append(one)
            else:
                one.FailureReason = reason
                failed.append(one)
        if kept:
            report.ReferencedSOPSequence = kept
        if failed:
            report.FailedSOPSequence = failed
        return report, bool(failed)

    def _failure_of(self, kind: str, instance: str) -> int | None:
        path = self._inbox.find(instance)
        if path is None:
            return NO_SUCH_OBJECT
        try:
            header = read_elements(path, name=path.name, keywords=["SOPClassUID", "SOPInstanceUID"])
        except FedminetError:
            return NO_SUCH_OBJECT
        if str(value_of(header, "SOPInstanceUID")) != instance:
            return NO_SUCH_OBJECT
        return None if str(value_of(header, "SOPClassUID")) == kind else CLASS_CONFLICT
