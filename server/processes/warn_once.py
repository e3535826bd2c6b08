"""Failures that pass: what a server that runs for months goes on after, and logs once."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from minet_core.errors import FedminetError, HostError
from minet_core.runtime.files.file_failures import failure_of

_LOG = logging.getLogger(__name__)


@dataclass
class WarnOnce:
    """Failures that do not end the server: each is logged when it begins, and again only after it was over."""

    _said: dict[str, str] = field(default_factory=dict)

    @contextlib.contextmanager
    def of(self, what: str) -> Iterator[None]:
        """Go on after a failure of this part, which is tried again in its turn."""
        try:
            yield
        except (FedminetError, OSError) as failure:
            named = failure if isinstance(failure, FedminetError) else _of_the_machine(failure)
            if str(named) not in self._said.values():
                _LOG.warning("%s", named)
            self._said[what] = str(named)
        else:
            self._said.pop(what, None)


def _of_the_machine(failure: OSError) -> HostError:
    """As what the operating system says it is, where it is of a file; else of a connection or a process."""
    if isinstance(failure.filename, str):
        path = Path(failure.filename)
        return failure_of(failure, f"{path} cannot be read or written", path=path)
    return HostError("the machine refused the server a call", got=failure)
