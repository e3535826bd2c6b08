"""What a PACS answers to C-FIND, C-MOVE and C-GET, in the Study Root model.

An answer that is not to the question (some archives pass over a key that they do not know, and give everything) is
dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pydicom.dataset import Dataset
from pynetdicom import build_context, build_role, evt
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
)

from client.pacs.questions import Question
from client.receive.intake import KINDS, SYNTAXES, Intake
from client.receive.peer import ATTEMPTS, Caller, Peer, associated
from minet_core.errors import DicomPeerUnreachable

PENDING = frozenset({0xFF00, 0xFF01})
PARTLY = 0xB000
UNKNOWN_DESTINATION = 0xA801
REFUSALS = frozenset({UNKNOWN_DESTINATION, 0x0122, 0x0124, 0xA900})
"""An unknown destination, an unknown class, no authority, a question that is none (PS3.4, C.4.2.1.5)."""
MODALITY = "MR"


@dataclass(frozen=True)
class Moved:
    """What the archive says of one series: objects that came, and that did not. cut: it gave up before the end."""

    completed: int
    failed: int
    cut: bool


class Pacs:
    """One archive, asked by this site."""

    def __init__(self, caller: Caller, peer: Peer) -> None:
        self._caller, self._peer = caller, peer

    def studies(self, question: Question) -> list[str]:
        """The Study Instance UIDs that answer a question."""
        asked = Dataset()
        asked.QueryRetrieveLevel, asked.StudyInstanceUID = "STUDY", ""
        setattr(asked, question.keyword, question.value)
        answers = self._find(asked)
        fitting = [one for one in answers if _text(one, question.keyword) == question.value]
        return sorted({_text(one, "StudyInstanceUID") for one in fitting} - {""})

    def series(self, study: str) -> list[str]:
        """The Series Instance UIDs of a study's MR series."""
        asked = Dataset()
        asked.QueryRetrieveLevel, asked.StudyInstanceUID = "SERIES", study
        asked.SeriesInstanceUID, asked.Modality = "", MODALITY
        answers = [one for one in self._find(asked) if _text(one, "StudyInstanceUID") in ("", study)]
        fitting = [one for one in answers if _text(one, "Modality") == MODALITY]
        return sorted({_text(one, "SeriesInstanceUID") for one in fitting} - {""})

    def move(self, study: str, series: str, *, destination: str) -> Moved:
        """Have the archive send a series to the receiver of that title."""
        model = StudyRootQueryRetrieveInformationModelMove
        return self._retrieve(
            [build_context(model)],
            lambda association: association.send_c_move(_series_of(study, series), destination, model),
        )

    def get(self, study: str, series: str, *, intake: Intake) -> Moved:
        """Take a series over the association that asks for it."""
        model = StudyRootQueryRetrieveInformationModelGet
        contexts = [build_context(kind, [syntax]) for kind in KINDS for syntax in SYNTAXES]
        return self._retrieve(
            [build_context(model), *contexts],
            lambda association: association.send_c_get(_series_of(study, series), model),
            roles=[build_role(kind, scp_role=True) for kind in KINDS],
            handlers=[
                (evt.EVT_CONN_OPEN, intake.bound),
                (evt.EVT_C_STORE, intake.store),
                (evt.EVT_CONN_CLOSE, intake.closed),
            ],
        )

    def _find(self, asked: Dataset) -> list[Dataset]:
        """Raises DicomPeerUnreachable (FM-S524) where the archive does not answer or says no."""
        model = StudyRootQueryRetrieveInformationModelFind
        status: int | None = None
        for _ in range(ATTEMPTS):
            found = list[Dataset]()
            with associated(self._caller, self._peer, [build_context(model)]) as association:
                for status, answer in _answers(lambda: association.send_c_find(asked, model)):
                    if status in PENDING and answer is not None:
                        found.append(answer)
            if status == 0:
                return found
            if status is not None:
                break
        raise self._refused("C-FIND", status)

    def _retrieve(
        self,
        contexts: Sequence[PresentationContext],
        ask: Callable[[Association], Iterable[tuple[Any, Any]]],
        *,
        roles: Sequence[Any] = (),
        handlers: Sequence[Any] = (),
    ) -> Moved:
        """Raises DicomPeerUnreachable (FM-S524) where every series would fail alike."""
        status: int | None = None
        for _ in range(ATTEMPTS):
            with associated(
                self._caller, self._peer, contexts, roles=roles, handlers=handlers
            ) as association:
                answers = [status for status, _ in _raw(lambda: ask(association))]
            last = answers[-1] if answers else Dataset()
            status = getattr(last, "Status", None)
            if status is None:
                continue
            if status in REFUSALS:
                break
            n_failed = int(last.get("NumberOfFailedSuboperations") or 0)
            n_warned = int(last.get("NumberOfWarningSuboperations") or 0)
            n_completed = int(last.get("NumberOfCompletedSuboperations") or 0)
            return Moved(n_completed + n_warned, n_failed, cut=status not in (0, PARTLY))
        raise self._refused("C-MOVE or C-GET", status)

    def _refused(self, what: str, status: int | None) -> DicomPeerUnreachable:
        said = "no answer" if status is None else f"status 0x{status:04X}"
        action = "Look at what the PACS has of this site"
        if status == UNKNOWN_DESTINATION:
            action = (
                "Enter the receiver's AE title, address and port at the PACS, or set pacs.retrieve to get"
            )
        return DicomPeerUnreachable(
            "the PACS does not do what is asked", got=f"{what}: {said}", action=action
        )


def _series_of(study: str, series: str) -> Dataset:
    asked = Dataset()
    asked.QueryRetrieveLevel, asked.StudyInstanceUID, asked.SeriesInstanceUID = "SERIES", study, series
    return asked


def _answers(ask: Callable[[], Iterable[tuple[Any, Any]]]) -> Iterable[tuple[int | None, Dataset | None]]:
    for status, answer in _raw(ask):
        yield getattr(status, "Status", None), answer


def _raw(ask: Callable[[], Iterable[tuple[Any, Any]]]) -> Iterable[tuple[Any, Any]]:
    """What is answered; an empty status where the model is not accepted, or the association has ended."""
    try:
        yield from ask()
    except (ValueError, RuntimeError):
        yield Dataset(), None


def _text(answer: Dataset, keyword: str) -> str:
    return str(answer.get(keyword) or "").strip()
