"""The checks before a start: what passes them, and what each refuses."""

from __future__ import annotations

import datetime
import io
import json
import shutil
import socket
import time
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path

import pytest
import torch
import yaml
from rich.console import Console

from client.check_admission import check_admission
from client.check_machine import LOG_BYTES, check_device, check_disk, check_port, kept_round_bytes
from client.check_server import certificate_findings, check_server, validity_finding
from client.declaration import declare
from client.finding import Finding, is_configured, refusals
from client.kit import PIN_FILE, accept_kit, kit_in_use
from client.preflight import checked_again, preflight, print_findings, require_ready
from client.site_home import SiteHome
from client.site_keys import SiteKeys, make_site_keys, make_tls_key
from fedminet.admission_here import make_coordinator_here
from fedminet.faults.tiny_sites import SHAPE, make_tiny_sites, tiny_federation
from minet_core.admission.expiry import Expiry
from minet_core.federation import FederationSettings
from minet_core.runtime.errors import AdmissionRefused, ClockWrong, DiskFull, FileMissing, PortInUse
from minet_core.runtime.processes import free_port
from server.enrolment import renew
from server.pki import expires_at, issue_server_certificate, make_ca
from server.server_home import ServerSettings
from tests.admitted import PASSPHRASE, Coordinator, make_coordinator
from tests.client.trial_network import Server, serving


@pytest.fixture(scope="module")
def coordinator(tmp_path_factory: pytest.TempPathFactory) -> Coordinator:
    home, authority = make_coordinator_here(
        tmp_path_factory.mktemp("made") / "server", tiny_federation(), ServerSettings(port=free_port())
    )
    return Coordinator(home, authority)


@pytest.fixture(scope="module")
def admitted(coordinator: Coordinator, tmp_path_factory: pytest.TempPathFactory) -> SiteHome:
    """A site that has ingested, and was admitted."""
    site = make_tiny_sites(tmp_path_factory.mktemp("made"), names=("sms",))["sms"]
    declare(site)
    coordinator.admitted(site)
    return site


@pytest.fixture
def home(admitted: SiteHome, tmp_path: Path) -> SiteHome:
    """Its folder, a copy of its own for every test."""
    shutil.copytree(admitted.path, tmp_path / "sms", symlinks=True)  # `kit` is a link
    return SiteHome.at(tmp_path / "sms")


@pytest.fixture
def server(coordinator: Coordinator) -> Iterator[Server]:
    with serving(coordinator.authority, port=coordinator.home.settings().port) as running:
        yield running


def _found(findings: list[Finding], check: str) -> Finding:
    (finding,) = [finding for finding in findings if finding.check == check]
    return finding


def _edit(home: SiteHome, **sections: object) -> None:
    path = home.path / "site.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **sections}))


def _with_federation(home: SiteHome, coordinator: Coordinator, federation: FederationSettings) -> None:
    """Give the site a kit of another federation file, which it rightly takes."""
    settings = ServerSettings(port=coordinator.home.settings().port)
    other = Coordinator(*make_coordinator_here(home.path / "other", federation, settings))
    kit = other.admit(home, home.path / "other-kit").kit
    accept_kit(home, kit, fingerprint=other.authority.fingerprint, new_authority=True)


def _with_days(home: SiteHome, coordinator: Coordinator, days: float) -> None:
    """Give the site a kit of its own coordinator whose certificate is valid for `days` from now on."""
    then = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days - 90)
    kit = renew(coordinator.home, coordinator.authority, "sms", kit=home.path / "next", now=then).kit
    (home.keys / PIN_FILE).unlink()  # else a kit of that time is older than the one in use
    accept_kit(home, kit, fingerprint=coordinator.authority.fingerprint, now=then)


def test_a_site_in_order_passes_every_check(home: SiteHome, server: Server) -> None:
    findings = preflight(home, thorough=True, reach_deadline_s=5)
    assert [finding.check for finding in findings] == [
        *("kit", "keys", "policy", "store", "disk", "device", "port"),
        *("server", "clock", "server cert", "authority cert", "site cert"),
    ]
    assert refusals(findings) == []
    assert {finding.level for finding in findings} <= {"ok", "note", "warning"}  # a small disk may warn
    assert is_configured(findings)
    require_ready(findings)


