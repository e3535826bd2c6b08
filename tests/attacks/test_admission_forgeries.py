"""Requests and kits that somebody on the way has altered, exchanged or kept: each is refused with its reason."""

from __future__ import annotations

import base64
import datetime
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from client.admission.keys import SiteKeys, read_node_private
from client.admission.kit import accept_kit, kit_in_use
from client.admission.request import make_request
from client.site_home import SiteHome
from minet_core.admission.kit import KitSettings
from minet_core.admission.request import RequestFile, read_request
from minet_core.errors import AdmissionRefused
from server.admission.enrolment import KitTerms, admitted_sites, renew, revoke
from server.admission.kits import sign_kit
from server.admission.pki import make_ca
from tests.support.admitted import PASSPHRASE, Coordinator, make_coordinator, make_site


@pytest.fixture
def coordinator(tmp_path: Path) -> Coordinator:
    return make_coordinator(tmp_path / "server")


@pytest.fixture
def sms(tmp_path: Path) -> SiteHome:
    return make_site(tmp_path / "sms", "sms")


@pytest.fixture
def mallory(tmp_path: Path) -> SiteHome:
    """Somebody who calls himself sms."""
    return make_site(tmp_path / "mallory", "sms")


@pytest.fixture
def umr(tmp_path: Path) -> SiteHome:
    return make_site(tmp_path / "umr", "umr")


def _request(home: SiteHome) -> RequestFile:
    return read_request(home.request)[0]


def _signed_by(home: SiteHome, request: RequestFile) -> str:
    """The request signed anew by the node key of `home`: what whoever has that key can do."""
    signature = read_node_private(SiteKeys.of(home.keys)).sign(
        request.signed_bytes(), ec.ECDSA(hashes.SHA384())
    )
    return request.model_copy(update={"signature": base64.b64encode(signature).decode()}).model_dump_json()


# Requests


def test_another_node_key_in_a_request_is_refused(
    coordinator: Coordinator, sms: SiteHome, mallory: SiteHome, tmp_path: Path
) -> None:
    theirs = _request(sms).model_copy(update={"node_key": _request(mallory).node_key})
    sms.request.write_text(theirs.model_dump_json())
    with pytest.raises(AdmissionRefused, match="its node key has not signed it"):
        coordinator.admit(sms, tmp_path / "kit")
    sms.request.write_text(_signed_by(mallory, theirs))  # mallory's node key beside the hospital's TLS key
    with pytest.raises(AdmissionRefused, match="names another node key"):
        coordinator.admit(sms, tmp_path / "kit")


def test_another_tls_key_in_a_request_is_refused(
    coordinator: Coordinator, sms: SiteHome, mallory: SiteHome, tmp_path: Path
) -> None:
    request = _request(sms).model_copy(update={"tls_request": _request(mallory).tls_request})
    sms.request.write_text(request.model_dump_json())
    with pytest.raises(AdmissionRefused, match="its node key has not signed it"):
        coordinator.admit(sms, tmp_path / "kit")


def test_a_request_that_was_replaced_as_a_whole_has_another_fingerprint(
    coordinator: Coordinator, sms: SiteHome, mallory: SiteHome, tmp_path: Path
) -> None:
    read_out = make_request(sms).fingerprint
    sms.request.write_bytes(mallory.request.read_bytes())
    with pytest.raises(AdmissionRefused, match="another fingerprint than the site reads out"):
        coordinator.admit(sms, tmp_path / "kit", fingerprint=read_out)
    assert admitted_sites(coordinator.home) == {}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("declaration", {"site": "sms", "cohort_digest": "f" * 64, "n_training_slices": 10**9}),
        ("site", "umr"),
        ("signature", ""),
        ("signature", "AAAA"),
        ("signature", "no base64"),
    ],
)
def test_an_altered_field_of_a_request_is_refused(
    coordinator: Coordinator, sms: SiteHome, tmp_path: Path, field: str, value: object
) -> None:
    content = json.loads(sms.request.read_text())
    sms.request.write_text(json.dumps({**content, field: value}))
    with pytest.raises(AdmissionRefused, match="has not signed it"):
        coordinator.admit(sms, tmp_path / "kit", name=str(value) if field == "site" else "sms")


def test_a_site_cannot_ask_for_the_name_of_another(
    coordinator: Coordinator, sms: SiteHome, tmp_path: Path
) -> None:
    renamed = _request(sms).model_copy(update={"site": "umr"})
    sms.request.write_text(_signed_by(sms, renamed))
    with pytest.raises(AdmissionRefused, match="certificate request is for sms, not for umr"):
        coordinator.admit(sms, tmp_path / "kit", name="umr")


def test_a_request_is_admitted_under_no_other_name(
    coordinator: Coordinator, sms: SiteHome, tmp_path: Path
) -> None:
    with pytest.raises(AdmissionRefused, match="another site's"):
        coordinator.admit(sms, tmp_path / "kit", name="umr")


