"""All checks before a start together: what passes them, which refusal counts, and how they are shown."""

from __future__ import annotations

import io
import json
import shutil

import pytest
from rich.console import Console

from client.preflight.preflight import checked_again, preflight, print_findings, require_ready
from client.site_home import SiteHome
from client.status.finding import Finding, is_configured, refusals
from minet_core.errors import AdmissionRefused, FileMissing
from minet_core.runtime.files.typed_page import parse_typed
from tests.client.preflight.findings import found
from tests.support.trial_network import Server


def test_a_site_in_order_passes_every_check(home: SiteHome, server: Server) -> None:
    findings = preflight(home, thorough=True, reach_deadline_s=30)
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
    findings = preflight(home, reach_deadline_s=30)
    assert len(findings) >= 9
    assert found(findings, "kit").code == "FM-F404"
    for check in ("policy", "disk", "server", "clock"):
        assert found(findings, check).level == "unknown"  # what needs the kit is not called in order
    assert found(findings, "keys").level == "ok"  # it needs none: `kit` says whether both belong together
    assert not is_configured(findings)
    with pytest.raises(AdmissionRefused, match="FM-F404: the client is not started: kit") as caught:
        require_ready(findings)
    assert caught.value.exit_status == 5


def test_every_refusal_is_named_and_the_first_gives_the_code(home: SiteHome) -> None:
    home.kit.unlink()
    shutil.rmtree(home.store)
    with pytest.raises(FileMissing, match=r"FM-C103.*store \(FM-D205\)"):
        require_ready(preflight(home, reach_deadline_s=0.1))


def test_what_can_change_is_checked_again(home: SiteHome, server: Server) -> None:
    former = preflight(home, reach_deadline_s=30)
    again = checked_again(home, former)
    assert {finding.check for finding in again} == {finding.check for finding in former}
    (home.keys / "node").chmod(0o644)
    assert found(checked_again(home, former), "keys").level == "refusal"
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
    assert parse_typed(json.dumps(finding.as_json()).encode(), Finding) == finding