def test_a_check_that_refuses_stops_no_other(home: SiteHome, server: Server) -> None:
    (home.kit / "ca.pem").write_text("altered")
    findings = preflight(home, reach_deadline_s=5)
    assert len(findings) >= 9
    assert _found(findings, "kit").code == "FM-F404"
    for check in ("policy", "disk", "server", "clock"):
        assert _found(findings, check).level == "unknown"  # what needs the kit is not called in order
    assert _found(findings, "keys").level == "ok"  # it needs none: `kit` says whether both belong together
    assert not is_configured(findings)
    with pytest.raises(AdmissionRefused, match="FM-F404: the client is not started: kit") as caught:
        require_ready(findings)
    assert caught.value.exit_status == 5


def test_every_refusal_is_named_and_the_first_gives_the_code(home: SiteHome) -> None:
    home.kit.unlink()
    shutil.rmtree(home.store)
    with pytest.raises(FileMissing, match=r"FM-C103.*store \(FM-D205\)"):
        require_ready(preflight(home, reach_deadline_s=0.1))


def test_the_kit_of_another_site_is_refused(home: SiteHome) -> None:
    _edit(home, name="umr")
    assert _found(check_admission(home).findings, "kit").code == "FM-F404"


def test_a_kit_for_another_key_is_refused(home: SiteHome) -> None:
    """By the check `kit`: a kit that was made for other keys is not in use."""
    for name in ("node", "node.pub", "tls.key"):
        (home.keys / name).unlink()
    make_site_keys(home.keys, name="sms")
    finding = _found(check_admission(home).findings, "kit")
    assert (finding.level, finding.code) == ("refusal", "FM-F404")
    assert "made for another key" in finding.got
    assert not is_configured(check_admission(home).findings)


def test_a_kit_for_another_tls_key_alone_is_refused(home: SiteHome) -> None:
    (home.keys / "tls.key").unlink()
    make_tls_key(SiteKeys.of(home.keys))
    assert _found(check_admission(home).findings, "kit").code == "FM-F404"


def test_a_kit_of_an_authority_that_the_site_never_accepted_is_refused(
    home: SiteHome, tmp_path: Path
) -> None:
    """Whole, signed, for this site and its keys, and put where the accepted one lies."""
    other = make_coordinator(tmp_path / "other")
    home.kit.unlink()
    home.kit.symlink_to(other.admit(home, tmp_path / "kit").kit)
    assert _found(check_admission(home).findings, "kit").code == "FM-F404"
    (home.keys / PIN_FILE).unlink()
    assert _found(check_admission(home).findings, "kit").code == "FM-C103"


def test_keys_that_are_missing_are_refused(home: SiteHome) -> None:
    shutil.rmtree(home.keys)
    findings = check_admission(home).findings
    assert [_found(findings, check).code for check in ("kit", "keys")] == ["FM-C103", "FM-C103"]


def test_a_private_key_that_others_read_is_refused(home: SiteHome) -> None:
    (home.keys / "node").chmod(0o644)
    finding = _found(check_admission(home).findings, "keys")
    assert (finding.code, finding.expected) == ("FM-C102", "mode 600")


def test_a_tls_key_that_others_read_is_refused(home: SiteHome) -> None:
    assert _found(check_admission(home).findings, "keys").level == "ok"
    (home.keys / "tls.key").chmod(0o640)
    assert _found(check_admission(home).findings, "keys").code == "FM-C102"


def test_a_folder_of_keys_that_others_write_to_is_told(home: SiteHome) -> None:
    home.keys.chmod(0o770)
    assert _found(check_admission(home).findings, "keys").level == "warning"


