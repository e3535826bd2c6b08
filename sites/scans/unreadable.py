"""What a scan's failure becomes: a refusal of that scan, whatever was raised."""

from __future__ import annotations

import errno
import logging
from pathlib import Path

from minet_core.errors import FedminetError, FileNotWritten, ScanReaderFailed, ScanUnreadable
from minet_core.runtime.files.file_failures import action_for, cause_of


def unreadable(failure: OSError, path: Path) -> ScanUnreadable:
    """The refusal of a scan that the file system does not give.

    Parameters
    ----------
    failure
        What the system raised.
    path
        The scan; its name alone is in the message.

    Returns
    -------
    ScanUnreadable
        FM-D201, to be raised or kept.
    """
    gone = failure.errno == errno.ENOENT
    return ScanUnreadable(
        "a scan cannot be read",
        got=f"{path.name}: {cause_of(failure, path=path)}",
        expected="a file that this user may read",
        action="It was removed meanwhile: repeat the command"
        if gone
        else action_for(failure) or "Export it again",
    )


def unlisted(failure: OSError, path: Path) -> ScanUnreadable:
    """The refusal of a folder whose content the file system does not give.

    Parameters
    ----------
    failure
        What the system raised.
    path
        The folder; its name alone is in the message.

    Returns
    -------
    ScanUnreadable
        FM-D201, to be raised or kept.
    """
    return ScanUnreadable(
        "a folder cannot be listed: the scans in it, if any, are not seen",
        got=f"{path.name}: {cause_of(failure, path=path)}",
        expected="a folder that this user may read and enter",
        action=action_for(failure) or "Give this user the right to read it, or move it out of the source",
    )


def refusal_of(failure: Exception) -> FedminetError:
    """What an exception of one pair is told as.

    An exception without a code is named by its class; its text, which may hold anything, goes to the site's own log.

    Parameters
    ----------
    failure
        What reading or checking the pair raised.

    Returns
    -------
    FedminetError
        The exception itself where it has a code; else ScanReaderFailed (FM-D211).

    Raises
    ------
    FileNotWritten
        `failure` itself, where it is of the store: no pair is to blame for it.
    """
    if isinstance(failure, FileNotWritten):
        raise failure
    if isinstance(failure, FedminetError):
        return failure
    logging.getLogger(__name__).info("a pair made its reader fail", exc_info=failure)
    return ScanReaderFailed(
        "a pair made its reader fail",
        got=type(failure).__name__,
        action="Export its scans again; the other pairs are not concerned",
    )