def test_a_key_on_another_curve_is_refused(coordinator: Coordinator, sms: SiteHome, tmp_path: Path) -> None:
    weak = _request(sms).model_copy(update={"node_key": "ssh-rsa AAAA sms"})
    sms.request.write_text(weak.model_dump_json())
    with pytest.raises(AdmissionRefused, match="another kind"):
        coordinator.admit(sms, tmp_path / "kit")


def test_a_name_that_is_admitted_is_not_taken_over_by_other_keys(
    coordinator: Coordinator, sms: SiteHome, mallory: SiteHome, tmp_path: Path
) -> None:
    coordinator.admitted(sms)
    before = (coordinator.home.sites / "sms.pub").read_bytes()
    with pytest.raises(AdmissionRefused, match="sms is admitted with another key"):
        coordinator.admit(mallory, tmp_path / "kit")
    assert not (tmp_path / "kit").exists()
    assert (coordinator.home.sites / "sms.pub").read_bytes() == before


@pytest.mark.parametrize("names", [("node", "node.pub"), ("tls.key",)])
def test_a_key_of_another_site_is_admitted_under_no_second_name(
    coordinator: Coordinator, sms: SiteHome, umr: SiteHome, tmp_path: Path, names: tuple[str, ...]
) -> None:
    coordinator.admitted(sms)
    for name in names:
        shutil.copyfile(sms.keys / name, umr.keys / name)
    make_request(umr)
    with pytest.raises(AdmissionRefused, match="a key of the request is that of sms"):
        coordinator.admit(umr, tmp_path / "kit")


@pytest.mark.parametrize("names", [("node", "node.pub"), ("tls.key",), ("node", "node.pub", "tls.key")])
def test_a_revoked_key_is_admitted_under_no_name(
    coordinator: Coordinator, sms: SiteHome, umr: SiteHome, tmp_path: Path, names: tuple[str, ...]
) -> None:
    coordinator.admitted(sms)
    revoke(coordinator.home, coordinator.authority, "sms", reason="a laptop was lost")
    with pytest.raises(AdmissionRefused, match="was revoked on"):
        coordinator.admit(sms, tmp_path / "kit")
    for name in names:
        shutil.copyfile(sms.keys / name, umr.keys / name)
    make_request(umr)
    with pytest.raises(AdmissionRefused, match=r"a laptop was lost"):
        coordinator.admit(umr, tmp_path / "kit")


# Kits


def _kit_for(coordinator: Coordinator, site: SiteHome, folder: Path, **options: object) -> Path:
    return coordinator.admit(site, folder, **options).kit


def _altered(**values: object) -> Callable[[Path], None]:
    def alter(kit: Path) -> None:
        path = kit / "kit.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **values}))

    return alter


def _edited(name: str) -> Callable[[Path], None]:
    return lambda kit: (kit / name).write_bytes((kit / name).read_bytes() + b"# read on Monday\n")


@pytest.mark.parametrize(
    ("alter", "reason"),
    [
        (_altered(address="elsewhere.example.org:443"), "has not signed the kit as it is"),
        (_altered(bundle_digest="0" * 64), "has not signed the kit as it is"),
        (_altered(site="umr"), "has not signed the kit as it is"),
        (_altered(expires_at="2099-01-01T00:00:00Z"), "has not signed the kit as it is"),
        (_altered(files={}), "has not signed the kit as it is"),
        (_edited("federation.yaml"), r"federation\.yaml of the kit is not the file"),
        (_edited("site.pem"), r"site\.pem of the kit is not the file"),
        (lambda kit: (kit / "kit.sig").write_bytes(b""), "has not signed the kit as it is"),
        (lambda kit: (kit / "kit.json").write_bytes(b"x" * (1 << 20) + b"x"), "too large"),
    ],
)
@pytest.mark.parametrize("already_pinned", [False, True])
def test_an_altered_kit_is_refused(
    coordinator: Coordinator,
    sms: SiteHome,
    tmp_path: Path,
    alter: Callable[[Path], None],
    reason: str,
    already_pinned: bool,
) -> None:
    if already_pinned:
        coordinator.admitted(sms)
    kit = _kit_for(coordinator, sms, tmp_path / "kit")
    alter(kit)
    with pytest.raises(AdmissionRefused, match=reason):
        accept_kit(sms, kit, fingerprint=coordinator.authority.fingerprint)
    assert sms.kit.exists() == already_pinned


@pytest.mark.parametrize("name", ["ca.pem", "site.pem", "federation.yaml", "kit.json"])
def test_a_kit_that_is_altered_after_it_was_accepted_is_not_used(
    coordinator: Coordinator, sms: SiteHome, name: str
) -> None:
    coordinator.admitted(sms)
    path = sms.kit / name
    path.write_bytes(path.read_bytes() + b"\n")
    with pytest.raises(AdmissionRefused):
        kit_in_use(sms)


