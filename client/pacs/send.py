"""A series that lies whole in a folder, and a map beside it, sent to a peer by C-STORE."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydicom import dcmread
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, ParametricMapStorage
from pynetdicom import build_context
from pynetdicom.association import Association

from client.receive.intake import KINDS
from client.receive.peer import ATTEMPTS, Caller, Peer, associated
from minet_core.errors import DicomTransferIncomplete, FileMissing
from sites.scans.dicom.bounded_header import silent_pydicom

WARNINGS = frozenset({0xB000, 0xB006, 0xB007})
"""The peer has stored the object, and changed or doubts some of its elements (PS3.4, table B.2-1)."""
CONTEXTS = [
    build_context(kind, [syntax])
    for kind in KINDS
    for syntax in (ExplicitVRLittleEndian, ImplicitVRLittleEndian)
]
MAP_CONTEXT = build_context(ParametricMapStorage, [ExplicitVRLittleEndian])


def send_series(folder: Path, peer: Peer, caller: Caller, *, beside: Sequence[Path] = ()) -> int:
    """Send every object of a folder, and the maps beside it after them; how many there are.

    The folder is whole or not there (`sites.scans.dicom.write_series`). Raises FileMissing (FM-C103) where nothing is
    in it, DicomPeerUnreachable (FM-S524), DicomTransferIncomplete (FM-S525) with the status of the first object that
    the peer did not take.
    """
    paths = sorted(folder.glob("*.dcm"))
    if not paths:
        raise FileMissing("there is no series to send", got=folder, expected="DICOM files")
    paths += beside
    contexts = [*CONTEXTS, MAP_CONTEXT] if beside else CONTEXTS
    left = list(paths)
    for _ in range(ATTEMPTS):
        with associated(caller, peer, contexts) as association:
            while left:
                status = _send(association, left[0])
                if status is None:
                    break
                if status != 0 and status not in WARNINGS:
                    raise _incomplete(len(paths) - len(left), len(paths), f"status 0x{status:04X}")
                left.pop(0)
        if not left:
            return len(paths)
    raise _incomplete(len(paths) - len(left), len(paths), "no answer")


def _send(association: Association, path: Path) -> int | None:
    """The status; None where there is no answer. A kind that the peer did not accept has a status of its own."""
    with silent_pydicom(path.name):
        one = dcmread(path)
    try:
        status = getattr(association.send_c_store(one), "Status", None)
    except ValueError:
        return 0x0122
    except RuntimeError:  # the association has ended
        return None
    return None if status is None else int(status)


def _incomplete(n_sent: int, n_in_all: int, why: str) -> DicomTransferIncomplete:
    return DicomTransferIncomplete(
        "the peer did not take every object",
        got=f"{n_sent} of {n_in_all}, then {why}",
        action="What was written is whole on the disk: send it from there when the peer takes it",
    )
