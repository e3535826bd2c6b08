"""A run as both ends wrote it down: each holds the other's head, and what is missing at one is seen at the other."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
from flwr.app import ArrayRecord, ConfigRecord, Message, RecordDict
from typer.testing import CliRunner

from client.admission.declaration import declaration_of
from client.app import build_client_app
from client.commands import site_commands
from client.site_home import SiteHome
from fedminet.simulation.in_process_grid import InProcessGrid, node_id_of, run_in_process, server_identity
from minet_core.ledger.page import heads_held
from minet_core.ledger.records import HEAD_FILE, Ledger
from minet_core.protocol import messages
from minet_core.protocol.exchange_plan import initial_weights
from minet_core.runtime.files.atomic_write import write_text
from minet_core.settings.yaml_file import settings_text
from server.app import build_server_app
from server.commands import server_commands
from server.rounds.exchange import request
from server.runs.run_directory import RunDirectory
from sites.store.store import Store
from tests.faults.tiny_sites import tiny_federation
from tests.support.admitted import make_coordinator

RUN = "study-run"
SITES = ("sms",)
FEDERATION = tiny_federation(rounds=2, sites=SITES, participation={"quorum": 1, "retries": 0})


@dataclass(frozen=True)
class Ended:
    """A run that has ended: its sites, and the coordinator's folder."""

    homes: dict[str, SiteHome]
    coordinator: Path

    @property
    def run(self) -> RunDirectory:
        return RunDirectory(self.coordinator / "runs" / RUN)

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.coordinator / "runs")


@pytest.fixture(scope="module")
def ended(ingested: SiteHome, tmp_path_factory: pytest.TempPathFactory) -> Ended:
    folder = tmp_path_factory.mktemp("ledgers")
    homes = {"sms": SiteHome(folder / "sms")}
    shutil.copytree(ingested.path, homes["sms"].path)
    coordinator = make_coordinator(folder / "coordinator").home.path
    for home in homes.values():
        write_text(home.kit / "federation.yaml", settings_text(FEDERATION))
    declared = {site: declaration_of(home) for site, home in homes.items()}
    RunDirectory.create(coordinator / "runs" / RUN, FEDERATION, engine="in-process", declared=declared)
    apps = {
        site: build_client_app(lambda _context, path=home.path: path)  # type: ignore[misc]
        for site, home in homes.items()
    }
    run_in_process(build_server_app(coordinator / "runs"), apps, run_config={"run": RUN})
    return Ended(homes, coordinator)


def test_both_ends_wrote_down_the_same_questions_and_answers(ended: Ended) -> None:
    theirs = list(ended.ledger.records())
    for site, home in ended.homes.items():
        ours = [record for record in Ledger(home.state).records() if record["event"] == "answered"]
        replies = [record for record in theirs if record.get("site") == site]
        assert [record["task"] for record in ours] == ["train", "train", "test"]
        for mine, reply in zip(ours, replies, strict=True):
            assert (mine["answer"], mine["run"]) == (reply["answer"], reply["run"])
            assert mine["figures"] == reply["figures"]
            assert {"train_loss", "global_psnr_db"} & mine["figures"].keys()
            asked = next(record for record in theirs if record["sha256"] == mine["coordinator_head"])
            assert (asked["event"], asked["request"]) == ("asked", mine["request"])
            assert reply["site_head"] == mine["sha256"]
        assert [record["counted"] for record in ours] == [1, 2, 3]


def test_each_end_is_whole_and_has_every_head_that_the_other_was_told(ended: Ended) -> None:
    of_coordinator: set[str] = set()
    for site, home in ended.homes.items():
        held = heads_held(ended.ledger.path, key="site_head", where={"site": site})
        assert len(held) == 3
        assert Ledger(home.state).verify(held=held).problems == ()
        of_coordinator |= heads_held(Ledger(home.state).path, key="coordinator_head")
    assert len(of_coordinator) == 3
    assert ended.ledger.verify(held=of_coordinator).problems == ()


def _shortened(ledger: Ledger, n_lines: int) -> None:
    """As whoever can write to the folder would do it: the noted head is made to fit."""
    lines = ledger.path.read_bytes().splitlines(keepends=True)[:n_lines]
    last = json.loads(lines[-1])
    ledger.path.write_bytes(b"".join(lines))
    (ledger.path.parent / HEAD_FILE).write_text(f"{last['n']} {last['sha256']}\n")


def test_what_is_taken_from_one_ledger_is_missed_by_the_other(ended: Ended, tmp_path: Path) -> None:
    site, home = next(iter(ended.homes.items()))
    shutil.copytree(home.path, tmp_path / "site")
    shutil.copytree(ended.coordinator, tmp_path / "coordinator")
    ours, theirs = Ledger(tmp_path / "site" / "state"), Ledger(tmp_path / "coordinator" / "runs")
    held = heads_held(theirs.path, key="site_head", where={"site": site})
    _shortened(ours, 1)
    assert ours.verify().problems == ()
    assert len(ours.verify(held=held).problems) == 2
    held = heads_held(Ledger(home.state).path, key="coordinator_head")
    _shortened(theirs, 2)
    assert theirs.verify().problems == ()
    assert len(theirs.verify(held=held).problems) == 2


