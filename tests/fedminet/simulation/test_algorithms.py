"""Every algorithm and every form of the weights, over the real apps and real training, on the in-process grid."""

from __future__ import annotations

import itertools
import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from client.app import build_client_app
from client.rounds.round_cache import RoundCache
from client.site_home import SiteHome
from fedminet.simulation.in_process_grid import InProcessGrid, server_identity
from minet_core.checkpoint import load_checkpoint, load_model
from minet_core.errors import CheckpointInvalid, QuorumNotMet, StaleMessage, UpdateSuspect
from minet_core.protocol.exchange_plan import initial_weights
from minet_core.runtime.files.atomic_write import sha256_of_file, write_text
from minet_core.settings.federation import FederationSettings
from minet_core.settings.yaml_file import settings_text
from minet_core.training import loop
from server.rounds.run import run_federation
from server.runs.run_directory import RunDirectory
from tests.faults.tiny_sites import TINY_SITES as SITES
from tests.faults.tiny_sites import make_tiny_sites, tiny_federation
from tests.support.killed import Killed


@dataclass(frozen=True)
class Small:
    """Three tiny sites under one federation file."""

    out: Path
    federation: FederationSettings

    def home(self, site: str) -> SiteHome:
        return SiteHome(self.out / "sites" / site)

    def begin(self) -> RunDirectory:
        for site in SITES:
            write_text(self.home(site).kit / "federation.yaml", settings_text(self.federation))
        return RunDirectory.create(self.out / "run", self.federation, engine="in-process")

    def conduct(self, run: RunDirectory, *, kill_at: str | None = None) -> RunDirectory:
        apps = {
            site: build_client_app(lambda _context, path=self.home(site).path: path)  # type: ignore[misc]
            for site in SITES
        }

        def at(moment: str) -> None:
            if moment == kill_at:
                raise Killed

        with server_identity():
            run_federation(InProcessGrid(apps), run, observer=at)
        return run


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    make_tiny_sites(folder)
    return folder


@pytest.fixture
def small(tmp_path: Path, made: Path) -> Callable[..., Small]:
    """Makes the three sites anew, with their stores, under a federation file with these changes."""

    def make(name: str = "one", **changes: object) -> Small:
        shutil.copytree(made / "sites", tmp_path / name / "sites")
        return Small(tmp_path / name, tiny_federation(**changes))

    return make


@pytest.fixture(scope="module")
def conducted(
    tmp_path_factory: pytest.TempPathFactory, made: Path
) -> Callable[..., tuple[Small, RunDirectory]]:
    """Makes a run under these changes that nothing stops, once for all tests: they only look at it."""
    done: dict[str, tuple[Small, RunDirectory]] = {}

    def conduct(**changes: object) -> tuple[Small, RunDirectory]:
        key = json.dumps(changes, sort_keys=True)
        if key not in done:
            folder = tmp_path_factory.mktemp("conducted")
            shutil.copytree(made / "sites", folder / "sites")
            sites = Small(folder, tiny_federation(**changes))
            done[key] = sites, sites.conduct(sites.begin())
        return done[key]

    return conduct


ALGORITHMS = {
    "fedprox": {"name": "fedprox", "proximal_mu": 0.1},
    "scaffold": {"name": "scaffold"},
    "fedadam": {"name": "fedadam", "server_learning_rate": 0.01},
    "personal-head": {"name": "personal-head"},
}


@pytest.mark.parametrize("name", sorted(ALGORITHMS))
def test_an_algorithm_runs_to_its_end_and_an_interrupted_run_comes_to_the_same_bytes(
    small: Callable[..., Small], conducted: Callable[..., tuple[Small, RunDirectory]], name: str
) -> None:
    _, run = conducted(algorithm=ALGORITHMS[name])
    assert run.state.status == "completed"
    assert set(run.tests_recorded()) == set(SITES)
    stopped = small("stopped", algorithm=ALGORITHMS[name])
    again = stopped.begin()
    for moment in ("received", "aggregated", "saved"):
        with pytest.raises(Killed):
            stopped.conduct(again, kill_at=moment)
    stopped.conduct(again)
    assert sha256_of_file(again.global_model) == sha256_of_file(run.global_model)
    assert again.tests_recorded()["sms"]["global_psnr_db"] == run.tests_recorded()["sms"]["global_psnr_db"]


def test_the_algorithms_differ(conducted: Callable[..., tuple[Small, RunDirectory]]) -> None:
    digests = set()
    for name in ("fedavg", "fedprox", "scaffold", "fedadam"):
        _, run = conducted(algorithm=ALGORITHMS.get(name, {"name": name}))
        digests.add(load_checkpoint(run.global_model)[1].tensors)
    assert len(digests) == 4


