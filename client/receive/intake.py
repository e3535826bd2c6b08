"""What is taken from a peer that sends objects, and the limits on it; of use to a receiver and to a fetch by C-GET.

Success is answered when the object is on the disk and no sooner. Nothing of an object or of a peer is logged: counts,
and the reasons that stand here.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import Counter
from socket import IPPROTO_TCP, TCP_NODELAY, TCP_QUICKACK
from typing import Any

from pydicom.uid import (
    JPEG2000,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from client.receive.inbox import Inbox
from sites.scans.dicom.frames import CLASSIC, ENHANCED
from sites.settings.receive_settings import ReceiveSettings

SUCCESS, OUT_OF_RESOURCES, REFUSED = 0x0000, 0xA700, 0xC001
COMMAND_BYTES = 1 << 16
"""Beside the object itself: a command, and the headers of its fragments."""
PDU_HEAD_BYTES = 1 << 16
"""A request for association may be longer than the PDU that is agreed in it."""
KINDS = (CLASSIC, *sorted(ENHANCED))
SYNTAXES = [
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
    JPEGLosslessSV1,
    JPEGLossless,
    JPEGLSLossless,
    JPEGLSNearLossless,
    JPEG2000Lossless,
    JPEG2000,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
]
"""What ingest reads, but for explicit big endian, which is retired; deflated objects it does not read."""
_LOG = logging.getLogger("fedminet.site")


class Intake:
    """Takes objects into an inbox. counts: what came, by our own words."""

    def __init__(self, settings: ReceiveSettings, inbox: Inbox) -> None:
        self.counts: Counter[str] = Counter()
        self._settings, self._inbox = settings, inbox
        self._of_association: Counter[int] = Counter()
        self._arrived: Counter[int] = Counter()
        self._guard = threading.Lock()

    def bound(self, event: Any) -> None:
        """Hold what a peer sends to the limits before it is in memory; for an association that was just opened."""
        socket, key = event.assoc.dul.socket, id(event.assoc)
        socket.socket.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
        receive, limit = socket.recv, self._settings.max_object_bytes + COMMAND_BYTES
        longest = max(self._settings.max_pdu_bytes, PDU_HEAD_BYTES) + 6

        def bounded(n_bytes: int) -> bytearray:
            self._arrived[key] += n_bytes
            if n_bytes > longest or self._arrived[key] > limit:
                self.count("connections cut for length")
                raise OSError("longer than is taken")
            found: bytearray = receive(n_bytes)
            with contextlib.suppress(
                OSError
            ):  # the kernel forgets it; a peer that waits for it loses 40 ms an object
                socket.socket.setsockopt(IPPROTO_TCP, TCP_QUICKACK, 1)
            return found

        socket.recv = bounded

    def has_whole_message(self, event: Any) -> None:
        """A message ended: the next one has the whole limit."""
        self._arrived[id(event.assoc)] = 0

    def store(self, event: Any) -> int:
        """Write the object of a C-STORE; the status."""
        request = event.request
        self.has_whole_message(event)
        self._of_association[id(event.assoc)] += 1
        if self._of_association[id(event.assoc)] > self._settings.max_objects:
            return self._refuse("objects refused for their number", OUT_OF_RESOURCES)
        if str(request.AffectedSOPClassUID) not in KINDS:
            return self._refuse("objects refused for their kind", REFUSED)
        try:
            content = event.encoded_dataset()
            if self._inbox.free_bytes() - len(content) < self._settings.min_free_bytes:
                return self._refuse("objects refused for want of room", OUT_OF_RESOURCES)
            self._inbox.put(str(request.AffectedSOPInstanceUID), content)
        except OSError:
            return self._refuse("objects that could not be written", OUT_OF_RESOURCES)
        except Exception:  # what its text says may be of a patient
            return self._refuse("objects that could not be read", REFUSED)
        self.count("objects received")
        return SUCCESS

    def closed(self, event: Any) -> None:
        """An association ended."""
        key = id(event.assoc)
        n_objects = self._of_association.pop(key, 0)
        self._arrived.pop(key, None)
        _LOG.info(
            "an association ended: %d objects; %d received in all", n_objects, self.counts["objects received"]
        )

    def count(self, what: str) -> None:
        """One more of a kind; the first of a kind of refusal is logged."""
        with self._guard:
            self.counts[what] += 1
            if self.counts[what] == 1 and "received" not in what and what not in _EXPECTED:
                _LOG.warning("first of its kind: %s", what)

    def _refuse(self, why: str, status: int) -> int:
        self.count(why)
        return status


_EXPECTED = {"echoes", "commitments asked for", "commitments reported"}
