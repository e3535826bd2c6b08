"""`make attacks`: every attack of `attack_table` is tried, and a table says what came of each before and now.

The exit status is 1 where a row fails. A row none of whose tests could run is told as not tried, with the reason:
it shows nothing.
"""

from __future__ import annotations

import sys
import textwrap
from collections import defaultdict
from dataclasses import dataclass, field

import pytest

from tests.attacks.attack_table import GROUPS, ROWS, Row

FIGURE = "figure"
"""Name of the property by which a test says what it measured: `record_property("figure", "0.02 dB")`."""

WIDTHS = (46, 36, 54)


@dataclass
class Tally:
    """What came of the cases of one test."""

    passed: int = 0
    failed: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    figures: list[str] = field(default_factory=list)


class Record:
    """A pytest plugin that keeps the outcome of every case, and its figures, by the node's id."""

    def __init__(self) -> None:
        self.of: dict[str, Tally] = defaultdict(Tally)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        tally = self.of[report.nodeid]
        if report.failed:
            tally.failed.append(f"{report.nodeid} ({report.when})")
        elif report.skipped:
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else "expected to fail"
            tally.skipped.append(reason.removeprefix("Skipped: "))
        elif report.when == "call":
            tally.passed += 1
            tally.figures += [str(value) for name, value in report.user_properties if name == FIGURE]


def outcome(row: Row, record: Record) -> tuple[str, str]:
    """ "held", "FAILS" or "not tried", and what the tests say."""
    of_row = [
        tally
        for node, tally in record.of.items()
        if any(node == test or node.startswith(f"{test}[") for test in row.tests)
    ]
    passed = sum(tally.passed for tally in of_row)
    failed = [name for tally in of_row for name in tally.failed]
    skipped = [reason for tally in of_row for reason in tally.skipped]
    missing = [
        test
        for test in row.tests
        if not any(node == test or node.startswith(f"{test}[") for node in record.of)
    ]
    if failed or missing:
        return "FAILS", "; ".join([*failed, *(f"{test} did not run" for test in missing)])
    said = list(dict.fromkeys(figure for tally in of_row for figure in tally.figures))
    said.append(f"{passed} cases" if passed != 1 else "1 case")
    if skipped:
        said.append(f"{len(skipped)} skipped: {skipped[0]}")
    return ("held" if passed else "not tried"), ", ".join(said)


def table(record: Record) -> tuple[str, list[str]]:
    """The table, and the outcome of each row."""
    lines, outcomes = [], []
    for number, title in GROUPS.items():
        lines.append(f"\n{number}. {title}")
        for row in (row for row in ROWS if row.number == number):
            verdict, said = outcome(row, record)
            outcomes.append(verdict)
            cells = (row.attack, row.before, f"{verdict}: {said}")
            wrapped = [textwrap.wrap(cell, width) for cell, width in zip(cells, WIDTHS, strict=True)]
            for line in range(max(map(len, wrapped))):
                parts = [cell[line] if line < len(cell) else "" for cell in wrapped]
                texts = (f"{text:{width}}" for text, width in zip(parts, WIDTHS, strict=True))
                lines.append("   " + "  ".join(texts).rstrip())
    head = "   " + "  ".join(
        f"{text:{width}}" for text, width in zip(("attack", "before", "now"), WIDTHS, strict=True)
    )
    return "\n".join([head.rstrip(), *lines]), outcomes


def main(arguments: list[str]) -> int:
    """Run the tests of every row; arguments: further ones of pytest's."""
    record = Record()
    tests = list(dict.fromkeys(test for row in ROWS for test in row.tests))
    pytest.main(["-q", "--no-header", "-p", "no:cacheprovider", *tests, *arguments], plugins=[record])
    text, outcomes = table(record)
    print(f"\n{text}\n")
    print(", ".join(f"{outcomes.count(word)} {word}" for word in ("held", "FAILS", "not tried")))
    return int("FAILS" in outcomes)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