@pytest.mark.parametrize(
    ("policy", "passes"),
    [
        ({"most_rounds": 3, "most_parameters": 10**6, "federations": ["tiny"]}, True),
        ({"most_rounds": 2}, False),
        ({"most_parameters": 100}, False),
        ({"federations": ["another"]}, False),
        ({"bundles": ["0" * 64]}, False),
    ],
)
def test_what_the_coordinator_asks_for_lies_inside_the_sites_policy(
    home: SiteHome, policy: dict[str, object], passes: bool
) -> None:
    _edit(home, policy=policy)
    finding = _found(check_admission(home).findings, "policy")
    assert finding.level == ("ok" if passes else "refusal")
    assert finding.code == (None if passes else "FM-F420")


def test_a_listed_bundle_passes(home: SiteHome) -> None:
    _edit(home, policy={"bundles": ["0" * 64, kit_in_use(home).settings.bundle_digest]})
    assert _found(check_admission(home).findings, "policy").level == "ok"


def test_a_kit_cannot_widen_the_policy(home: SiteHome, coordinator: Coordinator) -> None:
    """The kit is whole and rightly made, and the policy that came with it counts for nothing."""
    _edit(home, policy={"most_rounds": 3})
    _with_federation(home, coordinator, tiny_federation(rounds=4))
    (home.kit / "site.yaml").write_text("policy: {most_rounds: 1000}\n")
    assert _found(check_admission(home).findings, "policy").code == "FM-F420"


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
        next(
            path
            for path in home.store.iterdir()
            if path.name not in ("cohort.json", ".lock") and path.suffix != ".h5"
        ).unlink()
    finding = _found(check_admission(home, thorough=thorough).findings, "store")
    assert finding.level == "refusal"
    assert finding.code == ("FM-D205" if harm == "no cohort" else "FM-D207")


