"""The global model made a site's own: the same bytes after any kill, a choice no test patient sways, the policy."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from rich.console import Console
from typer.testing import CliRunner

import fedminet.simulation.simulate as simulation
from client.app import build_client_app
from client.commands import site_commands
from client.rounds.adapt_file import adapt_file, adapted_as_text, recipe_for
from client.rounds.adaptation_task import SiteAdaptation, alone_steps
from client.rounds.round import prepared_training_slices
from client.rounds.site_adaptation import adapt_at_site, score_adapted
from client.site_home import SiteHome
from minet_core.checkpoint import load_model, read_manifest, save_weights
from minet_core.errors import FileMissing, PolicyRefused, StoreDamaged
from minet_core.evaluation.model_choice import ENSEMBLE_SPREAD_DB
from minet_core.evaluation.volume_scores import evaluate_volume
from minet_core.protocol import messages
from minet_core.protocol.exchange_plan import initial_weights
from minet_core.report.table import print_table
from minet_core.report.wording import KEPT_WORDS
from minet_core.runtime.files.atomic_write import sha256_of_file, write_text
from minet_core.settings.adaptation import AdaptationSettings
from minet_core.settings.federation import FederationSettings
from minet_core.settings.presets import federation_of
from minet_core.settings.yaml_file import settings_text
from minet_core.weights.manifest import learnable, load_weights
from server.dashboard.rendering import run_sections
from server.dashboard.run_reader import RunReader
from server.runs.summary import summarise_run
from sites.settings.site_policy import require_federation_allowed
from sites.settings.site_settings import PolicySettings
from sites.store.store import Store
from tests.faults.tiny_sites import make_tiny_sites, tiny_federation
from tests.support.killed import Killed, killed_at
from tests.support.own_validation_site import own_validation_site
from tests.support.repository import ROOT
from tests.support.warm_python import warm_python

ADAPTATION = AdaptationSettings(head_steps=3, steps=4)


LADDER = AdaptationSettings(steps=4, rates=(1e-3, 1e-5))


def adapting(**changes: object) -> FederationSettings:
    return tiny_federation(adaptation=ADAPTATION.model_dump(), **changes)


def task_at(home: SiteHome, **changes: Any) -> SiteAdaptation:
    federation = adapting()
    weights = initial_weights(federation.model_copy(update={"seed": 5}))[1]
    task = SiteAdaptation(home, federation, ADAPTATION, weights, n_alone_steps=5, keep_every=2)
    return replace(task, **changes)


def prepared(home: SiteHome) -> Any:
    return prepared_training_slices(Store(home.store), scale=2)


def files_of(task: SiteAdaptation) -> dict[str, str]:
    return {path.name: sha256_of_file(path) for path in sorted(task.folder.iterdir())}


@dataclass(frozen=True)
class Undisturbed:
    """A site that has adapted without a stop, the stretches that it kept, and its files' digests."""

    home: SiteHome
    moments: list[str]
    files: dict[str, str]

    def copied(self, folder: Path) -> SiteHome:
        """For who changes it."""
        shutil.copytree(self.home.path, folder)
        return SiteHome(folder)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    home, moments = own_validation_site(tmp_path_factory.mktemp("undisturbed") / "site"), list[str]()
    task = task_at(home)
    adapt_at_site(task, prepared(home), observer=moments.append)
    return Undisturbed(home, moments, files_of(task))


def test_ended_after_any_stretch_it_ends_in_the_same_bytes(tmp_path: Path, undisturbed: Undisturbed) -> None:
    # 2 + 1 and 2 + 2 steps; 2 + 2 + 1
    assert undisturbed.moments == ["adapted"] * 4 + ["alone"] * 3
    assert set(undisturbed.files) == {
        *("adapted.safetensors", "alone.safetensors", "card.json", "global.safetensors", "model.safetensors"),
    }
    home = own_validation_site(tmp_path / "site")
    task = task_at(home)

    def kill(_: str) -> None:
        raise Killed

    for _ in undisturbed.moments:  # each process keeps one stretch more, and ends
        with pytest.raises(Killed):
            adapt_at_site(task, prepared(home), observer=kill)
        assert "card.json" not in files_of(task)
    adapt_at_site(task, prepared(home), observer=kill)  # nothing is left to train
    assert files_of(task) == undisturbed.files


