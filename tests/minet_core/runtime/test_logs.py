"""The log: what a record looks like, which of them are written, and Flower's in the same form, each once."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys

import pytest

from minet_core.errors import InvalidSetting
from minet_core.runtime.logs import FORMAT_VARIABLE, LEVEL_VARIABLE, is_set_up, set_up_logging
from tests.support.no_log_left import no_log_left

SAY = """
import logging
from minet_core.runtime.logs import set_up_from_environment, take_over
set_up_from_environment()
ours, other = logging.getLogger("server.processes"), logging.getLogger("httpx")
for logger in (ours, other):
    logger.debug("in detail")
    logger.info("%s", "as usual")
    logger.warning("two\\nlines")
try:
    raise ValueError("a fault")
except ValueError:
    ours.exception("it failed")
"""

FLOWER = """
import logging
from minet_core.runtime.logs import set_up_from_environment, take_over
set_up_from_environment()
from flwr.common.logger import log
take_over("flwr")
log(logging.INFO, "Flower says it")
log(logging.DEBUG, "and this in detail")
"""

REFUSED = """
import sys
sys.argv[1:] = ["server", "start", "/no/such/folder"]
from fedminet.main import run
run()
"""


def logged(script: str, **variables: str) -> list[str]:
    """What a program wrote to its standard error, by lines; its standard output holds nothing."""
    kept = {name: text for name, text in os.environ.items() if name not in (LEVEL_VARIABLE, FORMAT_VARIABLE)}
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**kept, **variables},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout == ""
    return done.stderr.splitlines()


def test_a_line_for_a_person_has_time_level_and_name_and_a_second_line_begins_no_record() -> None:
    lines = logged(SAY)
    heads = [line for line in lines if not line.startswith("  ")]
    assert all(
        re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ (INFO|WARNING|ERROR) [\w.]+: ", line) for line in heads
    )
    assert [line.partition(" ")[2] for line in heads] == [
        "INFO server.processes: as usual",
        "WARNING server.processes: two",
        "WARNING httpx: two",
        "ERROR server.processes: it failed",
    ]
    assert lines.count("  lines") == 2
    assert lines[-1] == "  ValueError: a fault"


def test_as_json_each_record_is_an_object_on_a_line() -> None:
    records = [json.loads(line) for line in logged(SAY, FEDMINET_LOG_FORMAT="json")]
    assert [(record["level"], record["logger"], record["message"]) for record in records] == [
        ("info", "server.processes", "as usual"),
        ("warning", "server.processes", "two\nlines"),
        ("warning", "httpx", "two\nlines"),
        ("error", "server.processes", "it failed"),
    ]
    assert all(re.fullmatch(r"\d{4}(-\d\d){2}T(\d\d:){2}\d\d\.\d{3}Z", record["time"]) for record in records)
    assert ["exception" in record for record in records] == [False, False, False, True]
    assert records[3]["exception"].endswith("ValueError: a fault")


@pytest.mark.parametrize(
    ("level", "n_ours", "n_others"), [("debug", 4, 1), ("warning", 2, 1), ("error", 1, 0)]
)
def test_the_level_is_ours_and_of_others_come_warnings_alone(level: str, n_ours: int, n_others: int) -> None:
    names = [
        json.loads(line)["logger"]
        for line in logged(SAY, FEDMINET_LOG_FORMAT="json", FEDMINET_LOG_LEVEL=level)
    ]
    assert (names.count("server.processes"), names.count("httpx")) == (n_ours, n_others)


@pytest.mark.parametrize(("level", "messages"), [("warning", 1), ("debug", 2)])
def test_flower_is_neither_doubled_nor_lost(level: str, messages: int) -> None:
    records = [
        json.loads(line) for line in logged(FLOWER, FEDMINET_LOG_FORMAT="json", FEDMINET_LOG_LEVEL=level)
    ]
    assert [record["logger"] for record in records] == ["flwr"] * messages
    assert records[0]["message"] == "Flower says it"


def test_what_ends_a_command_that_logs_is_a_record_too() -> None:
    (record,) = [json.loads(line) for line in logged(REFUSED, FEDMINET_LOG_FORMAT="json")]
    assert record["message"].startswith("FM-C103: ")
    assert record["level"] == "error"


@pytest.mark.parametrize("wrong", [{"level": "loud"}, {"form": "xml"}])
def test_a_level_or_a_form_that_is_none_is_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(InvalidSetting, match="no such log"):
        set_up_logging(**wrong)


def test_a_log_that_a_test_sets_up_is_not_left_for_the_next(capsys: pytest.CaptureFixture[str]) -> None:
    before = os.environ.get(LEVEL_VARIABLE)
    with no_log_left():
        set_up_logging(level="debug")
        assert is_set_up()
        logging.getLogger("server").debug("within")
    assert not is_set_up()
    logging.getLogger("server").debug("after")
    assert "within" in capsys.readouterr().err
    assert os.environ.get(LEVEL_VARIABLE) == before
