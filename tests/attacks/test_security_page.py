"""docs/security.md names a test for each sentence: they are there, and `make attacks` runs them all."""

from __future__ import annotations

import re
from collections.abc import Iterable

import pytest

from tests.attacks.__main__ import Record, outcome, table
from tests.attacks.attack_table import GROUPS, ROWS, Row
from tests.faults.robustness import STRATEGIES
from tests.support.repository import ROOT

IN_TABLE = {test for row in ROWS for test in row.tests}


def require_there(tests: Iterable[str]) -> None:
    for test in tests:
        file, _, name = test.partition("::")
        function = name.partition("[")[0]
        assert re.search(rf"def {function}\(", (ROOT / file).read_text(encoding="utf-8")), test


def test_every_test_that_the_page_names_is_there_and_in_the_table() -> None:
    page = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    named = {f"{file}::{name}" for file, name in re.findall(r"`(tests/\S+?\.py)::(\w+)`", page)}
    assert len(named) >= 20
    require_there(named)
    assert named <= {test.partition("[")[0] for test in IN_TABLE}


def test_every_row_has_tests_that_are_there() -> None:
    assert {row.number for row in ROWS} == set(GROUPS)
    assert all(row.tests for row in ROWS)
    require_there(IN_TABLE)
    of_strategies = {test.partition("[")[2][:-1] for test in IN_TABLE if "[" in test}
    assert of_strategies <= set(STRATEGIES)


def report(test: str, outcome: str, **more: object) -> pytest.TestReport:
    return pytest.TestReport(test, (test, 0, test), {}, outcome, None, "call", **more)  # type: ignore[arg-type]


def test_a_row_fails_where_one_case_fails_or_a_test_did_not_run() -> None:
    row = Row(1, "an attack", "let through", ("tests/a.py::test_one", "tests/a.py::test_two"))
    record = Record()
    record.pytest_runtest_logreport(
        report("tests/a.py::test_one[x]", "passed", user_properties=[("figure", "3 of 3")])
    )
    assert outcome(row, record)[0] == "FAILS"
    record.pytest_runtest_logreport(report("tests/a.py::test_two", "passed"))
    assert outcome(row, record) == ("held", "3 of 3, 2 cases")
    record.pytest_runtest_logreport(report("tests/a.py::test_one[y]", "failed"))
    verdict, said = outcome(row, record)
    assert (verdict, "test_one[y]" in said) == ("FAILS", True)


def test_a_row_without_a_case_that_could_run_is_not_called_held() -> None:
    row, record = Row(1, "an attack", "let through", ("tests/a.py::test_one",)), Record()
    skipped = report("tests/a.py::test_one", "skipped")
    skipped.longrepr = ("tests/a.py", 1, "Skipped: no nginx")
    record.pytest_runtest_logreport(skipped)
    assert outcome(row, record) == ("not tried", "0 cases, 1 skipped: no nginx")


def test_the_table_has_a_line_for_every_row_and_fails_where_nothing_ran() -> None:
    text, outcomes = table(Record())
    assert outcomes == ["FAILS"] * len(ROWS)
    assert text.count("FAILS:") == len(ROWS)