def test_the_chosen_models_file_and_its_card_have_its_error_bars(undisturbed: Undisturbed) -> None:
    folder = undisturbed.home.results / "adaptation"
    bars = read_manifest(folder / "model.safetensors").calibration
    assert bars is not None
    assert bars.patients == 1
    card = json.loads((folder / "card.json").read_text())
    assert card["error_bars"] == json.loads(json.dumps(bars.as_card()))
    assert card["error_bars"]["promised"]["0.95"] == pytest.approx(0.475)
    assert read_manifest(folder / "global.safetensors").calibration is None


def test_an_adapted_model_still_says_what_its_training_knew_of_wrong_references(tmp_path: Path) -> None:
    home = make_tiny_sites(tmp_path / "sites", names=("sms",))["sms"]
    troubled = adapting(training={"local_steps": 2, "patch_px": 16, "batch_size": 2, "trouble": {}})
    task = task_at(home, federation=troubled, weights=initial_weights(troubled)[1])
    adapt_at_site(task, prepared(home))
    assert read_manifest(task.folder / "model.safetensors").knows_absence


def test_a_process_that_was_killed_leaves_what_it_kept(tmp_path: Path, undisturbed: Undisturbed) -> None:
    """By SIGKILL, after the second stretch: nothing of the process runs any more."""
    home = own_validation_site(tmp_path / "site")
    program = (
        "import os, signal\nfrom pathlib import Path\nfrom client.site_home import SiteHome\n"
        "from tests.client.rounds import test_site_adaptation as here\n"
        f"home, left = SiteHome(Path({str(home.path)!r})), [2]\n"
        "def kill(_):\n    left[0] -= 1\n    left[0] or os.kill(os.getpid(), signal.SIGKILL)\n"
        "here.adapt_at_site(here.task_at(home), here.prepared(home), observer=kill)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run([warm_python(), "-c", program], env=environment, check=False)
    assert ended.returncode == -signal.SIGKILL
    task, moments = task_at(home), list[str]()
    assert list(files_of(task)) == ["adapted.safetensors"]
    adapt_at_site(task, prepared(home), observer=moments.append)
    assert moments == ["adapted"] * 2 + ["alone"] * 3  # two stretches are not made again
    assert files_of(task) == undisturbed.files


def test_two_sites_and_the_server_end_in_the_same_bytes_however_often_they_are_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everything ends each time a site has kept a stretch of its adaptation, and goes on."""
    sites = ("sms", "umr")
    federation = adapting(rounds=1, sites=sites, participation={"quorum": len(sites), "deadline_s": 60.0})
    homes = make_tiny_sites(tmp_path / "made", names=sites)

    def outcome(folder: Path) -> dict[str, str]:
        found = {"global": sha256_of_file(folder / "coordinator/runs/comparison/global.safetensors")}
        for path in sorted(folder.glob("sites/*/results/adaptation/*")):
            found[path.relative_to(folder).as_posix()] = sha256_of_file(path)
        return found

    simulation.federate(tmp_path / "whole", federation, homes, lambda *_: None)
    n_kills = 0
    while True:
        with monkeypatch.context() as patched:
            killed_at(patched, "client.rounds.kept_stand.save_parcel", call=1, before=False)
            try:
                simulation.federate(tmp_path / "killed", federation, homes, lambda *_: None)
            except Killed:
                n_kills += 1
                continue
        break
    assert n_kills == 2 * 3  # at each site: the head, the whole model, the model alone
    assert outcome(tmp_path / "killed") == outcome(tmp_path / "whole")
    assert len(outcome(tmp_path / "whole")) == 1 + 2 * 6


def test_training_that_was_kept_is_not_made_again_and_other_weights_begin_anew(
    tmp_path: Path, undisturbed: Undisturbed
) -> None:
    home = undisturbed.copied(tmp_path / "site")
    task, moments = task_at(home), list[str]()
    adapt_at_site(task, prepared(home), observer=moments.append)
    assert moments == []
    moments.clear()
    gentler = ADAPTATION.model_copy(update={"learning_rate": 1e-4})
    adapt_at_site(replace(task, adaptation=gentler), prepared(home), observer=moments.append)
    assert moments == ["adapted"] * 4  # the model alone knows nothing of how another is adapted
    adapt_at_site(task, prepared(home))
    moments.clear()
    others = {name: array + np.float32(0.01) for name, array in task.weights.items()}
    adapt_at_site(replace(task, weights=others), prepared(home), observer=moments.append)
    assert moments.count("adapted") == 4
    (task.folder / "adapted.safetensors").write_bytes(b"cut off")
    with pytest.raises(StoreDamaged):
        adapt_at_site(task, prepared(home))


def test_no_test_patient_is_looked_at_before_the_choice(tmp_path: Path, undisturbed: Undisturbed) -> None:
    without = task_at(own_validation_site(tmp_path / "without"))
    store = Store(without.home.store)
    for pair, _ in store.cohort.pairs_of("test"):
        (store.path / pair.file).unlink()
    adapted = adapt_at_site(without, prepared(without.home))
    assert files_of(without) == undisturbed.files
    with pytest.raises(StoreDamaged):  # the test does look at them
        score_adapted(without, adapted)


def test_the_choice_is_that_of_the_validation_patients(tmp_path: Path) -> None:
    """From weights of noise, what was trained is the better by decibels; from what was trained here, it is not."""
    home = own_validation_site(tmp_path / "site")
    task = task_at(home)
    noise = {name: array + np.float32(0.2) for name, array in task.weights.items()}
    choice = adapt_at_site(replace(task, weights=noise), prepared(home)).choice
    assert choice.n_patients == 1
    assert choice.chosen != "global"
    assert choice.behind["global"].mean_db > choice.behind["global"].standard_error_db
    card = json.loads((task.folder / "card.json").read_text())
    assert card["chosen"] == choice.chosen
    manifest = read_manifest(task.folder / "model.safetensors")
    assert manifest.provenance["kept"] == choice.chosen
    kept = learnable(load_model(task.folder / "model.safetensors")[0])
    assert not all(np.array_equal(kept[name], noise[name]) for name in noise)


def test_a_global_model_that_is_plainly_worse_is_no_part_of_the_ensemble(tmp_path: Path) -> None:
    home = own_validation_site(tmp_path / "site")
    task = task_at(home)
    bias = "target_reconstruction.bias"  # a brighter image, which a few steps darken
    brighter = {**task.weights, bias: task.weights[bias] + np.float32(0.2)}
    adaptation = AdaptationSettings(steps=30, learning_rate=1e-2)
    adapted = adapt_at_site(replace(task, weights=brighter, adaptation=adaptation), prepared(home))
    figures = adapted.choice.means_db
    assert figures["global"] < min(figures["adapted"], figures["alone"]) - ENSEMBLE_SPREAD_DB
    assert adapted.ensembled == ("adapted", "alone")
    assert adapted.n_networks("ensemble") == 2
    card = json.loads((task.folder / "card.json").read_text())
    assert card["ensembled"] == ["adapted", "alone"]
    assert card["steps"]["ensemble"] == card["steps"]["adapted"] + card["steps"]["alone"]
    assert set(score_adapted(task, adapted)) == {"global", "adapted", "alone", "ensemble"}


def test_a_site_without_a_validation_patient_of_its_own_keeps_the_ensemble_unjudged(tmp_path: Path) -> None:
    home = make_tiny_sites(tmp_path, names=("sms",))["sms"]
    task = task_at(home)
    adapted = adapt_at_site(task, prepared(home))
    assert (adapted.choice.chosen, adapted.choice.n_patients) == ("ensemble", 0)
    assert adapted.ensembled == ("global", "adapted", "alone")
    assert adapted.calibration is None
    card = json.loads((task.folder / "card.json").read_text())
    assert (card["chosen"], card["validation"]["patients"]) == ("ensemble", 0)


def test_of_a_site_without_a_judge_a_network_that_is_plainly_worse_is_left_out(tmp_path: Path) -> None:
    home = make_tiny_sites(tmp_path, names=("sms",))["sms"]
    bias = "target_reconstruction.bias"
    task = task_at(home)
    brighter = {**task.weights, bias: task.weights[bias] + np.float32(0.4)}
    longer = AdaptationSettings(steps=30, learning_rate=1e-2)
    adapted = adapt_at_site(replace(task, weights=brighter, adaptation=longer), prepared(home))
    assert adapted.ensembled == ("adapted", "alone")
    wild = AdaptationSettings(head_steps=0, steps=2, learning_rate=3.0)
    adapted = adapt_at_site(replace(task, adaptation=wild), prepared(home))
    assert "adapted" in adapted.weights
    assert adapted.ensembled == ("global", "alone")


def test_a_site_without_a_judge_that_trains_none_alone_keeps_what_is_fit(tmp_path: Path) -> None:
    home = make_tiny_sites(tmp_path, names=("sms",))["sms"]
    task = task_at(home, n_alone_steps=0)
    adapted = adapt_at_site(task, prepared(home))
    assert (adapted.choice.chosen, adapted.ensembled) == ("ensemble", ("global", "adapted"))
    assert set(score_adapted(task, adapted)) == {"global", "adapted", "ensemble"}
    one_network = task.adaptation.model_copy(update={"ensemble": False})
    assert adapt_at_site(replace(task, adaptation=one_network), prepared(home)).choice.chosen == "global"
    bias = "target_reconstruction.bias"
    brighter = {**task.weights, bias: task.weights[bias] + np.float32(0.4)}
    longer = AdaptationSettings(steps=30, learning_rate=1e-2)
    adapted = adapt_at_site(replace(task, weights=brighter, adaptation=longer), prepared(home))
    assert (adapted.choice.chosen, adapted.ensembled) == ("adapted", ())


def test_a_training_that_diverges_is_left_out(tmp_path: Path) -> None:
    home = own_validation_site(tmp_path / "site")
    wild = AdaptationSettings(head_steps=0, steps=12, learning_rate=1e12)
    adapted = adapt_at_site(task_at(home, adaptation=wild), prepared(home))
    assert adapted.diverged == ("adapted",)
    assert set(adapted.weights) == {"global", "alone"}


def test_models_are_compared_on_as_many_slices_of_a_validation_volume_as_are_asked_for(
    tmp_path: Path,
) -> None:
    home = own_validation_site(tmp_path / "site")
    few = ADAPTATION.model_copy(update={"validation_slices": 2})
    task = task_at(home, adaptation=few, n_alone_steps=0)
    found = adapt_at_site(task, prepared(home)).psnr_db["global"]
    store, model = Store(home.store), initial_weights(task.federation)[0]
    load_weights(model, task.weights)
    ((_, target, reference),) = store.volumes("validation")
    ends, whole = (
        evaluate_volume(model, target[chosen], reference[chosen], scale=2).metrics["global"]["psnr_db"]
        for chosen in ([0, len(target) - 1], slice(None))
    )
    assert len(target) > 2
    assert list(found.values()) == [pytest.approx(ends, abs=0.02)]  # it may judge in bfloat16
    assert abs(ends - whole) > 0.1


def test_each_rate_of_a_ladder_is_trained_as_it_would_be_alone_and_the_card_says_what_all_cost(
    tmp_path: Path,
) -> None:
    home = own_validation_site(tmp_path / "site")
    task = task_at(home, adaptation=LADDER)
    moments: list[str] = []
    adapted = adapt_at_site(task, prepared(home), observer=moments.append)
    assert moments == ["adapted"] * 2 * 2 + ["alone"] * 3
    card = json.loads((task.folder / "card.json").read_text())
    assert [tried["learning_rate"] for tried in card["tried"]] == [1e-5, 1e-3]
    assert [tried["steps"] for tried in card["tried"]] == [4, 4]
    assert card["steps"] == {"global": 0, "adapted": 4, "alone": 5, "ensemble": 9}
    assert card["cost_steps"] == {"global": 0, "adapted": 8, "alone": 5, "ensemble": 0}
    means = {tried["learning_rate"]: tried["psnr_db"] for tried in card["tried"]}
    assert card["learning_rate"] == adapted.ladder.chosen == max(means, key=lambda rate: means[rate])
    assert card["validation"]["psnr_db"]["adapted"] == max(means.values())
    assert means[1e-5] != means[1e-3]

    single = task_at(
        own_validation_site(tmp_path / "single"), adaptation=LADDER.with_rate(card["learning_rate"])
    )
    alike = adapt_at_site(single, prepared(single.home))
    for name, array in alike.weights["adapted"].items():
        assert np.array_equal(array, adapted.weights["adapted"][name])
    assert "tried" not in json.loads((single.folder / "card.json").read_text())


def test_a_ladder_that_was_killed_anywhere_ends_in_the_same_bytes(tmp_path: Path) -> None:
    home = own_validation_site(tmp_path / "site")
    task, moments = task_at(home, adaptation=LADDER), list[str]()
    adapt_at_site(task, prepared(home), observer=moments.append)
    whole = files_of(task)
    assert {name for name in whole if name.startswith("adapted")} == {
        "adapted-1e-05.safetensors",
        "adapted-0.001.safetensors",
    }
    for path in task.folder.iterdir():
        path.unlink()

    def kill(_: str) -> None:
        raise Killed

    for _ in moments:
        with pytest.raises(Killed):
            adapt_at_site(task, prepared(home), observer=kill)
    adapt_at_site(task, prepared(home), observer=kill)  # nothing is left to train
    assert files_of(task) == whole
    more = LADDER.model_copy(update={"rates": (1e-5, 1e-4, 1e-3)})
    moments.clear()
    adapt_at_site(replace(task, adaptation=more), prepared(home), observer=moments.append)
    assert moments == ["adapted"] * 2  # of the one rate that was not tried before


def test_a_rate_that_diverges_is_left_out_and_the_others_are_compared(tmp_path: Path) -> None:
    home = own_validation_site(tmp_path / "site")
    task = task_at(home, adaptation=AdaptationSettings(steps=12, rates=(1e-4, 1e12)))
    adapted = adapt_at_site(task, prepared(home))
    assert (adapted.ladder.chosen, set(adapted.ladder.psnr_db), adapted.diverged) == (1e-4, {1e-4}, ())
    tried = json.loads((task.folder / "card.json").read_text())["tried"]
    assert [one["diverged"] for one in tried] == [False, True]
    assert [one["psnr_db"] is None for one in tried] == [False, True]


def test_a_model_alone_that_is_better_on_validation_patients_is_chosen(tmp_path: Path) -> None:
    """From a global model of noise, which no rate of the ladder mends."""
    home = own_validation_site(tmp_path / "site")
    task = task_at(home, adaptation=AdaptationSettings(steps=2, rates=(1e-7, 1e-6)))
    noise = {name: array + np.float32(0.05) for name, array in task.weights.items()}
    choice = adapt_at_site(replace(task, weights=noise), prepared(home)).choice
    assert choice.chosen == "alone"
    assert choice.behind["adapted"].mean_db > choice.behind["adapted"].standard_error_db


def test_the_model_alone_may_have_a_rate_of_its_own(tmp_path: Path) -> None:
    """What averaging bears is too much for one site's small batches."""
    home = own_validation_site(tmp_path / "site")
    plain = task_at(home)
    own = task_at(home, adaptation=ADAPTATION.model_copy(update={"alone_learning_rate": 1e-4}))
    assert [phase.settings.learning_rate for phase in own.phases("alone")] == [1e-4]
    assert own.phases("adapted") == plain.phases("adapted")
    (of_rounds,) = plain.phases("alone")
    assert of_rounds.settings.learning_rate == plain.federation.training.learning_rate
    first = adapt_at_site(plain, prepared(home)).weights["alone"]
    again = adapt_at_site(own, prepared(home)).weights["alone"]  # not what the former rate left in the folder
    assert any((first[name] != again[name]).any() for name in first)


def test_a_ladder_is_part_of_the_federation_file_only_where_it_is_used() -> None:
    before = {"head", "head_steps", "head_learning_rate", "steps", "learning_rate", "alone", "deadline_s"}
    assert set(AdaptationSettings().model_dump(mode="json")) == before
    assert AdaptationSettings(rates=(1e-3, 3e-4)).tried_rates == (3e-4, 1e-3)
    assert AdaptationSettings(learning_rate=1e-3).tried_rates == (1e-3,)
    read = AdaptationSettings.model_validate(LADDER.model_dump(mode="json"))
    assert (read, read.rates) == (LADDER, (1e-5, 1e-3))
    with pytest.raises(ValidationError, match="twice"):
        AdaptationSettings(rates=(1e-3, 1e-3))


def test_a_federation_tells_the_agreed_figures_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replies: list[Any] = []

    def watched(locate: Any) -> Any:
        app = build_client_app(locate)

        def answer(*, message: Any, context: Any) -> Any:
            reply = app(message=message, context=context)
            if message.metadata.message_type == "evaluate":
                replies.append(reply.content)
            return reply

        return answer

    monkeypatch.setattr(simulation, "build_client_app", watched)
    federation = adapting(rounds=1, sites=("sms",), participation={"quorum": 1, "deadline_s": 60.0})
    homes = {"sms": own_validation_site(tmp_path / "made")}
    run = simulation.federate(tmp_path / "run", federation, homes, lambda *_: None)
    assert run.state.status == "completed"
    assert [set(content) for content in replies] == [{messages.METRICS}]
    figures = dict(replies[0][messages.METRICS])
    agreed = messages.test_figures(adapted=True)
    assert set(figures) <= set(agreed)
    assert figures == messages.rounded_figures(figures, agreed=agreed)
    assert {"chosen", "adapted_psnr_db", "alone_psnr_db", "chosen_less_alone_db"} <= set(figures)

    site = summarise_run(run).sites["sms"]
    assert site.adaptation is not None
    assert list(site.methods()) == ["sinc", "bicubic", "alone", "adapted", "ensemble", "global"]
    found = site.adaptation.differences
    assert found["chosen less sinc"] == found[f"{site.adaptation.chosen} less sinc"]
    assert "This site keeps" in (run.path / "report.html").read_text()
    screen = run_sections(RunReader(run).view(), None, may_control=False)
    assert f"<b>{KEPT_WORDS[site.adaptation.chosen]}</b>" in "".join(screen.values())
    terminal = Console(record=True, width=300)
    print_table(summarise_run(run), terminal)
    assert f"sms keeps {KEPT_WORDS[site.adaptation.chosen]}. PSNR" in terminal.export_text()

    results = tmp_path / "run" / "sites" / "sms" / "results" / "adaptation"
    assert json.loads((results / "card.json").read_text())["chosen"] == site.adaptation.chosen
    n_alone = json.loads((results / "card.json").read_text())["steps"]["alone"]
    assert n_alone == 1 * 2 + ADAPTATION.n_steps


def test_a_federation_file_without_the_key_is_what_it_was() -> None:
    federation = tiny_federation()
    assert "adaptation" not in federation.model_dump(mode="json")
    assert "adaptation" not in settings_text(federation)
    assert federation.digest() != adapting().digest()
    assert messages.test_figures(adapted=False) == messages.TEST_FIGURES


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"steps": 1999, "head_steps": 2}, "max_adaptation_steps"),
        ({"steps": 2, "head_steps": 50}, "min_steps"),
        ({"learning_rate": 1e-9}, "min_learning_rate"),
        ({"steps": 700, "rates": (1e-4, 1e-3, 2e-3)}, "max_adaptation_steps"),
        ({"rates": (1e-9, 1e-3)}, "min_learning_rate"),
        ({"head_learning_rate": 1.0}, "max_learning_rate"),
        ({"alone_learning_rate": 1.0}, "max_learning_rate"),
        ({"alone_learning_rate": 1e-9}, "min_learning_rate"),
    ],
)
def test_the_sites_policy_bounds_the_adaptation(changes: dict[str, object], key: str) -> None:
    policy, usual = (
        PolicySettings(),
        FederationSettings.model_validate(
            {"name": "pilot", "sites": ("sms",), "participation": {"quorum": 1}, "adaptation": {}}
        ),
    )
    require_federation_allowed(policy, usual, site="sms")
    asked = usual.model_copy(update={"adaptation": AdaptationSettings.model_validate(changes)})
    with pytest.raises(PolicyRefused, match=key):
        require_federation_allowed(policy, asked, site="sms")


