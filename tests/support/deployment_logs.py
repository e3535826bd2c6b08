"""What the processes of a deployment logged, shown where a test of it fails.

A test that waited in vain says what for. Why is in the logs of the processes that it waited for.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

N_LINES = 30
LENGTH_OF_TIMESTAMPS_S = 1.0
"""A file's time may lie a tick of the kernel before the clock's."""
FOLDER_OF_TESTS = pytest.StashKey[Path]()
"""Where the folders of this process's tests lie; conftest.py keeps it."""


def ends_of_logs(folder: Path, *, since: float = 0.0) -> str:
    """The last 30 lines of each log below `folder` that was written at or after `since` (seconds of the epoch)."""
    shown = []
    for path in sorted(folder.rglob("*.log")):
        if path.is_symlink() or path.stat().st_mtime < since - LENGTH_OF_TIMESTAMPS_S:
            continue
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        if lines:
            shown.append(f"--- {path.relative_to(folder)}, {len(lines)} lines")
            shown += lines[-N_LINES:]
    return "\n".join(shown)


@contextmanager
def logs_shown(folder: Path) -> Generator[None]:
    """Within it, a failure carries the ends of the logs below `folder` as a note."""
    try:
        yield
    except Exception as failure:
        failure.add_note(ends_of_logs(folder))
        raise


class LogsOfFailures:
    """The plugin: a test that fails shows what was logged below the tests' folder since its file began."""

    def __init__(self) -> None:
        self._began: dict[Path, float] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        self._began.setdefault(item.path, time.time())
        return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Generator[None, pytest.TestReport, object]:
        report = yield
        folder = item.config.stash.get(FOLDER_OF_TESTS, None)
        if report.failed and folder is not None:
            logs = ends_of_logs(folder, since=self._began[item.path])
            if logs:
                report.sections.append(("Ends of the processes' logs", logs))
        return report
