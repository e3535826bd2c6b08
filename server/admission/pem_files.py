"""The coordinator's own certificates, keys and lists on its disk: what is damaged there is named."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from minet_core.errors import ConfigurationError


@contextlib.contextmanager
def naming_damaged(path: Path) -> Iterator[None]:
    """Say of a PEM file that cannot be parsed which it is; half a file is left where a disk was full or failed.

    Parameters
    ----------
    path
        Of the file that is parsed in the block.

    Raises
    ------
    ConfigurationError
        FM-C100, in place of a ValueError of the block.
    """
    try:
        yield
    except ValueError as failure:
        raise ConfigurationError(
            "a file of the federation's authority is damaged",
            got=path,
            expected="a whole PEM file",
            action="Take it from a back-up: `fedminet server restore FILE` into another folder, and copy it",
        ) from failure