def test_a_personal_head_stays_at_its_site(conducted: Callable[..., tuple[Small, RunDirectory]]) -> None:
    personal, run = conducted(algorithm=ALGORITHMS["personal-head"])
    tensors, _ = load_checkpoint(run.global_model)
    assert not any(name.startswith(personal.federation.algorithm.personal) for name in tensors)
    with pytest.raises(CheckpointInvalid, match="shared part"):
        load_model(run.global_model)
    heads = []
    for site in SITES:
        model, _ = load_model(personal.home(site).results / "model.safetensors")  # what the site infers with
        heads.append(model.target_reconstruction.weight.detach().numpy().copy())
        assert np.array_equal(model.fusions[0].bias.detach().numpy(), tensors["fusions.0.bias"].numpy())
    _, first = initial_weights(personal.federation)
    assert all(not np.array_equal(head, first["target_reconstruction.weight"]) for head in heads)
    assert not np.array_equal(heads[0], heads[1])


@pytest.mark.parametrize(("uplink", "min_saving"), [("bf16", 1.5), ("int8", 2.0)])
def test_fewer_bytes_go_up_and_nearly_the_same_model_comes_out(
    conducted: Callable[..., tuple[Small, RunDirectory]], uplink: str, min_saving: float
) -> None:
    runs = {form: conducted(rounds=2, traffic={"uplink": form})[1] for form in ("full", uplink)}
    up = {form: run.rounds_recorded()[-1]["sites"]["sms"]["bytes_up"] for form, run in runs.items()}
    assert up["full"] > min_saving * up[uplink]  # names and shapes are a good part of so small a model
    whole, short = (load_checkpoint(run.global_model)[0] for run in runs.values())
    start = load_checkpoint(runs["full"].checkpoint(0))[0]
    for name, tensor in whole.items():
        change = float((tensor - start[name]).abs().max())
        # A change is rounded to 1/254 of the largest (int8) or 2^-9 of itself (bf16); the rest is trained on it.
        assert float((tensor - short[name]).abs().max()) <= 0.1 * change + 1e-6, name


def test_local_work_differs_by_site_and_seconds_are_kept_to(
    small: Callable[..., Small], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock that goes on by a sixteenth of a second a look, one look a step: a machine that stalls makes fewer
    steps in its time, and the update of a site with more of them is then out of all proportion.
    """
    looks = itertools.count()
    clock = SimpleNamespace(perf_counter=lambda: next(looks) / 16, process_time=time.process_time)
    monkeypatch.setattr(loop, "time", clock)
    unequal = small(local_work={"sms": {"local_seconds": 0.3}, "umr": {"local_epochs": 1}})
    run = unequal.conduct(unequal.begin())
    assert run.state.status == "completed"
    steps = {}
    for site in SITES:
        kept = RoundCache(unequal.home(site).state, "run").last()
        assert kept is not None
        steps[site] = float(kept.site["adam/fusions.0.bias:step"])
    per_epoch = -(-run.rounds_recorded()[0]["sites"]["umr"]["n_training_slices"] // 2)
    assert (steps["fastmri"], steps["umr"]) == (3 * 2, 3 * per_epoch)
    assert steps["sms"] == 3 * 5


def test_a_site_that_is_asked_again_does_not_train_again(small: Callable[..., Small]) -> None:
    sites = small()
    run = sites.begin()
    with pytest.raises(Killed):
        sites.conduct(run, kill_at="received")
    kept = [path for site in SITES for path in sites.home(site).state.glob("run/round-0001.*")]
    assert len(kept) == 1  # the first site that answered
    written = kept[0].stat().st_mtime_ns
    for reply in run.replies(1).iterdir():  # and the coordinator has lost its answer
        reply.unlink()
    with pytest.raises(Killed):
        sites.conduct(run, kill_at="aggregated")
    assert kept[0].stat().st_mtime_ns == written


def test_a_site_refuses_a_round_that_is_over(small: Callable[..., Small]) -> None:
    sites = small()
    run = sites.conduct(sites.begin())
    replayed = RunDirectory.create(sites.out / "again" / "run", sites.federation, engine="in-process")
    assert replayed.path.name == run.path.name
    with pytest.raises(QuorumNotMet, match="FM-F402"):  # a run of the same name that begins again at round 1
        sites.conduct(replayed)
    codes = [e["code"] for e in replayed.events_recorded() if e["event"] == "reply-refused"]
    assert codes == [StaleMessage.code] * 3


def test_a_site_can_refuse_a_model_that_moved_too_far(small: Callable[..., Small]) -> None:
    sites = small()
    run = sites.begin()
    for moment in ("saved", "saved"):
        with pytest.raises(Killed):
            sites.conduct(run, kill_at=moment)
    path = sites.home("sms").path / "site.yaml"
    text = path.read_text()
    assert "refuse_global_change: false" in text
    limits = text.replace("refuse_global_change: false", "refuse_global_change: true")
    path.write_text(limits.replace("global_change_factor: 20.0", "global_change_factor: 0.001"))
    with pytest.raises(QuorumNotMet):
        sites.conduct(run)
    refused = [(e["site"], e["code"]) for e in run.events_recorded() if e["event"] == "reply-refused"]
    assert refused == [("sms", UpdateSuspect.code)]
