"""Taking a kit into use at the site; tests/attacks has the kits that must be refused."""

from __future__ import annotations

import datetime
import shutil
from pathlib import Path

import pytest

from client.admission.kit import accept_kit, kit_in_use, read_pin
from client.site_home import SiteHome
from minet_core.errors import AdmissionRefused, ConfigurationError, FileMissing
from minet_core.settings.federation import FederationSettings
from server.admission.enrolment import KitTerms, renew
from server.admission.pki import Authority
from tests.support.admitted import Coordinator, make_coordinator, make_site


@pytest.fixture
def coordinator(tmp_path: Path) -> Coordinator:
    return make_coordinator(tmp_path / "server")


@pytest.fixture
def sms(tmp_path: Path) -> SiteHome:
    return make_site(tmp_path / "sms")


def _next(coordinator: Coordinator, folder: Path) -> Path:
    return renew(coordinator.home, coordinator.authority, "sms", KitTerms(folder)).kit


def test_a_first_kit_is_taken_with_the_authoritys_fingerprint(
    coordinator: Coordinator, sms: SiteHome, tmp_path: Path
) -> None:
    coordinator.admit(sms, tmp_path / "kit")
    spoken = coordinator.authority.fingerprint.replace(" ", "-")
    accepted = accept_kit(sms, tmp_path / "kit", fingerprint=spoken)
    shutil.rmtree(tmp_path / "kit")
    assert accepted.restart is None
    assert kit_in_use(sms).settings == accepted.kit.settings
    assert sms.federation() == coordinator.home.federation()


def test_without_a_fingerprint_no_authority_is_trusted(
    coordinator: Coordinator, sms: SiteHome, tmp_path: Path
) -> None:
    coordinator.admit(sms, tmp_path / "kit")
    with pytest.raises(AdmissionRefused, match="compared by telephone"):
        accept_kit(sms, tmp_path / "kit")
    assert read_pin(sms) is None
    assert not sms.kit.exists()


def test_a_renewed_kit_takes_the_place_of_the_former_in_one_step(
    coordinator: Coordinator, sms: SiteHome, tmp_path: Path
) -> None:
    before = coordinator.admitted(sms)
    certificate = sms.kit / "site.pem"
    with certificate.open("rb") as being_read:
        accepted = accept_kit(sms, _next(coordinator, tmp_path / "next"))
        assert certificate.read_bytes() != being_read.read()
    assert accepted.restart is None
    assert kit_in_use(sms).settings.issued_at > before.settings.issued_at
    for number in range(3):
        accept_kit(sms, _next(coordinator, tmp_path / f"later-{number}"))
    assert len(list(sms.kits.iterdir())) == 2  # the one in use and the one before it


def test_the_same_kit_may_be_taken_twice(coordinator: Coordinator, sms: SiteHome, tmp_path: Path) -> None:
    coordinator.admitted(sms)
    folder = _next(coordinator, tmp_path / "next")
    accept_kit(sms, folder)
    (sms.kit / "ca.pem").write_text("damaged")
    accept_kit(sms, folder)
    kit_in_use(sms)


def test_a_new_address_says_that_the_client_must_be_started_again(
    coordinator: Coordinator, sms: SiteHome, tmp_path: Path
) -> None:
    coordinator.admitted(sms)
    coordinator.admit(sms, tmp_path / "next", address="elsewhere.example.org:443")
    assert "elsewhere.example.org:443" in str(accept_kit(sms, tmp_path / "next").restart)


def test_a_new_authority_is_taken_only_when_it_is_asked_for_and_compared(
    coordinator: Coordinator, sms: SiteHome, tmp_path: Path
) -> None:
    coordinator.admitted(sms)
    other = make_coordinator(tmp_path / "moved")
    other.admit(sms, tmp_path / "kit")
    spoken = other.authority.fingerprint
    with pytest.raises(AdmissionRefused, match="another authority than the one that this site trusts"):
        accept_kit(sms, tmp_path / "kit", fingerprint=spoken)
    with pytest.raises(AdmissionRefused, match="compared by telephone"):
        accept_kit(sms, tmp_path / "kit", new_authority=True)
    accept_kit(sms, tmp_path / "kit", fingerprint=spoken, new_authority=True)
    kit_in_use(sms)


@pytest.mark.parametrize("name", ["ca.pem", "federation.yaml", "kit.json", "kit.sig", "site.pem"])
def test_an_incomplete_kit_names_the_missing_file(
    coordinator: Coordinator, sms: SiteHome, tmp_path: Path, name: str
) -> None:
    coordinator.admit(sms, tmp_path / "kit")
    (tmp_path / "kit" / name).unlink()
    with pytest.raises(FileMissing, match=name.replace(".", r"\.")):
        accept_kit(sms, tmp_path / "kit", fingerprint=coordinator.authority.fingerprint)
    assert list(sms.kits.iterdir()) == []


def test_a_site_without_a_kit_is_told_what_to_do(sms: SiteHome) -> None:
    with pytest.raises(FileMissing, match="site accept"):
        kit_in_use(sms)


def test_a_damaged_pin_is_refused_and_not_replaced(
    coordinator: Coordinator, sms: SiteHome, tmp_path: Path
) -> None:
    coordinator.admitted(sms)
    (sms.keys / "authority.json").write_text("{")
    with pytest.raises(ConfigurationError):
        accept_kit(sms, _next(coordinator, tmp_path / "next"), fingerprint=coordinator.authority.fingerprint)


def test_a_certificate_near_its_end_is_told_of(
    coordinator: Coordinator, sms: SiteHome, tmp_path: Path
) -> None:
    coordinator.admit(sms, tmp_path / "kit", days=29)
    kit = accept_kit(sms, tmp_path / "kit", fingerprint=coordinator.authority.fingerprint).kit
    assert "expires in 28 days" in str(kit.expiry().warning())
    assert kit.expiry().warning(datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=2)) is None


def test_the_authority_type_hides_its_key(coordinator: Coordinator) -> None:
    assert isinstance(coordinator.authority, Authority)
    assert "ECPrivateKey" not in repr(coordinator.authority)


def test_a_kit_of_another_release_is_called_so(
    coordinator: Coordinator, sms: SiteHome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A release with a further setting reads another digest out of the same, signed file."""
    coordinator.admitted(sms)
    monkeypatch.setattr(FederationSettings, "digest", lambda _settings: "0" * 64)
    with pytest.raises(
        AdmissionRefused, match=r"made by another release.*run the same release: ask for a kit of it"
    ):
        kit_in_use(sms)
