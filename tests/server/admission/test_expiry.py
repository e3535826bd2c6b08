"""What the coordinator is told before something expires."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest

from minet_core.admission.expiry import Expiry
from server.admission.enrolment import revoke
from server.admission.expiry import certificate_rows, warnings
from server.admission.pki import issue_server_certificate
from server.admission.revocation import write_crl
from tests.support.admitted import Coordinator, make_coordinator, make_site

NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


@pytest.mark.parametrize(
    ("days", "state", "warns"),
    [(31, "valid", False), (30, "valid", False), (29, "expires soon", True), (0, "expires soon", True)],
)
def test_a_warning_begins_thirty_days_before(days: int, state: str, warns: bool) -> None:
    expiry = Expiry("a certificate", NOW + datetime.timedelta(days=days), "Renew it")
    assert (expiry.state(NOW), expiry.warning(NOW) is not None) == (state, warns)


def test_a_second_afterwards_it_has_expired() -> None:
    expiry = Expiry("a certificate", NOW - datetime.timedelta(seconds=1), "Renew it")
    assert expiry.state(NOW) == "expired"
    assert str(expiry.warning(NOW)).startswith("Warning: a certificate has expired on 2025-12-31 23:59 UTC")


@pytest.fixture
def coordinator(tmp_path: Path) -> Coordinator:
    return make_coordinator(tmp_path / "server")


def test_a_new_coordinator_is_told_nothing(coordinator: Coordinator) -> None:
    assert warnings(coordinator.home) == []


def test_a_certificate_of_less_than_thirty_days_is_named_with_what_to_do(
    coordinator: Coordinator, tmp_path: Path
) -> None:
    coordinator.admit(make_site(tmp_path / "sms"), tmp_path / "kit", days=29)
    issue_server_certificate(coordinator.authority, hosts=("localhost",), days=5)
    server, site = warnings(coordinator.home)
    assert "the server's certificate expires in 4 days" in server
    assert "renew-server" in server
    assert "the certificate of sms expires in 28 days" in site
    assert "renew --name sms" in site


def test_a_revocation_list_is_named_before_it_expires(coordinator: Coordinator) -> None:
    write_crl(coordinator.authority, days=10)
    (warning,) = warnings(coordinator.home)
    assert "the revocation list expires in 9 days" in warning


def test_the_table_has_everyone(coordinator: Coordinator, tmp_path: Path) -> None:
    for name in ("sms", "umr"):
        coordinator.admitted(make_site(tmp_path / name, name))
    revoke(coordinator.home, coordinator.authority, "umr", reason="left the study")
    states = {str(row["what"]): row["state"] for row in certificate_rows(coordinator.home)}
    assert states == {
        "the authority's certificate": "valid",
        "the server's certificate": "valid",
        "the revocation list": "valid",
        "the certificate of sms": "valid",
        "the certificate of umr": "revoked",
    }