def test_a_site_that_does_not_give_the_time_trains_no_model_alone(tmp_path: Path) -> None:
    home = make_tiny_sites(tmp_path, names=("sms",))["sms"]
    federation = adapting()
    n_steps = federation.rounds * 2 + ADAPTATION.n_steps
    assert alone_steps(federation, home, n_slices=10) == n_steps
    settings = home.settings()
    policy = settings.policy.model_copy(update={"max_alone_steps": n_steps - 1})
    (home.path / "site.yaml").write_text(settings_text(settings.model_copy(update={"policy": policy})))
    assert alone_steps(federation, home, n_slices=10) == 0
    adapted = adapt_at_site(task_at(home, n_alone_steps=0), prepared(home))
    assert set(adapted.weights) == {"global", "adapted", "ensemble"}


def test_a_model_is_adapted_later_by_the_recipe_that_it_comes_from(tmp_path: Path) -> None:
    home = make_tiny_sites(tmp_path / "sites", names=("sms",))["sms"]
    with pytest.raises(FileMissing):
        adapt_file(home, None)
    federation, model = adapting(), tmp_path / "released.safetensors"
    write_text(home.kit / "federation.yaml", settings_text(federation))
    save_weights(model, federation, initial_weights(federation)[1], round_number=2)
    assert recipe_for(home, read_manifest(model)) == federation
    steps: list[tuple[int, int]] = []
    page = adapt_file(home, model, advance=lambda done, total: steps.append((done, total)))
    assert steps[0][0] == 0
    assert steps[-1][0] == steps[-1][1] == page["cost_steps"]["adapted"] + page["cost_steps"].get("alone", 0)
    assert [done for done, _ in steps] == sorted(done for done, _ in steps)
    assert page["chosen"] == "ensemble"
    assert page["steps"]["adapted"] == ADAPTATION.n_steps
    assert "averages their images" in adapted_as_text(page)
    assert "nothing to choose by" in adapted_as_text(page)
    told = CliRunner().invoke(site_commands, ["adapt", str(home.path), "--json"])
    assert (told.exit_code, json.loads(told.stdout)) == (0, json.loads(json.dumps(page)))
    assert "looked at after the choice" in CliRunner().invoke(site_commands, ["adapt", str(home.path)]).stdout
    manifest = read_manifest(Path(page["model"]))
    assert manifest.provenance["federation_digest"] == federation.digest()
    assert manifest.round_number == 2