def test_a_kit_of_a_false_coordinator_is_refused_at_first_and_later(
    coordinator: Coordinator, sms: SiteHome, tmp_path: Path
) -> None:
    false = make_coordinator(tmp_path / "false")
    forged = _kit_for(false, sms, tmp_path / "forged")
    with pytest.raises(AdmissionRefused, match="another fingerprint than the coordinator reads out"):
        accept_kit(sms, forged, fingerprint=coordinator.authority.fingerprint)
    coordinator.admitted(sms)
    with pytest.raises(AdmissionRefused, match="another authority than the one that this site trusts"):
        accept_kit(sms, forged)


def test_a_kit_signed_by_another_key_beside_the_true_authority_is_refused(
    coordinator: Coordinator, sms: SiteHome, tmp_path: Path
) -> None:
    kit = _kit_for(coordinator, sms, tmp_path / "kit")
    settings = KitSettings.model_validate_json((kit / "kit.json").read_bytes())
    other = make_ca(tmp_path / "other", name="trial", passphrase=PASSPHRASE)
    sign_kit(other, kit, settings.model_copy(update={"address": "elsewhere.example.org:443"}))
    with pytest.raises(AdmissionRefused, match="has not signed the kit"):
        accept_kit(sms, kit, fingerprint=coordinator.authority.fingerprint)


def test_a_sites_certificate_is_no_authority(coordinator: Coordinator, sms: SiteHome, tmp_path: Path) -> None:
    kit = _kit_for(coordinator, sms, tmp_path / "kit")
    shutil.copyfile(kit / "site.pem", kit / "ca.pem")
    with pytest.raises(AdmissionRefused, match="none of a federation's authority"):
        accept_kit(sms, kit, fingerprint=coordinator.authority.fingerprint)


def test_the_kit_of_another_site_is_refused(
    coordinator: Coordinator, sms: SiteHome, umr: SiteHome, tmp_path: Path
) -> None:
    kit = _kit_for(coordinator, umr, tmp_path / "kit")
    with pytest.raises(AdmissionRefused, match="for another site"):
        accept_kit(sms, kit, fingerprint=coordinator.authority.fingerprint)


def test_a_kit_for_other_keys_of_the_same_name_is_refused(
    coordinator: Coordinator, sms: SiteHome, mallory: SiteHome, tmp_path: Path
) -> None:
    kit = _kit_for(coordinator, mallory, tmp_path / "kit")
    with pytest.raises(AdmissionRefused, match="made for another key"):
        accept_kit(sms, kit, fingerprint=coordinator.authority.fingerprint)


def test_a_kit_that_was_kept_and_is_older_than_one_taken_since_is_stale(
    coordinator: Coordinator, sms: SiteHome, tmp_path: Path
) -> None:
    kept = _kit_for(coordinator, sms, tmp_path / "kept")
    spoken = coordinator.authority.fingerprint
    accept_kit(sms, kept, fingerprint=spoken)
    newer = renew(coordinator.home, coordinator.authority, "sms", KitTerms(tmp_path / "newer")).kit
    accept_kit(sms, newer)
    in_use = kit_in_use(sms).settings
    with pytest.raises(AdmissionRefused, match="stale: the site has taken a newer one"):
        accept_kit(sms, kept, fingerprint=spoken)
    shutil.rmtree(sms.kit.resolve())  # not even where the newer one was lost
    with pytest.raises(AdmissionRefused, match="stale"):
        accept_kit(sms, kept, fingerprint=spoken)
    accept_kit(sms, newer)
    assert kit_in_use(sms).settings == in_use


def test_a_kit_that_has_expired_is_stale(coordinator: Coordinator, sms: SiteHome, tmp_path: Path) -> None:
    long_ago = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=91)
    kit = _kit_for(coordinator, sms, tmp_path / "kit", now=long_ago)
    with pytest.raises(AdmissionRefused, match="stale: it has expired"):
        accept_kit(sms, kit, fingerprint=coordinator.authority.fingerprint)


def test_a_kit_of_a_clock_far_ahead_is_not_taken_and_keeps_no_later_one_out(
    coordinator: Coordinator, sms: SiteHome, tmp_path: Path
) -> None:
    now = datetime.datetime.now(datetime.UTC)
    ahead = _kit_for(coordinator, sms, tmp_path / "ahead", now=now + datetime.timedelta(days=30))
    with pytest.raises(AdmissionRefused, match=r"made in the future.*this machine's clock says"):
        accept_kit(sms, ahead, fingerprint=coordinator.authority.fingerprint)
    little = now + datetime.timedelta(minutes=5)
    accept_kit(
        sms,
        _kit_for(coordinator, sms, tmp_path / "little", now=little),
        fingerprint=coordinator.authority.fingerprint,
    )
