"""A failure as it is said to who does not see this machine: in a run's state and events, the report, the dashboard."""

from __future__ import annotations

import re

from minet_core.errors import FedminetError

_BEGINS = r"(?<![\w.\-~])(?<!:/)(?!(?<=:)//)~?/"
"""Of an absolute path; not the slashes after the scheme of an address."""
_FOLDERS = re.compile(rf"{_BEGINS}(?:(?![ (='\",;:]~?/)[^\n])*/|{_BEGINS}(?=[^\s/])")
"""An absolute path up to its last name: a folder may be called `Miller, John` or `o'neil`. Another path begins anew."""


def said_elsewhere(failure: FedminetError) -> str:
    """Code and first clause of a failure, without what was got there, and each absolute path by its last name alone.

    Parameters
    ----------
    failure
        Of this machine, whose folders may be called after a person, a study or a hospital.

    Returns
    -------
    str
        As `FM-S504: state.json cannot be written`.

    Examples
    --------
    >>> from minet_core.errors import DiskFull
    >>> from minet_core.runtime.said_elsewhere import said_elsewhere
    >>> said_elsewhere(DiskFull("/srv/prof miller/runs/first/state.json cannot be written", got="0 MB free"))
    'FM-S504: state.json cannot be written'
    """
    return f"{failure.code}: {without_folders(failure.what)}"


def without_folders(text: str) -> str:
    """A text with each absolute path by its last name alone.

    Parameters
    ----------
    text
        One clause.

    Returns
    -------
    str
        Where it is not plain how far a path goes, less of the text stays rather than more of the path.
    """
    return _FOLDERS.sub("", text)
