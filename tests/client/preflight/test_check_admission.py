"""Kit, keys, policy and store: what the check before a start refuses of each."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml

from client.admission.keys import SiteKeys, make_site_keys, make_tls_key
from client.admission.kit import PIN_FILE, accept_kit, kit_in_use
from client.preflight.check_admission import check_admission
from client.preflight.preflight import checked_again
from client.site_home import SiteHome
from client.status.finding import Finding, is_configured
from fedminet.single_machine.admission import make_coordinator_here
from minet_core.settings.federation import FederationSettings
from server.server_home import ServerSettings
from sites.settings.site_policy import open_policy
from tests.client.preflight.findings import found
from tests.faults.tiny_sites import SHAPE, tiny_federation
from tests.support.admitted import Coordinator, make_coordinator

OPEN = open_policy().model_dump(mode="json")


def _edit(home: SiteHome, **sections: object) -> None:
    path = home.path / "site.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **sections}))


def _with_federation(home: SiteHome, coordinator: Coordinator, federation: FederationSettings) -> None:
    """Give the site a kit of another federation file, which it rightly takes."""
    settings = ServerSettings(port=coordinator.home.settings().port)
    other = Coordinator(*make_coordinator_here(home.path / "other", federation, settings))
    kit = other.admit(home, home.path / "other-kit").kit
    accept_kit(
        home,
        kit,
        fingerprint=other.authority.fingerprint,
        new_authority=True,
        agree=lambda _changes: True,
    )


def test_the_kit_of_another_site_is_refused(home: SiteHome) -> None:
    _edit(home, name="umr")
    assert found(check_admission(home).findings, "kit").code == "FM-F404"


def test_a_kit_for_another_key_is_refused(home: SiteHome) -> None:
    """By the check `kit`: a kit that was made for other keys is not in use."""
    for name in ("node", "node.pub", "tls.key"):
        (home.keys / name).unlink()
    make_site_keys(home.keys, name="sms")
    finding = found(check_admission(home).findings, "kit")
    assert (finding.level, finding.code) == ("refusal", "FM-F404")
    assert "made for another key" in finding.got
    assert not is_configured(check_admission(home).findings)


def test_a_kit_for_another_tls_key_alone_is_refused(home: SiteHome) -> None:
    (home.keys / "tls.key").unlink()
    make_tls_key(SiteKeys.of(home.keys))
    assert found(check_admission(home).findings, "kit").code == "FM-F404"


def test_a_kit_of_an_authority_that_the_site_never_accepted_is_refused(
    home: SiteHome, tmp_path: Path
) -> None:
    """Whole, signed, for this site and its keys, and put where the accepted one lies."""
    other = make_coordinator(tmp_path / "other")
    home.kit.unlink()
    home.kit.symlink_to(other.admit(home, tmp_path / "kit").kit)
    assert found(check_admission(home).findings, "kit").code == "FM-F404"
    (home.keys / PIN_FILE).unlink()
    assert found(check_admission(home).findings, "kit").code == "FM-C103"


def test_keys_that_are_missing_are_refused(home: SiteHome) -> None:
    shutil.rmtree(home.keys)
    findings = check_admission(home).findings
    assert [found(findings, check).code for check in ("kit", "keys")] == ["FM-C103", "FM-C103"]


def test_a_private_key_that_others_read_is_refused(home: SiteHome) -> None:
    (home.keys / "node").chmod(0o644)
    finding = found(check_admission(home).findings, "keys")
    assert (finding.code, finding.expected) == ("FM-C102", "mode 600")


def test_a_tls_key_that_others_read_is_refused(home: SiteHome) -> None:
    assert found(check_admission(home).findings, "keys").level == "ok"
    (home.keys / "tls.key").chmod(0o640)
    assert found(check_admission(home).findings, "keys").code == "FM-C102"


def test_a_folder_of_keys_that_others_write_to_is_told(home: SiteHome) -> None:
    home.keys.chmod(0o770)
    assert found(check_admission(home).findings, "keys").level == "warning"


@pytest.mark.parametrize(
    ("policy", "passes"),
    [
        ({"max_rounds": 3, "max_parameters": 10**6, "federations": ["tiny"]}, True),
        ({"max_rounds": 2}, False),
        ({"max_parameters": 100}, False),
        ({"federations": ["another"]}, False),
        ({"bundles": ["0" * 64]}, False),
    ],
)
def test_what_the_coordinator_asks_for_lies_inside_the_sites_policy(
    home: SiteHome, policy: dict[str, object], passes: bool
) -> None:
    _edit(home, policy={**OPEN, **policy})
    finding = found(check_admission(home).findings, "policy")
    assert finding.level == ("ok" if passes else "refusal")
    assert finding.code == (None if passes else "FM-F420")


def test_of_a_federation_outside_the_policy_no_model_is_built_for_the_other_checks(
    home: SiteHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one of a million blocks: to count the bytes of its rounds would take the client's start."""
    checked: list[object] = []
    disk = Finding("disk", "ok", "room")
    monkeypatch.setattr("client.preflight.preflight.check_disk", lambda *given: checked.append(given) or disk)
    _edit(home, policy={**OPEN, "max_rounds": 2})
    checked_again(home, [])
    assert checked == []
    _edit(home, policy=OPEN)
    checked_again(home, [])
    assert len(checked) == 1


