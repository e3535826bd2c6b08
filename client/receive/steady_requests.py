"""A request's answer for who asked: pynetdicom's reactor is held while a request is out, and not almost held.

pynetdicom 3.0 pauses the thread of an association by clearing an event and waiting for `_is_paused`. The thread passes
the event and only then takes `_is_paused` back: a request that is sent between the two has its answer taken off the
queue by the thread, and waits for it until the timeout. Here both are one step. Used of pynetdicom's private parts:
`Association._reactor_checkpoint` and `Association._is_paused`; a test says when they move.
"""

from __future__ import annotations

import threading
import time

from pynetdicom.association import Association


class _Checkpoint(threading.Event):
    def __init__(self, association: Association) -> None:
        super().__init__()
        self.reached = threading.Event()
        self._association, self._guard = association, threading.Lock()
        self.set()

    def wait(self, timeout: float | None = None) -> bool:
        self.reached.set()
        while super().wait(timeout):
            with self._guard:
                if self.is_set():
                    self._association._is_paused = False
                    return True
        return False

    def clear(self) -> None:
        with self._guard:
            super().clear()


def make_steady(association: Association) -> None:
    """For an association that is established and on which nothing was asked yet."""
    checkpoint = _Checkpoint(association)
    association._reactor_checkpoint = checkpoint
    while not checkpoint.reached.wait(0.01) and association.is_alive():
        time.sleep(0)