def test_the_coordinators_ledger_holds_no_path_patient_or_tag(ended: Ended) -> None:
    text = ended.ledger.path.read_text()
    for home in ended.homes.values():
        assert str(home.path) not in text
        for pseudonym in Store(home.store).cohort.patients:
            assert pseudonym not in text
    assert "/" not in text
    allowed = {
        *("n", "time", "event", "prev", "sha256", "task", "run", "round", "federation", "request"),
        *("site", "code", "answer", "figures", "site_head", "found"),
    }
    for record in ended.ledger.records():
        assert record.keys() <= allowed
        assert all(isinstance(value, float | int) for value in record.get("figures", {}).values())


def test_the_ledgers_change_no_byte_of_the_model(ended: Ended, tmp_path: Path) -> None:
    """The same run by sites with other ledgers, of other lengths, and by a coordinator with another one."""
    homes = {site: SiteHome(tmp_path / site) for site in SITES}
    for site, home in homes.items():
        shutil.copytree(ended.homes[site].path, home.path)
        shutil.rmtree(home.state / RUN)
        Ledger(home.state).append("started")
    runs = tmp_path / "runs"
    Ledger(runs).append("started")
    declared = {site: declaration_of(home) for site, home in homes.items()}
    run = RunDirectory.create(runs / RUN, FEDERATION, engine="in-process", declared=declared)
    apps = {
        site: build_client_app(lambda _context, path=home.path: path)  # type: ignore[misc]
        for site, home in homes.items()
    }
    run_in_process(build_server_app(runs), apps, run_config={"run": RUN})
    assert run.global_model.read_bytes() == ended.run.global_model.read_bytes()
    (last,) = list(Ledger(homes["sms"].state).records())[-1:]
    assert last["counted"] == 3  # the same requests, word for word: none counts again


def test_a_refused_request_is_written_down_without_what_it_says(ended: Ended, tmp_path: Path) -> None:
    home = SiteHome(tmp_path / "sms")
    shutil.copytree(ended.homes["sms"].path, home.path)
    content = RecordDict(
        {
            messages.MODEL: ArrayRecord({}),
            messages.REQUEST: ConfigRecord(
                {"round": 1, "run": "../../etc", "federation": "x", "ledger": "y"}
            ),
        }
    )
    grid = InProcessGrid({"sms": build_client_app(lambda _context: home.path)})
    with server_identity():
        message = Message(content, node_id_of("sms"), "train", group_id="1")
        list(grid.pull_messages(grid.push_messages([message])))
    last = list(Ledger(home.state).records())[-1]
    assert (last["event"], last["code"]) == ("refused", "FM-C104")
    assert (last["run"], last["federation"], last["coordinator_head"], last["request"]) == (None,) * 4


def test_nothing_leaves_a_site_whose_ledger_is_damaged(ended: Ended, tmp_path: Path) -> None:
    home = SiteHome(tmp_path / "sms")
    shutil.copytree(ended.homes["sms"].path, home.path)
    ledger = Ledger(home.state).path
    ledger.write_bytes(ledger.read_bytes()[:-200])
    grid = InProcessGrid({"sms": build_client_app(lambda _context: home.path)})
    _, weights = initial_weights(FEDERATION)
    content = request(weights, round_number=1, run="another", digest=FEDERATION.digest())
    with server_identity():
        message = Message(content, node_id_of("sms"), "train", group_id="1")
        (reply,) = grid.pull_messages(grid.push_messages([message]))
    assert dict(reply.content.config_records[messages.FAILURE]) == {"code": "FM-S523"}


def test_the_commands_show_and_verify_both(ended: Ended, tmp_path: Path) -> None:
    shutil.copytree(ended.homes["sms"].path, tmp_path / "sms")
    shutil.copytree(ended.coordinator, tmp_path / "coordinator")
    runner, site, coordinator = CliRunner(), str(tmp_path / "sms"), str(tmp_path / "coordinator")
    shown = runner.invoke(site_commands, ["audit", "show", site])
    assert "answered" in shown.output
    assert "3 of any number of requests answered for the study tiny" in shown.output
    theirs = str(tmp_path / "coordinator" / "runs" / "ledger.jsonl")
    whole = runner.invoke(site_commands, ["audit", "verify", site, "--against", theirs])
    assert (whole.exit_code, "3 heads of the other end's" in whole.output) == (0, True)
    ours = str(tmp_path / "sms" / "state" / "ledger.jsonl")
    whole = runner.invoke(server_commands, ["audit", "verify", coordinator, "--against", ours])
    assert (whole.exit_code, "head " in whole.output) == (0, True)
    assert (
        "site=sms" in runner.invoke(server_commands, ["audit", "show", coordinator, "--site", "sms"]).output
    )
    assert runner.invoke(site_commands, ["audit", "verify", site, "--head", "0" * 63 + "1"]).exit_code != 0
    with Path(ours).open("r+b") as stream:
        stream.seek(100)
        stream.write(b"#")
    broken = runner.invoke(site_commands, ["audit", "verify", site, "--json"])
    assert broken.exit_code != 0
    assert json.loads(broken.output.splitlines()[0])["problems"]