def test_a_listed_bundle_passes(home: SiteHome) -> None:
    _edit(home, policy={**OPEN, "bundles": ["0" * 64, kit_in_use(home).settings.bundle_digest]})
    assert found(check_admission(home).findings, "policy").level == "ok"


def test_a_kit_cannot_widen_the_policy(home: SiteHome, coordinator: Coordinator) -> None:
    """The kit is whole and rightly made, and the policy that came with it counts for nothing."""
    _with_federation(home, coordinator, tiny_federation(rounds=4))
    _edit(home, policy={**OPEN, "max_rounds": 3})
    (home.kit / "site.yaml").write_text("policy: {max_rounds: 1000}\n")
    assert found(check_admission(home).findings, "policy").code == "FM-F420"


@pytest.mark.parametrize("thorough", [False, True])
@pytest.mark.parametrize("harm", ["missing", "cut short", "no cohort", "changed cohort", "no key"])
def test_a_damaged_store_is_refused(home: SiteHome, harm: str, thorough: bool) -> None:
    pair = sorted(home.store.glob("*.h5"))[0]
    if harm == "missing":
        pair.unlink()
    elif harm == "cut short":
        pair.write_bytes(pair.read_bytes()[:-100])
    elif harm == "no cohort":
        (home.store / "cohort.json").unlink()
    elif harm == "changed cohort":
        path = home.store / "cohort.json"
        path.write_text(path.read_text().replace('"few_patients": true', '"few_patients": false'))
    else:
        (home.store / "pseudonym.key").unlink()
    finding = found(check_admission(home, thorough=thorough).findings, "store")
    assert finding.level == "refusal"
    assert finding.code == ("FM-D205" if harm == "no cohort" else "FM-D207")


def test_a_changed_byte_is_found_by_the_thorough_check(home: SiteHome) -> None:
    pair = sorted(home.store.glob("*.h5"))[0]
    content = bytearray(pair.read_bytes())
    content[len(content) // 2] ^= 1
    pair.write_bytes(content)
    assert found(check_admission(home).findings, "store").level == "ok"  # what `quick` cannot see
    assert found(check_admission(home, thorough=True).findings, "store").code == "FM-D207"


def test_a_patch_that_fits_no_slice_is_refused(home: SiteHome, coordinator: Coordinator) -> None:
    training = {**tiny_federation().training.model_dump(), "patch_px": min(SHAPE[1:]) + 4}
    _with_federation(home, coordinator, tiny_federation(training=training))
    finding = found(check_admission(home).findings, "store")
    assert (finding.code, finding.got[-5:]) == ("FM-D202", "36 px")


def test_a_store_that_changed_since_it_was_declared_is_told(home: SiteHome) -> None:
    path = home.path / "declaration.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "cohort_digest": "0" * 64}))
    finding = found(check_admission(home).findings, "store")
    assert finding.level == "warning"
    assert "FM-F409" in str(finding.expected)
