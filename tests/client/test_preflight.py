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
from client.check_server import certificate_findings, check_server
from client.declaration import declare
from client.finding import Finding, is_configured, refusals
from client.kit import read_kit
from client.preflight import checked_again, preflight, print_findings, require_ready
from client.site_home import SiteHome
from client.site_keys import make_site_keys
from fedminet.faults.tiny_sites import SHAPE, make_tiny_sites, tiny_federation
from minet_core.federation import FederationSettings
from minet_core.runtime.errors import AdmissionRefused, ClockWrong, DiskFull, FileMissing, PortInUse
from minet_core.runtime.processes import free_port
from server.enrolment import admit
from server.pki import issue_server_certificate, make_ca, server_files
from server.server_home import ServerHome, ServerSettings, init_server
from tests.client.trial_network import Server, serving


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ingested site, and a coordinator."""
    folder = tmp_path_factory.mktemp("made")
    make_tiny_sites(folder, names=("sms",))
    init_server(folder / "server", tiny_federation(), ServerSettings(port=free_port()))
    return folder


@pytest.fixture
def coordinator(made: Path) -> ServerHome:
    return ServerHome.at(made / "server")


@pytest.fixture
def home(made: Path, coordinator: ServerHome, tmp_path: Path) -> SiteHome:
    """An admitted site of its own for every test."""
    shutil.copytree(made / "sites" / "sms", tmp_path / "sms")
    site = SiteHome.at(tmp_path / "sms")
    keys = make_site_keys(site.keys, name="sms")
    (coordinator.sites / "sms.pub").unlink(missing_ok=True)
    admit(coordinator, "sms", keys.public_key, kit=site.kit, declaration=declare(site))
    return site


@pytest.fixture
def server(coordinator: ServerHome) -> Iterator[Server]:
    with serving(coordinator.pki, port=coordinator.settings().port) as running:
        yield running


def _found(findings: list[Finding], check: str) -> Finding:
    (finding,) = [finding for finding in findings if finding.check == check]
    return finding


def _edit(home: SiteHome, **sections: object) -> None:
    path = home.path / "site.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **sections}))


def _with_federation(home: SiteHome, coordinator: ServerHome, federation: FederationSettings) -> None:
    """Give the site a kit of another federation file."""
    other = init_server(home.path / "other", federation, ServerSettings(port=coordinator.settings().port))
    shutil.rmtree(home.kit)
    admit(other, "sms", home.keys / "node.pub", kit=home.kit)


def test_a_site_in_order_passes_every_check(home: SiteHome, server: Server) -> None:
    findings = preflight(home, thorough=True, reach_deadline_s=5)
    assert [finding.check for finding in findings] == [
        *("kit", "keys", "policy", "store", "disk", "device", "port"),
        *("server", "clock", "server cert", "authority cert"),
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
    for check in ("keys", "policy", "disk", "server", "clock"):
        assert _found(findings, check).level == "unknown"  # what needs the kit is not called in order
    assert not is_configured(findings)
    with pytest.raises(AdmissionRefused, match="FM-F404: the client is not started: kit") as caught:
        require_ready(findings)
    assert caught.value.exit_status == 5


def test_every_refusal_is_named_and_the_first_gives_the_code(home: SiteHome) -> None:
    shutil.rmtree(home.kit)
    shutil.rmtree(home.store)
    with pytest.raises(FileMissing, match=r"FM-C103.*store \(FM-D205\)"):
        require_ready(preflight(home, reach_deadline_s=0.1))


def test_the_kit_of_another_site_is_refused(home: SiteHome) -> None:
    _edit(home, name="umr")
    assert _found(check_admission(home).findings, "kit").code == "FM-F404"


def test_a_kit_for_another_key_is_refused(home: SiteHome) -> None:
    shutil.rmtree(home.keys)
    make_site_keys(home.keys, name="sms")
    finding = _found(check_admission(home).findings, "keys")
    assert (finding.level, finding.code) == ("refusal", "FM-F404")


def test_a_private_key_that_others_read_is_refused(home: SiteHome) -> None:
    (home.keys / "node").chmod(0o644)
    finding = _found(check_admission(home).findings, "keys")
    assert (finding.code, finding.expected) == ("FM-C102", "mode 600")


def test_a_tls_key_that_others_read_is_refused(home: SiteHome) -> None:
    (home.keys / "tls.key").write_text("key")
    (home.keys / "tls.key").chmod(0o600)
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
    _edit(home, policy={"bundles": ["0" * 64, read_kit(home.kit).settings.bundle_digest]})
    assert _found(check_admission(home).findings, "policy").level == "ok"


def test_a_kit_cannot_widen_the_policy(home: SiteHome, coordinator: ServerHome) -> None:
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


def test_a_patch_that_fits_no_slice_is_refused(home: SiteHome, coordinator: ServerHome) -> None:
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


def test_a_disk_with_room_passes_and_one_without_is_refused(home: SiteHome, coordinator: ServerHome) -> None:
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
    finding = _found(check_server(home, read_kit(home.kit), deadline_s=5), "clock")
    assert finding.level == level
    assert finding.code == (ClockWrong.code if level == "refusal" else None)


def test_a_clock_that_nothing_is_known_of_is_not_called_right(home: SiteHome, server: Server) -> None:
    server.http.date = None
    findings = check_server(home, read_kit(home.kit), deadline_s=5)
    assert _found(findings, "clock").level == "unknown"
    assert refusals(findings) == []


def test_a_server_that_is_away_is_refused(home: SiteHome) -> None:
    findings = check_server(home, read_kit(home.kit), deadline_s=0.1)
    assert _found(findings, "server").code == "FM-S502"
    assert _found(findings, "clock").level == "unknown"


@pytest.mark.parametrize(("days", "level"), [(60, "ok"), (20, "warning"), (-1, "refusal")])
def test_a_certificate_warns_before_it_ends(tmp_path: Path, days: int, level: str) -> None:
    make_ca(tmp_path, name="trial")
    start = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days - 90)
    issue_server_certificate(tmp_path, hosts=("127.0.0.1",), days=90, now=start)
    (finding,) = certificate_findings({"server": server_files(tmp_path).certificate})
    assert finding.level == level


def test_what_can_change_is_checked_again(home: SiteHome, server: Server) -> None:
    former = preflight(home, reach_deadline_s=5)
    again = checked_again(home, former)
    assert {finding.check for finding in again} == {finding.check for finding in former}
    (home.keys / "node").chmod(0o644)
    assert _found(checked_again(home, former), "keys").level == "refusal"
    shutil.rmtree(home.kit)
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
