"""One ingested site for the attacks; whoever changes it works on a copy."""

from __future__ import annotations

import pytest

from client.site_home import SiteHome
from tests.faults.tiny_sites import make_tiny_sites


@pytest.fixture(scope="session")
def ingested(tmp_path_factory: pytest.TempPathFactory) -> SiteHome:
    return make_tiny_sites(tmp_path_factory.mktemp("ingested"), names=("sms",))["sms"]
