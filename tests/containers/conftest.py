"""What the tests on containers share: the engine, the images, a run without containers, and the same in containers.

A test that cannot run says why and is skipped; REQUIRE_CONTAINERS=1 makes that a failure.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.containers.engine import Engine, EngineMissing, engine_here
from tests.containers.federation import Federation, federation_in_containers, prepared
from tests.containers.images import built_images
from tests.containers.reference_run import ReferenceRun, run_without_containers


def skip_or_fail(reason: str) -> None:
    """Skip, with the reason; fail where containers are required."""
    if os.environ.get("REQUIRE_CONTAINERS") == "1":
        pytest.fail(f"REQUIRE_CONTAINERS=1, and {reason}")
    pytest.skip(reason)


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    try:
        with engine_here() as found:
            yield found
    except EngineMissing as missing:
        skip_or_fail(str(missing))


@pytest.fixture(scope="session")
def images(engine: Engine) -> dict[str, str]:
    """By name, the images of coordinator, site and proxy, built now from this tree."""
    return built_images(engine)


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory) -> ReferenceRun:
    """The federation as processes on this machine: what the containers must come to, to the bit."""
    return run_without_containers(tmp_path_factory.mktemp("processes"))


@pytest.fixture(scope="session")
def federation(
    engine: Engine, images: dict[str, str], reference: ReferenceRun, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Federation]:
    """The same federation in containers, started: each site has the stores of the reference run."""
    start = prepared(tmp_path_factory.mktemp("containers"), reference)
    with federation_in_containers(engine, images, start) as running:
        yield running
