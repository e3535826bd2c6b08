"""A process that ends at a chosen moment, without ending the test's own."""

from __future__ import annotations

import sys
from typing import Any

import pytest


class Killed(BaseException):
    """Stands for a SIGKILL: nothing catches it."""


def killed_at(monkeypatch: pytest.MonkeyPatch, where: str, *, call: int, before: bool) -> None:
    """The process ends at the call of that number of the function `where`, before or after it has done its work, and
    says so.
    """
    module, name = where.rsplit(".", 1)
    real, calls = getattr(sys.modules[module], name), iter(range(1, 100))

    def ending(*arguments: Any, **options: Any) -> Any:
        last = next(calls) == call
        if last and before:
            raise Killed(where)
        result = real(*arguments, **options)
        if last:
            raise Killed(where)
        return result

    monkeypatch.setattr(where, ending)
