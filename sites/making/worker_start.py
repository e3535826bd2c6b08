"""The beginning of a process that makes pairs. Nothing large is imported: it holds while the libraries load."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading


def begin() -> None:
    """A process's beginning: the parent answers Ctrl-C, and takes this process with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()


def end_with_parent() -> None:
    """Let this process end as soon as the one that asked for it has ended, however that did."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: multiprocessing.process.BaseProcess) -> None:
    parent.join()
    os._exit(1)
