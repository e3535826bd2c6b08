"""What all tests share: threads that sleep, set before torch is imported; where they write; their order."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Generator
from contextlib import ExitStack

import hypothesis
import pytest

from minet_core.runtime.cpu_threading import cpu_threading_environment
from tests.support import made_once, processor_time
from tests.support.deployment_logs import FOLDER_OF_TESTS, LogsOfFailures
from tests.support.memory_folder import write_in_memory

for name, value in cpu_threading_environment().items():
    os.environ.setdefault(name, value)
write_in_memory()

# What is imported and collected stays to the end: it is looked through for garbage neither meanwhile nor later.
gc.disable()

# A test run started in the background inherits ignored signals, and so would every process that a test starts.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

# An example may take long on a machine that does much else.
hypothesis.settings.register_profile("tests", deadline=None)
hypothesis.settings.load_profile("tests")


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--processor-time FILE`."""
    processor_time.add_option(parser)


def pytest_configure(config: pytest.Config) -> None:
    """Show logs where a test fails; count processor seconds where that was asked for."""
    config.pluginmanager.register(LogsOfFailures())
    processor_time.begin_counting(config)


@pytest.fixture(scope="session", autouse=True)
def _folder_of_tests(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> None:
    own = tmp_path_factory.getbasetemp()
    pytestconfig.stash[FOLDER_OF_TESTS] = own
    # The folder of one of several processes lies in that of the run.
    os.environ[made_once.VARIABLE] = str(
        (own.parent if hasattr(pytestconfig, "workerinput") else own) / "made"
    )


@pytest.fixture(autouse=True)
def _umask_of_a_user() -> Generator[None]:
    """Commands make what they write their owner's alone, for the rest of their process: here, of one test."""
    former = os.umask(0o022)
    yield
    os.umask(former)


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop() -> None:
    """From the first test on, garbage is collected, among what comes from now on."""
    gc.freeze()
    gc.enable()


LONG_FIRST = (
    "operations/test_operations_guide.py",
    "e2e/",
    "fedminet/bench/test_rounds.py",
    "fuzz/",
    "sites/pairing/test_dataset_layouts.py",
    "sites/registration/test_pair_kinds.py",
    "attacks/test_strategies.py",
    "fedminet/experiment/",
    "fedminet/centralised/",
    "minet_core/exported/",
    "faults/",
    "operations/test_units.py",
    "server/dashboard/test_browser.py",
    "server/runs/",
    "sites/test_ingest_again.py",
    "client/pacs/",
    "client/test_receive.py",
    "fedminet/",
    "client/rounds/",
    "attacks/",
    "sites/registration/",
    "sites/",
)
"""Files that take long begin first: one that came last would leave the other processor idle. Behind these are files of
seconds. `--processor-time` says what a file takes."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whole files in the order of LONG_FIRST, and within a file as they stand."""
    items.sort(key=_place)


def _place(item: pytest.Item) -> int:
    file = item.nodeid.removeprefix("tests/")
    return next(
        (number for number, start in enumerate(LONG_FIRST) if file.startswith(start)), len(LONG_FIRST)
    )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """What is made again and again is made once a process: the charts of runs, the imports of what makes sites. What
    a command sets up for its process is undone.
    """
    with ExitStack() as stack:
        makes_sites = "fedminet.single_machine.sites" in sys.modules  # else no test of this file makes any
        # Those in containers have every processor to themselves, and make three large ones side by side.
        if makes_sites and item.get_closest_marker("containers") is None:
            from tests.support.sites_made_here import sites_made_here

            stack.enter_context(sites_made_here())
        if "minet_core.report.render" in sys.modules and item.get_closest_marker("charts") is None:
            from tests.support.repeated_charts import repeated_charts

            stack.enter_context(repeated_charts())
        if "minet_core.runtime.logs" in sys.modules:
            from tests.support.no_log_left import no_log_left

            stack.enter_context(no_log_left())
        return (yield)
