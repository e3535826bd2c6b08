"""Processor seconds of each test: `--processor-time FILE` writes a line a test, and the costliest modules at the end.

Wall time says little on a machine that does other work. What is counted is user and system time of the tests' process
and of all its children, those that still run too. What a module imports at collection is its own where the tests run in
one process. Not counted is what was handed to init, and processes inside containers.
"""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Generator
from pathlib import Path

import pytest

TICKS = os.sysconf("SC_CLK_TCK")
PROPERTY = "processor_seconds"
FEWEST_SECONDS = 2.0
"""A module that takes less is not printed."""


def add_option(parser: pytest.Parser) -> None:
    """Take `--processor-time FILE`."""
    parser.addoption("--processor-time", metavar="FILE", help="write processor seconds of each test to FILE")


def begin_counting(config: pytest.Config) -> None:
    """Count, where it was asked for; in xdist's workers too, which send what they counted with their reports."""
    if config.getoption("--processor-time"):
        config.pluginmanager.register(_Counting(config))


class _Counting:
    def __init__(self, config: pytest.Config) -> None:
        self.file = Path(config.getoption("--processor-time"))
        self.writes = not hasattr(config, "workerinput")
        self.of_module: Counter[str] = Counter()
        self.all = 0.0
        if self.writes:
            self.file.write_text("")

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(self, collector: pytest.Collector) -> Generator[None, object, object]:
        before = processor_seconds()
        outcome = yield
        if isinstance(collector, pytest.Module) and self.writes:
            self._note(collector.nodeid, processor_seconds() - before, "collection")
        return outcome

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        self.before = processor_seconds()
        return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Generator[None, object, pytest.TestReport]:
        report = yield
        now = processor_seconds()
        report.user_properties = [*report.user_properties, (PROPERTY, now - self.before)]
        self.before = now
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if self.writes:
            self._note(report.nodeid, dict(report.user_properties).get(PROPERTY, 0.0), report.when)

    def _note(self, node: str, seconds: float, when: str) -> None:
        self.of_module[node.partition("::")[0]] += seconds
        self.all += seconds
        with self.file.open("a", encoding="utf-8") as lines:
            lines.write(f"{seconds:.2f}\t{when}\t{node}\n")

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if not self.writes:
            return
        terminalreporter.section("processor seconds")
        for module, seconds in self.of_module.most_common():
            if seconds >= FEWEST_SECONDS:
                terminalreporter.write_line(f"{seconds:8.1f}  {module}")
        terminalreporter.write_line(f"{self.all:8.1f}  all, of the tests named in {self.file}")


def processor_seconds() -> float:
    """User and system seconds of this process, of its ended children and of all that descend from it and still run."""
    own = os.times()
    total = own.user + own.system + own.children_user + own.children_system
    below = _children(os.getpid())
    while below:
        process = below.pop()
        try:
            stat = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue  # it has ended, and is its parent's now
        total += sum(int(field) for field in stat.rpartition(") ")[2].split()[11:15]) / TICKS
        below += _children(process)
    return total


def _children(process: int) -> list[int]:
    found: list[int] = []
    with contextlib.suppress(OSError):
        for thread in Path(f"/proc/{process}/task").iterdir():
            found += map(int, (thread / "children").read_text("ascii").split())
    return found
