"""Admitting, renewing and revoking a site at the coordinator; tests/attacks has what is tried against it."""

from __future__ import annotations

import datetime
import json
from pathlib import Path

import pytest
from cryptography import x509

from client.admission.keys import read_site_keys
from client.admission.kit import read_kit
from client.admission.request import make_request
from client.site_home import SiteHome
from minet_core.errors import AdmissionRefused, ConfigurationError, FileMissing
from minet_core.protocol.cohort_declaration import DECLARATION_FILE
from minet_core.runtime.files.atomic_write import write_json
from server.admission import enrolment
from server.admission.enrolment import KitTerms, admitted_sites, declared_cohorts, node_keys, renew, revoke
from server.admission.pki import expires_at
from server.admission.revocation import crl_is_behind, read_crl, record_revocation, revocations
from server.flower.bundle import read_bundle
from tests.support.admitted import Coordinator, make_coordinator, make_site

DAY = datetime.timedelta(days=1)


@pytest.fixture
def coordinator(tmp_path: Path) -> Coordinator:
    return make_coordinator(tmp_path / "server", port=9443)


@pytest.fixture
def sms(tmp_path: Path) -> SiteHome:
    return make_site(tmp_path / "sms", "sms")


def _revoked(coordinator: Coordinator) -> set[int]:
    crl = read_crl(coordinator.home.pki)
    assert crl is not None
    assert crl.is_signature_valid(coordinator.authority.key.public_key())
    return {entry.serial_number for entry in crl}


def test_an_admitted_site_gets_a_signed_kit(coordinator: Coordinator, sms: SiteHome, tmp_path: Path) -> None:
    admission = coordinator.admit(sms, tmp_path / "kit")
    kit = read_kit(tmp_path / "kit", authority=coordinator.authority.certificate)
    assert kit.settings.key_fingerprint == read_site_keys(sms.keys).fingerprint
    assert kit.federation == coordinator.home.federation()
    assert kit.settings.address == "127.0.0.1:9443"
    assert kit.settings.bundle_digest == read_bundle(coordinator.home.superlink).digest
    assert kit.settings.expires_at == admission.certificate.not_valid_after_utc
    assert admission.fingerprint == make_request(sms).fingerprint
    assert admitted_sites(coordinator.home) == {"sms": coordinator.home.sites / "sms.pub"}


def test_the_kit_holds_no_private_key(coordinator: Coordinator, sms: SiteHome, tmp_path: Path) -> None:
    coordinator.admit(sms, tmp_path / "kit")
    files = sorted((tmp_path / "kit").iterdir())
    assert [path.name for path in files] == ["ca.pem", "federation.yaml", "kit.json", "kit.sig", "site.pem"]
    assert all(b"PRIVATE" not in path.read_bytes() for path in (*files, sms.request))


def test_sites_are_led_to_the_proxys_port(sms: SiteHome, tmp_path: Path) -> None:
    behind = make_coordinator(tmp_path / "behind", hosts=("server.example.org",), port=9443, public_port=443)
    assert behind.admitted(sms).settings.address == "server.example.org:443"


def test_the_same_site_with_the_same_keys_gets_a_new_certificate(
    coordinator: Coordinator, sms: SiteHome, tmp_path: Path
) -> None:
    first = coordinator.admit(sms, tmp_path / "kit")
    second = coordinator.admit(sms, tmp_path / "again")
    assert first.fingerprint == second.fingerprint
    assert first.certificate.serial_number != second.certificate.serial_number
    assert first.certificate.public_key() == second.certificate.public_key()


def test_a_site_that_is_no_member_is_refused(coordinator: Coordinator, sms: SiteHome, tmp_path: Path) -> None:
    with pytest.raises(AdmissionRefused, match="no member"):
        coordinator.admit(sms, tmp_path / "kit", name="../../etc")


def test_a_missing_request_is_named(coordinator: Coordinator, sms: SiteHome, tmp_path: Path) -> None:
    sms.request.unlink()
    with pytest.raises(FileMissing, match="request is missing"):
        coordinator.admit(sms, tmp_path / "kit")


@pytest.mark.parametrize("content", ["", "[]", "nonsense", "{}", '{"form": "fedminet request 2"}'])
def test_a_file_that_is_no_request_is_refused(
    coordinator: Coordinator, sms: SiteHome, tmp_path: Path, content: str
) -> None:
    sms.request.write_text(content)
    with pytest.raises(ConfigurationError):
        coordinator.admit(sms, tmp_path / "kit")


def test_a_kit_folder_in_use_is_refused(coordinator: Coordinator, sms: SiteHome, tmp_path: Path) -> None:
    (tmp_path / "kit").mkdir()
    (tmp_path / "kit" / "other").write_text("")
    with pytest.raises(ConfigurationError, match="not empty"):
        coordinator.admit(sms, tmp_path / "kit")
    assert admitted_sites(coordinator.home) == {}


def test_what_the_site_declares_travels_in_its_request(
    coordinator: Coordinator, sms: SiteHome, tmp_path: Path
) -> None:
    coordinator.admit(sms, tmp_path / "before")
    assert declared_cohorts(coordinator.home) == {}
    write_json(
        sms.path / DECLARATION_FILE, {"site": "sms", "cohort_digest": "0" * 64, "n_training_slices": 12}
    )
    make_request(sms)
    coordinator.admit(sms, tmp_path / "kit")
    assert declared_cohorts(coordinator.home)["sms"].n_training_slices == 12


