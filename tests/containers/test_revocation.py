"""A site that is revoked while the federation runs: the proxy refuses it within a minute, and after every restart.

The last of the tests on containers: the site is not admitted again.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.containers.federation import PASSPHRASE, USER, Federation
from tests.containers.stranger import Stranger, identity_of, node_header, stranger_outside

pytestmark = [pytest.mark.containers, pytest.mark.timeout(2400)]

REVOKED, OTHER = "fastmri", "umr"
WITHIN_S = 60.0


@pytest.fixture(scope="module")
def stranger(federation: Federation, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stranger]:
    with stranger_outside(federation, tmp_path_factory.mktemp("revoked")) as outside:
        yield outside


def test_a_revoked_site_is_refused_within_a_minute_and_after_restarts(
    federation: Federation, stranger: Stranger
) -> None:
    revoked = identity_of(federation, stranger, REVOKED)
    other = identity_of(federation, stranger, OTHER)

    def status(site: str) -> int | str:
        identity = revoked if site == REVOKED else other
        return stranger.status(identity, headers=node_header(federation, site))

    assert status(REVOKED) in (401, 422)  # forwarded, as that of the other
    passphrase = Path(federation.made) / "coordinator" / "passphrase"
    passphrase.write_text(PASSPHRASE + "\n")
    passphrase.chmod(0o600)
    os.chown(passphrase, USER, USER)
    federation.exec(
        *("coordinator", "fedminet", "server", "revoke", "/coordinator", "--name", REVOKED),
        *("--reason", "a test", "--passphrase-file", "/coordinator/passphrase"),
    )
    passphrase.unlink()
    began = time.monotonic()
    federation.wait(
        lambda: status(REVOKED) == 400, deadline_s=WITHIN_S, what="the proxy refuses the revoked site"
    )
    print(f"refused {time.monotonic() - began:.1f} s after the command had ended")
    assert status(OTHER) in (401, 422)  # the control
    federation.wait(
        lambda: REVOKED not in federation.sites_online(), deadline_s=WITHIN_S, what="the revoked node is gone"
    )
    for service in ("proxy", "coordinator"):
        federation.engine.docker("restart", "--time", "10", federation.container(service))
        federation.wait(
            lambda: federation.works("proxy", "coordinator"), deadline_s=180, what="both are healthy"
        )
        assert status(REVOKED) == 400
    federation.wait(
        lambda: federation.sites_online() == {"sms", "umr"},
        deadline_s=180,
        what="the others are online again",
    )