def test_a_changed_byte_is_found_by_the_thorough_check(home: SiteHome) -> None:
    pair = sorted(home.store.glob("*.h5"))[0]
    content = bytearray(pair.read_bytes())
    content[len(content) // 2] ^= 1
    pair.write_bytes(content)
    assert _found(check_admission(home).findings, "store").level == "ok"  # what `quick` cannot see
    assert _found(check_admission(home, thorough=True).findings, "store").code == "FM-D207"


def test_a_patch_that_fits_no_slice_is_refused(home: SiteHome, coordinator: Coordinator) -> None:
    training = {**tiny_federation().training.model_dump(), "patch_px": min(SHAPE[1:]) + 4}
    _with_federation(home, coordinator, tiny_federation(training=training))
    finding = _found(check_admission(home).findings, "store")
    assert (finding.code, finding.got[-5:]) == ("FM-D202", "36 px")


def test_a_store_that_changed_since_it_was_declared_is_told(home: SiteHome) -> None:
    path = home.path / "declaration.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "cohort_digest": "0" * 64}))
    finding = _found(check_admission(home).findings, "store")
    assert finding.level == "warning"
    assert "FM-F409" in str(finding.expected)


def test_a_disk_with_room_passes_and_one_without_is_refused(home: SiteHome) -> None:
    """A model of 40,000 features needs terabytes, which are computed and not allocated."""
    assert check_disk(home, tiny_federation()).level != "refusal"
    large = tiny_federation(model={"n_groups": 6, "n_blocks": 6, "n_features": 40_000, "reduction": 2})
    finding = check_disk(home, large)
    assert finding.code == "FM-S504"
    assert float(str(finding.expected).split()[2]) * 1e9 > 3 * kept_round_bytes(large)
    assert 3 * kept_round_bytes(large) > LOG_BYTES
    with pytest.raises(DiskFull):
        require_ready([finding])


def test_a_folder_that_cannot_be_written_to_is_refused(tmp_path: Path) -> None:
    assert check_disk(SiteHome(tmp_path / "missing"), tiny_federation()).code == "FM-S504"


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_a_site_that_asks_for_a_gpu_is_refused_without_one(home: SiteHome) -> None:
    assert check_device("auto").level == "note"
    assert check_device("cpu").level == "note"
    assert check_device("cuda").code == "FM-S521"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_is_named_with_its_memory() -> None:
    finding = check_device("cuda")
    assert finding.level == "ok"
    assert torch.cuda.get_device_name(0) in finding.got
    assert "GB free" in finding.got


def test_a_port_in_use_is_refused() -> None:
    assert check_port("127.0.0.1", 0).level == "ok"
    assert check_port("127.0.0.1", free_port()).level == "ok"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        finding = check_port("127.0.0.1", listener.getsockname()[1])
    assert finding.code == PortInUse.code


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
    server.http.date = formatdate(time.time() - ahead_s, usegmt=True)
    finding = _found(check_server(home, kit_in_use(home), deadline_s=5), "clock")
    assert finding.level == level
    assert finding.code == (ClockWrong.code if level == "refusal" else None)


def test_a_clock_that_nothing_is_known_of_is_not_called_right(home: SiteHome, server: Server) -> None:
    server.http.date = None
    findings = check_server(home, kit_in_use(home), deadline_s=5)
    assert _found(findings, "clock").level == "unknown"
    assert refusals(findings) == []


@pytest.mark.parametrize(("status", "level"), [(404, "ok"), (403, "ok"), (405, "ok"), (400, "refusal")])
def test_a_certificate_that_the_coordinators_proxy_does_not_take_is_refused(
    home: SiteHome, server: Server, status: int, level: str
) -> None:
    """Without a proxy 404 comes back; of nginx 403 or 405, for it is no node's call, and 400 for the certificate."""
    server.http.status = status
    finding = _found(check_server(home, kit_in_use(home), deadline_s=5), "server")
    assert finding.level == level
    assert finding.code == (AdmissionRefused.code if level == "refusal" else None)


def test_a_server_that_is_away_is_refused(home: SiteHome) -> None:
    findings = check_server(home, kit_in_use(home), deadline_s=0.1)
    assert _found(findings, "server").code == "FM-S502"
    assert _found(findings, "clock").level == "unknown"


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
    assert _found(admitted.findings, "kit").level == ("refusal" if level == "refusal" else "ok")
    assert admitted.kit is not None
    found = certificate_findings(admitted.kit)
    assert _found(found, "site cert").level == level
    assert _found(found, "authority cert").level == "ok"


def test_a_renewed_certificate_is_seen_by_a_client_that_runs(
    home: SiteHome, coordinator: Coordinator
) -> None:
    _with_days(home, coordinator, 20)
    former = preflight(home, reach_deadline_s=0.1)
    assert _found(former, "site cert").level == "warning"
    renewed = renew(coordinator.home, coordinator.authority, "sms", kit=home.path / "renewed")
    accept_kit(home, renewed.kit)
    assert _found(checked_again(home, former), "site cert").level == "ok"


def test_what_can_change_is_checked_again(home: SiteHome, server: Server) -> None:
    former = preflight(home, reach_deadline_s=5)
    again = checked_again(home, former)
    assert {finding.check for finding in again} == {finding.check for finding in former}
    (home.keys / "node").chmod(0o644)
    assert _found(checked_again(home, former), "keys").level == "refusal"
    home.kit.unlink()
    assert not is_configured(checked_again(home, former))


def test_the_table_shows_every_check_and_takes_no_text_for_markup(capsys: pytest.CaptureFixture[str]) -> None:
    findings = [
        Finding("kit", "ok", "site [bold]sms[/bold]"),
        Finding("disk", "refusal", "1 MB free", "2 MB", "Make room", "FM-S504"),
    ]
    stream = io.StringIO()
    print_findings(findings, console=Console(file=stream, force_terminal=True, width=120))
    assert "[bold]sms[/bold]" in stream.getvalue()
    print_findings(findings)
    assert (
        capsys.readouterr().err.splitlines()[1]
        == "disk          refusal  1 MB free; expected 2 MB. Make room."
    )


def test_a_finding_is_whole_after_it_was_written() -> None:
    finding = Finding("disk", "refusal", "1 MB free", "2 MB", "Make room", "FM-S504")
    assert Finding.from_json(json.loads(json.dumps(finding.as_json()))) == finding
