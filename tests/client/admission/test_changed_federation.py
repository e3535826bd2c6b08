"""A kit with another federation file: shown in words, asked for, held to the policy, and written down."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from client.admission.kit import accept_kit, kit_in_use, read_pin
from client.commands import site_commands
from client.site_home import SiteHome
from minet_core.errors import PolicyRefused
from minet_core.ledger.records import Ledger
from minet_core.settings.federation import FederationSettings
from minet_core.settings.federation_changes import federation_changes
from minet_core.settings.yaml_file import write_settings
from server.admission.enrolment import KitTerms, renew
from sites.settings.site_policy import open_policy
from tests.support.admitted import Coordinator, make_coordinator, make_site


@pytest.fixture
def coordinator(tmp_path: Path) -> Coordinator:
    return make_coordinator(tmp_path / "server")


@pytest.fixture
def sms(coordinator: Coordinator, tmp_path: Path) -> SiteHome:
    home = make_site(tmp_path / "sms")
    coordinator.admitted(home)
    return home


def kit_of_changed(coordinator: Coordinator, folder: Path, **changes: object) -> Path:
    """The next kit, after the coordinator has edited the federation file."""
    path = coordinator.home.path / "federation.yaml"
    content = coordinator.home.federation().model_dump(mode="json")
    for key, value in changes.items():
        content[key] = {**content[key], **value} if isinstance(value, dict) else value
    write_settings(path, FederationSettings.model_validate(content))
    return renew(coordinator.home, coordinator.authority, "sms", KitTerms(folder)).kit


def set_policy(home: SiteHome, **policy: object) -> None:
    path = home.path / "site.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), "policy": policy}))


TAKEN = {"rounds": 30, "training": {"local_steps": 50}}
HOSTILE = {"rounds": 1_000_000, "algorithm": {"name": "scaffold"}}


def test_a_setting_that_a_file_left_out_is_told_with_the_default_that_it_had() -> None:
    former = FederationSettings(name="study", sites=("sms",), rounds=6, participation={"quorum": 1})
    present = FederationSettings.model_validate(
        former.model_dump() | {"training": {"validation_every": 20}, "quarantine": {"roll_back": False}}
    )
    assert federation_changes(former, present) == (
        "training.validation_every: 1 -> 20",
        "quarantine.roll_back: True -> False",
    )
    adapting = FederationSettings.model_validate({**former.model_dump(), "adaptation": {}})
    plain = FederationSettings.model_validate({**former.model_dump(), "adaptation": {"ensemble": False}})
    assert federation_changes(adapting, plain) == ("adaptation.ensemble: True -> False",)


def test_changes_are_told_in_words() -> None:
    former = FederationSettings(name="study", sites=("sms",), rounds=6, participation={"quorum": 1})
    content = {**former.model_dump(), **HOSTILE, "local_work": {"sms": {"local_steps": 1}}}
    assert federation_changes(former, FederationSettings.model_validate(content)) == (
        "rounds: 6 -> 1000000",
        "algorithm.name: fedavg -> scaffold",
        "local_work.sms.local_steps: none -> 1",
    )
    assert federation_changes(former, former) == ()


def test_a_changed_file_is_not_taken_where_nobody_agrees(
    coordinator: Coordinator, sms: SiteHome, tmp_path: Path
) -> None:
    kit, before = kit_of_changed(coordinator, tmp_path / "next", **TAKEN), kit_in_use(sms).settings
    for agree in (None, lambda _changes: False):
        with pytest.raises(PolicyRefused, match=r"rounds: 24 -> 30; training\.local_steps: 25 -> 50"):
            accept_kit(sms, kit, agree=agree)
    assert kit_in_use(sms).settings == before
    asked: list[tuple[str, ...]] = []
    accepted = accept_kit(sms, kit, agree=lambda changes: not asked.append(changes))
    assert asked == [("rounds: 24 -> 30", "training.local_steps: 25 -> 50")]
    assert accepted.changes == asked[0]
    assert sms.federation().rounds == 30
    events = [(record["event"], record.get("code")) for record in Ledger(sms.state).records()]
    refused, taken = ("kit-refused", "FM-F420"), ("kit-accepted", None)
    assert events == [taken, refused, refused, taken]
    assert list(Ledger(sms.state).records())[-1]["changes"] == list(asked[0])


def test_the_same_file_is_taken_without_a_question(
    coordinator: Coordinator, sms: SiteHome, tmp_path: Path
) -> None:
    accept_kit(sms, renew(coordinator.home, coordinator.authority, "sms", KitTerms(tmp_path / "next")).kit)


def test_a_changed_file_is_seen_where_the_former_kit_is_damaged(
    coordinator: Coordinator, sms: SiteHome, tmp_path: Path
) -> None:
    (sms.kit / "federation.yaml").write_text("damaged")
    kit = kit_of_changed(coordinator, tmp_path / "next", **TAKEN)
    with pytest.raises(PolicyRefused, match="cannot be read; the new one says; name: trial; rounds: 30"):
        accept_kit(sms, kit)
    pin = read_pin(sms)
    assert pin is not None
    assert pin.federation_digest is not None


def test_a_file_outside_the_policy_is_not_taken_even_where_somebody_agrees(
    coordinator: Coordinator, sms: SiteHome, tmp_path: Path
) -> None:
    kit = kit_of_changed(coordinator, tmp_path / "next", **HOSTILE)
    with pytest.raises(PolicyRefused, match=r"policy\.algorithms"):
        accept_kit(sms, kit, agree=lambda _changes: True)
    assert sms.federation().algorithm.name == "fedavg"


def test_a_pinned_digest_holds_at_accept_and_at_the_start(
    coordinator: Coordinator, sms: SiteHome, tmp_path: Path
) -> None:
    set_policy(sms, federation_digest=sms.federation().digest())
    kit = kit_of_changed(coordinator, tmp_path / "next", **TAKEN)
    with pytest.raises(PolicyRefused, match=r"policy\.federation_digest"):
        accept_kit(sms, kit, agree=lambda _changes: True)
    set_policy(sms)
    accept_kit(sms, kit, agree=lambda _changes: True)
    set_policy(sms, federation_digest="0" * 64)
    from client.preflight.check_admission import check_admission

    (finding,) = [found for found in check_admission(sms).findings if found.check == "policy"]
    assert (finding.level, finding.code) == ("refusal", "FM-F420")


def test_the_command_shows_what_changed_and_takes_yes(
    coordinator: Coordinator, sms: SiteHome, tmp_path: Path
) -> None:
    kit = str(kit_of_changed(coordinator, tmp_path / "next", **TAKEN))
    refused = CliRunner().invoke(site_commands, ["accept", str(sms.path), kit])
    assert isinstance(refused.exception, PolicyRefused)
    assert "  rounds: 24 -> 30\n" in refused.output
    assert sms.federation().rounds == 24
    taken = CliRunner().invoke(site_commands, ["accept", str(sms.path), kit, "--yes"])
    assert taken.exit_code == 0
    assert sms.federation().rounds == 30


def test_an_open_policy_lets_everything_through_that_a_file_can_say(
    coordinator: Coordinator, sms: SiteHome, tmp_path: Path
) -> None:
    set_policy(sms, **open_policy().model_dump(mode="json"))
    accept_kit(sms, kit_of_changed(coordinator, tmp_path / "next", **HOSTILE), agree=lambda _changes: True)