def test_a_renewal_is_for_the_same_keys_and_ends_later(
    coordinator: Coordinator, sms: SiteHome, tmp_path: Path
) -> None:
    first = coordinator.admit(sms, tmp_path / "kit", days=20)
    second = renew(coordinator.home, coordinator.authority, "sms", KitTerms(tmp_path / "next"))
    assert second.certificate.public_key() == first.certificate.public_key()
    assert second.certificate.not_valid_after_utc - first.certificate.not_valid_after_utc > 69 * DAY
    assert expires_at(coordinator.home.sites / "sms.pem") == second.certificate.not_valid_after_utc


def test_only_an_admitted_site_is_renewed(coordinator: Coordinator, tmp_path: Path) -> None:
    with pytest.raises(AdmissionRefused, match="not admitted"):
        renew(coordinator.home, coordinator.authority, "sms", KitTerms(tmp_path / "kit"))


def test_a_revocation_lists_every_certificate_that_the_site_ever_had(
    coordinator: Coordinator, sms: SiteHome, tmp_path: Path
) -> None:
    umr = make_site(tmp_path / "umr", "umr")
    first = coordinator.admit(sms, tmp_path / "kit")
    second = renew(coordinator.home, coordinator.authority, "sms", KitTerms(tmp_path / "next"))
    other = coordinator.admit(umr, tmp_path / "umr-kit")
    assert _revoked(coordinator) == set()
    revoke(coordinator.home, coordinator.authority, "sms", reason="a laptop was lost")
    assert _revoked(coordinator) == {first.certificate.serial_number, second.certificate.serial_number}
    assert list(admitted_sites(coordinator.home)) == ["umr"]
    nodes = (coordinator.home.pki / "nodes.map").read_text()
    assert "CN=umr:" in nodes
    assert "CN=sms" not in nodes
    renew(coordinator.home, coordinator.authority, "umr", KitTerms(tmp_path / "umr-next"))
    assert len(_revoked(coordinator)) == 2  # a later list has them still
    assert other.certificate.serial_number not in _revoked(coordinator)


def test_a_revoked_name_is_admitted_again_with_new_keys(
    coordinator: Coordinator, sms: SiteHome, tmp_path: Path
) -> None:
    coordinator.admitted(sms)
    revoke(coordinator.home, coordinator.authority, "sms", reason="a laptop was lost")
    anew = make_site(tmp_path / "sms-anew", "sms")
    admission = coordinator.admit(anew, tmp_path / "kit")
    assert list(admitted_sites(coordinator.home)) == ["sms"]
    assert admission.certificate.serial_number not in _revoked(coordinator)


def test_a_revocation_that_was_cut_off_has_happened_and_is_finished_by_the_next(
    coordinator: Coordinator, sms: SiteHome, tmp_path: Path
) -> None:
    admission = coordinator.admit(sms, tmp_path / "kit")
    kit = read_kit(tmp_path / "kit", authority=coordinator.authority.certificate)
    record_revocation(
        coordinator.home.pki,
        "sms",
        reason="lost",
        node_fingerprint=kit.settings.key_fingerprint,
        tls_digest=kit.settings.tls_digest,
    )  # and the process is killed here
    assert admitted_sites(coordinator.home) == {}
    assert crl_is_behind(coordinator.home.pki)
    revoke(coordinator.home, coordinator.authority, "sms", reason="lost")
    assert _revoked(coordinator) == {admission.certificate.serial_number}
    assert not crl_is_behind(coordinator.home.pki)
    assert len(revocations(coordinator.home.pki)) == 1


def test_a_line_that_was_cut_off_is_none(coordinator: Coordinator, sms: SiteHome) -> None:
    coordinator.admitted(sms)
    revoke(coordinator.home, coordinator.authority, "sms", reason="lost")
    with (coordinator.home.pki / "revoked.jsonl").open("a") as stream:
        stream.write('{"site": "um')
    assert [revocation.site for revocation in revocations(coordinator.home.pki)] == ["sms"]


def test_a_site_that_is_revoked_while_the_admitted_ones_are_listed_is_none(
    coordinator: Coordinator, sms: SiteHome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server lists them once a second, and a revocation must not end it."""
    coordinator.admit(sms, tmp_path / "kit")
    fingerprint_of = enrolment.key_fingerprint

    def revoked_before_it_is_read(path: Path) -> str:
        path.unlink()
        return fingerprint_of(path)

    def revoked_once_it_was_read(path: Path) -> str:
        fingerprint = fingerprint_of(path)
        path.unlink()
        return fingerprint

    key = coordinator.home.sites / "sms.pub"
    content = key.read_bytes()
    for at_this_moment in (revoked_before_it_is_read, revoked_once_it_was_read):
        key.write_bytes(content)
        monkeypatch.setattr(enrolment, "key_fingerprint", at_this_moment)
        assert not node_keys(coordinator.home)


def test_an_unknown_site_is_not_revoked(coordinator: Coordinator) -> None:
    with pytest.raises(AdmissionRefused, match="not admitted"):
        revoke(coordinator.home, coordinator.authority, "umr", reason="unknown")


def test_the_revocation_list_outlives_every_certificate_issued_with_it(
    coordinator: Coordinator, sms: SiteHome, tmp_path: Path
) -> None:
    admission = coordinator.admit(sms, tmp_path / "kit")
    crl = read_crl(coordinator.home.pki)
    assert crl is not None
    assert crl.next_update_utc is not None
    assert crl.next_update_utc - admission.certificate.not_valid_after_utc > 80 * DAY
    assert crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number == 2


def test_every_certificate_is_recorded_before_it_is_given_away(
    coordinator: Coordinator, sms: SiteHome, tmp_path: Path
) -> None:
    admission = coordinator.admit(sms, tmp_path / "kit")
    (line,) = (coordinator.home.pki / "issued.jsonl").read_text().splitlines()
    assert int(json.loads(line)["serial"], 16) == admission.certificate.serial_number
