"""Turning off what writes identifiers: pynetdicom's and pydicom's logs, their warnings, and traces of threads."""

from __future__ import annotations

import logging
import threading
import warnings

_LOG = logging.getLogger("fedminet.site")


def be_silent() -> None:
    """For a process that speaks DICOM: only our own words are logged from here on."""
    for name in ("pynetdicom", "pydicom"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
        logging.getLogger(name).propagate = False
        warnings.filterwarnings("ignore", module=rf"{name}\b.*")
    threading.excepthook = _log_thread_failure


def _log_thread_failure(failure: threading.ExceptHookArgs) -> None:
    _LOG.error("a connection ended by %s", failure.exc_type.__name__)
