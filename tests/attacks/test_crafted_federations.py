"""What a coordinator may ask for: the shipped policy refuses what measures patients, by name, before a scan is read."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Message, RecordDict

from client.admission.policy import require_policy
from client.app import build_client_app
from client.rounds.request_budget import requests_answered
from client.site_home import SiteHome
from fedminet.simulation.in_process_grid import InProcessGrid, node_id_of, server_identity
from fedminet.single_machine.federation import SCHEDULES
from minet_core.errors import InvalidSetting, PolicyRefused
from minet_core.ledger.records import Ledger
from minet_core.models.registry import MODELS
from minet_core.protocol import messages
from minet_core.protocol.exchange_plan import initial_weights
from minet_core.runtime.files.atomic_write import write_text
from minet_core.settings.adaptation import AdaptationSettings
from minet_core.settings.federation import FederationSettings
from minet_core.settings.presets import federation_of
from minet_core.settings.yaml_file import settings_text
from server.rounds.exchange import request
from sites.settings.definitions import definition
from sites.settings.site_policy import open_policy, require_cohort_allowed, require_steps_allowed
from sites.settings.site_settings import PolicySettings
from sites.store.store import Store
from tests.attacks.crafted_federations import CRAFTED, SITE, UNREADABLE, quick
from tests.faults.tiny_sites import tiny_federation

N_QUESTIONS = 40

PATCH_MEANS = tiny_federation(
    rounds=1,
    training={
        **{"local_steps": 1, "patch_px": 2, "batch_size": 1, "validation_slices": 1},
        **{"alpha": 1.0, "beta": 0.0},
    },
)
"""With it, the loss of crafted weights is the mean of one patch."""

FEW_HERE = dict.fromkeys(("min_patients", "min_slices", "min_validation_slices", "min_test_patients"), 1)
"""The made-up site has three patients: what it has is let through, so that what is asked for is what is refused."""


@pytest.fixture
def home(ingested: SiteHome, tmp_path: Path) -> SiteHome:
    shutil.copytree(ingested.path, tmp_path / SITE)
    return SiteHome(tmp_path / SITE)


def with_policy(home: SiteHome, policy: PolicySettings) -> None:
    settings = home.settings().model_copy(update={"policy": policy})
    write_text(home.path / "site.yaml", settings_text(settings))


def asked(
    home: SiteHome,
    federation: FederationSettings,
    *,
    run: str = "attack",
    number: int = 1,
    kind: str = "train",
) -> RecordDict:
    """What the site answers to a request of this federation, which is the one of its kit."""
    write_text(home.kit / "federation.yaml", settings_text(federation))
    _, weights = initial_weights(federation)
    content = request(weights, round_number=number, run=run, digest=federation.digest())
    grid = InProcessGrid({SITE: build_client_app(lambda _context: home.path)})
    with server_identity():
        message = Message(content, node_id_of(SITE), kind, group_id="1")
        (reply,) = grid.pull_messages(grid.push_messages([message]))
    return reply.content


def code_in(answer: RecordDict) -> str | None:
    return str(answer.config_records[messages.FAILURE]["code"]) if messages.FAILURE in answer else None


def test_there_are_twelve_and_more() -> None:
    assert len(CRAFTED) >= 12


@pytest.mark.parametrize("name", sorted(CRAFTED))
def test_a_crafted_federation_is_refused_by_name_by_the_shipped_policy(name: str) -> None:
    """That of every definition: they ship the same (tests/sites/settings/test_definitions.py)."""
    changes, key = CRAFTED[name]
    with pytest.raises(PolicyRefused, match="FM-F420") as refused:
        require_policy(definition(SITE), quick(**changes))
    assert key in str(refused.value)


@pytest.mark.parametrize("name", sorted(UNREADABLE))
def test_what_no_file_can_say_is_refused_as_it_is_read(name: str) -> None:
    with pytest.raises(InvalidSetting, match="FM-C102"):
        quick(**UNREADABLE[name])


@pytest.mark.parametrize("kind", ["train", "evaluate"])
def test_a_crafted_request_is_refused_before_a_scan_is_read(home: SiteHome, kind: str) -> None:
    """No scan is there any more: who looked for one would say so with another code."""
    with_policy(home, PolicySettings(**FEW_HERE))
    for scan in home.store.glob("*.h5"):
        scan.unlink()
    for name in ("batches of one", "one step", "a billion rounds", "SCAFFOLD at honest sizes"):
        assert code_in(asked(home, quick(**CRAFTED[name][0]), kind=kind)) == "FM-F420", name
    refusals = [record for record in Ledger(home.state).records() if record["event"] == "refused"]
    assert [record["code"] for record in refusals] == ["FM-F420"] * 4


HONEST: dict[str, dict[str, object]] = {
    "quick": {},
    "quick, 4x": {"scale": 4},
    **{
        name: {
            "rounds": schedule.rounds,
            "training": {"local_steps": schedule.local_steps},
            "adaptation": None if schedule.adaptation is None else schedule.adaptation.model_dump(),
        }
        for name, schedule in SCHEDULES.items()
        if name
        != "simulation"  # of more rounds than the shipped policy lets through; it runs with an open one
    },
    **{name: {"algorithm": {"name": name}} for name in ("fedprox", "fedadam", "personal-head")},
    "bf16": {"traffic": {"uplink": "bf16"}},
    "int8": {"traffic": {"uplink": "int8"}},
    "declared time": {"training": {"local_steps": None, "local_seconds": 60.0}},
    "epochs": {"training": {"local_steps": None, "local_epochs": 2}},
}


@pytest.mark.parametrize("name", sorted(HONEST))
def test_an_honest_federation_is_let_through_by_the_shipped_policy(name: str) -> None:
    require_policy(definition(SITE), quick(**HONEST[name]))


@pytest.mark.parametrize("scale", [2, 4])
def test_the_preset_of_late_fusion_is_let_through(scale: int) -> None:
    late = federation_of(name="late", sites=(SITE,), preset="late", scale=scale, rounds=None)
    assert late.model.architecture == "late-fusion"
    require_policy(definition(SITE), late)
    adapted = late.model_copy(
        update={"adaptation": AdaptationSettings()}
    )  # may keep an ensemble: twelve passes
    require_policy(definition(SITE), adapted)


def test_the_papers_preset_is_let_through_with_every_architecture() -> None:
    settings = definition("sms")
    paper = federation_of(name="paper", sites=(SITE,), preset="paper", scale=2, rounds=None)
    require_policy(settings, paper)
    sizes = {"n_blocks": 6, "n_features": 64}
    for architecture in MODELS:
        if architecture == "minet":
            continue
        model = type(paper.model)(architecture=architecture, **sizes)
        require_policy(settings, paper.model_copy(update={"model": model}))


def test_40_of_40_questions_for_the_mean_of_a_patch_are_refused(home: SiteHome) -> None:
    """Each under a run name of its own, as a new count begins with a new name."""
    with_policy(home, PolicySettings(**FEW_HERE))
    codes = [code_in(asked(home, PATCH_MEANS, run=f"run-{number}")) for number in range(N_QUESTIONS)]
    assert codes == ["FM-F420"] * N_QUESTIONS
    assert requests_answered(home.state) == {}


def test_the_same_question_is_answered_by_an_open_policy(home: SiteHome) -> None:
    """The positive control: it is the policy that refuses, and what leaves is three digits of it."""
    with_policy(home, open_policy())
    answer = asked(home, PATCH_MEANS)
    assert code_in(answer) is None
    loss = float(answer.metric_records[messages.METRICS]["train_loss"])  # type: ignore[arg-type]
    assert loss == float(f"{loss:.2e}")


def test_the_budget_counts_over_all_run_names_and_lasts(home: SiteHome) -> None:
    with_policy(home, open_policy().model_copy(update={"max_requests": 3}))
    federation = tiny_federation()
    for number in (1, 2):
        assert code_in(asked(home, federation, run=f"run-{number}")) is None
        assert code_in(asked(home, federation, run=f"run-{number}")) is None  # the same again does not count
    assert requests_answered(home.state) == {"tiny": 2}
    assert code_in(asked(home, federation, run="run-1", kind="evaluate")) is None
    assert code_in(asked(home, federation, run="run-4")) == "FM-F420"
    assert code_in(asked(home, federation, run="run-1", number=2)) == "FM-F420"
    assert code_in(asked(home, federation, run="run-2", kind="evaluate")) == "FM-F420"
    changed = tiny_federation(rounds=4)  # a new kit of the same study begins no new count
    assert code_in(asked(home, changed, run="run-1")) == "FM-F420"
    assert code_in(asked(home, federation, run="run-2")) is None  # what was answered is given again
    assert requests_answered(home.state) == {"tiny": 3}


def test_a_damaged_count_answers_nothing(home: SiteHome) -> None:
    home.state.mkdir(exist_ok=True)
    (home.state / "requests.json").write_text("{")
    assert code_in(asked(home, tiny_federation())) == "FM-C100"


@pytest.mark.parametrize(
    ("floors", "key"),
    [
        ({"min_patients": 3}, "min_patients"),
        ({"min_slices": 1000}, "min_slices"),
        ({"min_validation_slices": 1000}, "min_validation_slices"),
        ({"min_test_patients": 2}, "min_test_patients"),
    ],
)
def test_a_site_of_too_few_sends_nothing(home: SiteHome, floors: dict[str, int], key: str) -> None:
    policy = open_policy().model_copy(update=floors)
    with pytest.raises(PolicyRefused, match=key):
        require_cohort_allowed(policy, tiny_federation(), Store(home.store).cohort, site=SITE)
    with_policy(home, policy)
    assert code_in(asked(home, tiny_federation())) == "FM-F420"


def test_whole_slices_that_are_smaller_than_a_patch_are_refused(home: SiteHome) -> None:
    federation = tiny_federation(training={"local_steps": 2, "patch_px": None, "batch_size": 2})
    policy = open_policy().model_copy(update={"min_patch_px": 48})
    with pytest.raises(PolicyRefused, match="min_patch_px"):
        require_cohort_allowed(policy, federation, Store(home.store).cohort, site=SITE)


def test_a_timed_round_that_came_to_one_step_does_not_leave(home: SiteHome) -> None:
    """Declared long enough, and stopped by a machine that is slow: the steps there were are counted."""
    with_policy(home, open_policy().model_copy(update={"min_steps": 5}))
    work = {
        "local_steps": None,
        "local_seconds": 0.002,
        "patch_px": 16,
        "batch_size": 2,
        "validation_slices": 1,
    }
    assert code_in(asked(home, tiny_federation(training=work))) == "FM-F420"
    assert not list(home.state.glob("**/*.safetensors"))
    with pytest.raises(PolicyRefused, match="min_samples"):
        require_steps_allowed(PolicySettings(), n_steps=5, n_samples=19)


def test_every_figure_leaves_rounded_and_no_interval_of_few_patients(home: SiteHome) -> None:
    with_policy(home, open_policy().model_copy(update={"min_patients": 2}))
    for kind, agreed in (("train", messages.TRAIN_FIGURES), ("evaluate", messages.TEST_FIGURES)):
        answer = asked(home, tiny_federation(), kind=kind)
        figures = dict(answer.metric_records[messages.METRICS])
        assert messages.rounded_figures(figures, agreed=agreed) == figures  # type: ignore[arg-type]
        for name, value in figures.items():
            if not agreed[name].whole:
                assert len(np.format_float_positional(float(value)).rstrip("0").lstrip("-0.")) <= 8  # type: ignore[arg-type]
    assert figures["n_test_volumes"] == 1
    assert not [name for name in figures if name.endswith(("_low", "_high"))]


def test_a_request_with_a_value_more_or_without_the_coordinators_head_is_refused(home: SiteHome) -> None:
    federation = tiny_federation()
    write_text(home.kit / "federation.yaml", settings_text(federation))
    _, weights = initial_weights(federation)
    grid = InProcessGrid({SITE: build_client_app(lambda _context: home.path)})
    for change in ({"more": 1}, {"ledger": "../../keys"}, {"ledger": "A" * 64}, {"ledger": 7}):
        content = request(weights, round_number=1, run="attack", digest=federation.digest())
        content.config_records[messages.REQUEST].update(change)
        with server_identity():
            message = Message(content, node_id_of(SITE), "train", group_id="1")
            (reply,) = grid.pull_messages(grid.push_messages([message]))
        assert code_in(reply.content) == "FM-F401"
