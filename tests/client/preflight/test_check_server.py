"""The way to the server, the clock and the certificates: what the check before a start refuses of each."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest

from client.admission.kit import PIN_FILE, accept_kit, kit_in_use
from client.preflight.check_admission import check_admission
from client.preflight.check_server import certificate_findings, check_server, validity_finding
from client.preflight.preflight import checked_again, preflight
from client.site_home import SiteHome
from client.status.finding import refusals
from minet_core.admission.expiry import Expiry
from minet_core.errors import AdmissionRefused, ClockWrong
from server.admission.enrolment import KitTerms, renew
from server.admission.pki import expires_at, issue_server_certificate, make_ca
from tests.client.preflight.findings import found
from tests.support.admitted import PASSPHRASE, Coordinator
from tests.support.trial_network import Server, clock_behind


def _with_days(home: SiteHome, coordinator: Coordinator, days: float) -> None:
    """Give the site a kit of its own coordinator whose certificate is valid for `days` from now on."""
    then = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days - 90)
    kit = renew(coordinator.home, coordinator.authority, "sms", KitTerms(home.path / "next", now=then)).kit
    (home.keys / PIN_FILE).unlink()  # else a kit of that time is older than the one in use
    accept_kit(home, kit, fingerprint=coordinator.authority.fingerprint, now=then)


@pytest.mark.parametrize(
    ("ahead_s", "level"),
    [
        (0, "ok"),
        (-20, "ok"),
        (4, "warning"),
        (-60, "warning"),
        (-290, "warning"),
        (15, "refusal"),
        (-330, "refusal"),
    ],
)
def test_the_clock_is_held_to_what_the_server_accepts(
    home: SiteHome, server: Server, ahead_s: int, level: str
) -> None:
    server.http.date = clock_behind(ahead_s)
    finding = found(check_server(home, kit_in_use(home), deadline_s=30), "clock")
    assert finding.level == level
    assert finding.code == (ClockWrong.code if level == "refusal" else None)


def test_a_clock_that_nothing_is_known_of_is_not_called_right(home: SiteHome, server: Server) -> None:
    server.http.date = None
    findings = check_server(home, kit_in_use(home), deadline_s=30)
    assert found(findings, "clock").level == "unknown"
    assert refusals(findings) == []


@pytest.mark.parametrize(("status", "level"), [(404, "ok"), (403, "ok"), (405, "ok"), (400, "refusal")])
def test_a_certificate_that_the_coordinators_proxy_does_not_take_is_refused(
    home: SiteHome, server: Server, status: int, level: str
) -> None:
    """Without a proxy 404 comes back; of nginx 403 or 405, for it is no node's call, and 400 for the certificate."""
    server.http.status = status
    finding = found(check_server(home, kit_in_use(home), deadline_s=30), "server")
    assert finding.level == level
    assert finding.code == (AdmissionRefused.code if level == "refusal" else None)


def test_a_server_that_is_away_is_refused(home: SiteHome) -> None:
    findings = check_server(home, kit_in_use(home), deadline_s=0.1)
    assert found(findings, "server").code == "FM-S502"
    assert found(findings, "clock").level == "unknown"


@pytest.mark.parametrize(("days", "level"), [(60, "ok"), (20, "warning"), (-1, "refusal")])
def test_a_certificate_warns_before_it_ends(tmp_path: Path, days: int, level: str) -> None:
    authority = make_ca(tmp_path, name="trial", passphrase=PASSPHRASE)
    start = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days - 90)
    files = issue_server_certificate(authority, hosts=("127.0.0.1",), days=90, now=start)
    finding = validity_finding("server", Expiry("a certificate", expires_at(files.certificate), "Renew it"))
    assert finding.level == level
    assert finding.code == ("FM-F404" if level == "refusal" else None)


@pytest.mark.parametrize(("days", "level"), [(60, "ok"), (20, "warning"), (-1, "refusal")])
def test_the_sites_own_certificate_warns_before_it_ends(
    home: SiteHome, coordinator: Coordinator, days: int, level: str
) -> None:
    _with_days(home, coordinator, days)
    admitted = check_admission(home)
    assert found(admitted.findings, "kit").level == ("refusal" if level == "refusal" else "ok")
    assert admitted.kit is not None
    certificates = certificate_findings(admitted.kit)
    assert found(certificates, "site cert").level == level
    assert found(certificates, "authority cert").level == "ok"


def test_a_renewed_certificate_is_seen_by_a_client_that_runs(
    home: SiteHome, coordinator: Coordinator
) -> None:
    _with_days(home, coordinator, 20)
    former = preflight(home, reach_deadline_s=0.1)
    assert found(former, "site cert").level == "warning"
    renewed = renew(coordinator.home, coordinator.authority, "sms", KitTerms(home.path / "renewed"))
    accept_kit(home, renewed.kit)
    assert found(checked_again(home, former), "site cert").level == "ok"