def test_a_site_that_took_no_part_has_the_presets_recipe_around_the_model(tmp_path: Path) -> None:
    home = make_tiny_sites(tmp_path / "sites", names=("sms",))["sms"]
    federation, model = tiny_federation(), tmp_path / "released.safetensors"
    save_weights(model, federation, initial_weights(federation)[1], round_number=2)
    recipe = recipe_for(home, read_manifest(model))
    assert (recipe.model, recipe.scale, recipe.rounds) == (federation.model, federation.scale, 2)
    assert recipe.adaptation == AdaptationSettings()
    write_text(home.kit / "federation.yaml", settings_text(tiny_federation(seed=2)))
    assert recipe_for(home, read_manifest(model)) == recipe  # the kit is of another federation


@pytest.mark.parametrize("preset", ["quick", "late"])
def test_a_released_model_is_trained_as_its_architecture_is(tmp_path: Path, preset: str) -> None:
    home = make_tiny_sites(tmp_path / "sites", names=("sms",))["sms"]
    federation = federation_of(name="other", sites=("sms",), preset=preset, scale=2, rounds=3)
    model = tmp_path / "released.safetensors"
    save_weights(model, federation, initial_weights(federation)[1], round_number=3)
    assert recipe_for(home, read_manifest(model)).training == federation.training
