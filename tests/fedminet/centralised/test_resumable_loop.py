"""A long run that is interrupted anywhere ends as if it had not been, and keeps what it is asked to keep."""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fedminet.centralised.folder import TrainingFolder
from fedminet.centralised.ranks import Ranks
from fedminet.centralised.resumable_loop import Resources, TrainingPlan, train_to_end
from minet_core.errors import CheckpointInvalid, ConfigurationError, InvalidSetting, RunBusy, SettingsMismatch
from minet_core.models.activation_checkpointing import recompute
from minet_core.models.base import SuperResolver
from minet_core.protocol.exchange_plan import initial_weights
from minet_core.settings.federation import FederationSettings
from minet_core.training.loop import learning_rate_at
from minet_core.weights.manifest import learnable
from sites.store.dataset import StoreSlices
from sites.store.store import Store
from tests.faults.tiny_sites import make_tiny_sites, tiny_federation
from tests.support.killed import Killed, killed_at
from tests.support.repository import ROOT

MEANS = Resources(ranks=Ranks(), n_workers=0, save_every=2, autocast_dtype=None)


class Dropping(SuperResolver):
    """A model whose layers draw random numbers. Its form is that of MINet's calls."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(2, 8, 3, padding=1), nn.Dropout(0.5), nn.ReLU(), nn.Conv2d(8, 1, 3, padding=1)
        )

    def forward(self, low_res: Tensor, reference: Tensor, upsampled: Tensor) -> tuple[Tensor, None]:
        image: Tensor = self.body(torch.cat([upsampled, reference], dim=1))
        return image, None


def minet(federation: FederationSettings) -> SuperResolver:
    return initial_weights(federation)[0]


def dropping(_: FederationSettings) -> SuperResolver:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Dropping()


MODELS = {"minet": minet, "with dropout": dropping}

Calm = Callable[[str], tuple[dict[str, bytes], list[dict[str, Any]]]]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(make_tiny_sites(tmp_path_factory.mktemp("long"))["sms"].store)


def run_of(store: Store, **changes: object) -> TrainingPlan:
    """Nine steps in three rounds; the state is replaced after steps 2, 3, 4, 6, 8 and 9."""
    return TrainingPlan(
        federation=tiny_federation(**changes),
        label="sms",
        cohorts={"sms": store.cohort.digest},
        shapes=StoreSlices(store, "training").shapes,
        steps_per_round=3,
    )


def train(
    path: Path,
    store: Store,
    *,
    model: str = "minet",
    run: TrainingPlan | None = None,
    means: Resources = MEANS,
) -> dict[str, bytes]:
    """Train to the end, as a fresh process would; the model's bytes."""
    run = run or run_of(store)
    network = MODELS[model](run.federation)
    folder = TrainingFolder(path)
    with folder.locked():
        train_to_end(
            network,
            StoreSlices(store, "training"),
            folder,
            run=run,
            means=means,
            validate=some_figure,
        )
    return {name: array.tobytes() for name, array in learnable(network).items()}


def some_figure(model: nn.Module) -> dict[str, dict[str, float]]:
    """Differs wherever the weights differ."""
    return {"sms": {"psnr_db": sum(float(parameter.detach().sum()) for parameter in model.parameters())}}


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]


TIMES = {"seconds", "processor_seconds", "samples_per_second"}


def untimed(path: Path) -> list[dict[str, Any]]:
    return [{key: value for key, value in line.items() if key not in TIMES} for line in lines(path)]


@pytest.fixture(scope="module")
def calm(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Calm:
    """By the name of its model, what a run that nothing happened to comes to, and its lines: trained once."""

    @functools.cache
    def calm_run(model: str) -> tuple[dict[str, bytes], list[dict[str, Any]]]:
        folder = tmp_path_factory.mktemp("calm")
        return train(folder, store, model=model), untimed(folder)

    return calm_run


@pytest.mark.long
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
@pytest.mark.parametrize(
    "where",
    [
        "fedminet.centralised.log.append_line",
        "fedminet.centralised.folder.save_checkpoint",
        "fedminet.centralised.resumable_loop.local_update",
    ],
)
def test_a_run_killed_in_every_stretch_ends_as_one_that_was_not(
    tmp_path: Path,
    store: Store,
    calm: Calm,
    monkeypatch: pytest.MonkeyPatch,
    model: str,
    where: str,
    before: bool,
) -> None:
    expected, logged = calm(model)
    n_kills = 0
    for call in (1, 2, 2, 3):
        with monkeypatch.context() as patch:
            killed_at(patch, where, call=call, before=before)
            try:
                train(tmp_path / "killed", store, model=model)
            except Killed:
                n_kills += 1
    assert n_kills >= 3
    assert train(tmp_path / "killed", store, model=model) == expected
    assert untimed(tmp_path / "killed") == logged


def test_a_line_cut_off_and_half_a_state_are_removed(tmp_path: Path, store: Store, calm: Calm) -> None:
    expected, logged = calm("minet")
    with pytest.MonkeyPatch.context() as patch:
        killed_at(patch, "fedminet.centralised.folder.save_checkpoint", call=4, before=True)
        with pytest.raises(Killed):
            train(tmp_path / "killed", store)
    with (tmp_path / "killed" / "metrics.jsonl").open("a") as stream:
        stream.write('{"step": 6, "lo')
    half = tmp_path / "killed" / ".state.safetensors.1.partial"
    half.write_bytes(b"half")
    assert train(tmp_path / "killed", store) == expected
    assert untimed(tmp_path / "killed") == logged
    assert not half.exists()


OTHER_MEANS = {
    "saved often": replace(MEANS, save_every=1),
    "saved seldom": replace(MEANS, save_every=100),
    "with workers": replace(MEANS, n_workers=2),
}


@pytest.mark.parametrize("patch_px", [16, None])
def test_the_means_do_not_decide_the_model(tmp_path: Path, store: Store, patch_px: int | None) -> None:
    training = {"local_steps": 2, "patch_px": patch_px, "batch_size": 2}
    run = run_of(store, training=training)
    expected = train(tmp_path / "usual", store, run=run)
    for name, means in OTHER_MEANS.items():
        assert train(tmp_path / name, store, run=run, means=means) == expected, name


def test_recomputed_groups_give_the_same_bytes(
    tmp_path: Path, store: Store, calm: Calm, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, _ = calm("minet")

    def recomputing(federation: FederationSettings) -> nn.Module:
        model, _ = initial_weights(federation)
        recompute(model, True)
        return model

    monkeypatch.setitem(MODELS, "minet", recomputing)
    assert train(tmp_path / "recomputed", store) == expected


def test_each_line_says_what_its_steps_were(tmp_path: Path, store: Store) -> None:
    run = run_of(store)
    train(tmp_path, store, run=run)
    found = lines(tmp_path)
    assert [line["step"] for line in found] == [2, 3, 4, 6, 8, 9]
    assert [line["round"] for line in found] == [0, 1, 1, 2, 2, 3]
    assert [bool(line["validation"]) for line in found] == [False, True, False, True, False, True]
    training = run.federation.training
    for line in found:
        assert line["learning_rate"] == learning_rate_at(
            line["step"] - 1,
            total_steps=9,
            learning_rate=training.learning_rate,
            warmup_steps=training.warmup_steps,
            decay_fraction=training.decay_fraction,
        )
        assert line["loss"] > 0
        assert line["samples_per_second"] > 0
        assert line["processor_seconds"] > 0


def test_a_run_that_ended_is_not_trained_again(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = train(tmp_path, store)
    killed_at(monkeypatch, "fedminet.centralised.resumable_loop.local_update", call=1, before=True)
    assert train(tmp_path, store) == expected


def test_the_folder_of_other_settings_is_refused_by_name_and_left_as_it_is(
    tmp_path: Path, store: Store
) -> None:
    train(tmp_path, store)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    with pytest.raises(SettingsMismatch, match=r"FM-C105.*federation\.seed 7 where it was 1"):
        train(tmp_path, store, run=run_of(store, seed=7))
    with pytest.raises(SettingsMismatch, match=r"cohorts\.sms other where it was "):
        train(tmp_path, store, run=replace(run_of(store), cohorts={"sms": "other"}))
    with pytest.raises(SettingsMismatch, match="label elsewhere where it was sms"):
        train(tmp_path, store, run=replace(run_of(store), label="elsewhere"))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before


def test_a_damaged_state_is_refused(tmp_path: Path, store: Store) -> None:
    train(tmp_path, store)
    state = tmp_path / "state.safetensors"
    content = bytearray(state.read_bytes())
    content[-1] ^= 1
    state.write_bytes(content)
    with pytest.raises(CheckpointInvalid, match="FM-M301"):
        train(tmp_path, store)


def test_one_process_at_a_time_trains_in_a_folder(tmp_path: Path, store: Store) -> None:
    """A child that the other process forked does not hold the folder when that process is gone."""
    holder = """
import os, sys, time
from pathlib import Path
from fedminet.centralised.folder import TrainingFolder
with TrainingFolder(Path(sys.argv[1])).locked():
    if os.fork():
        print("held", flush=True)
    time.sleep(60)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", holder, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        with process.stdout as stream:
            assert stream.readline() == "held\n"
        with pytest.raises(RunBusy, match="FM-S507"):
            train(tmp_path, store)
        process.kill()
        process.wait()
        train(tmp_path, store)
    finally:
        os.killpg(process.pid, signal.SIGKILL)


def test_the_global_generators_are_left_as_they_were(tmp_path: Path, store: Store) -> None:
    before = torch.get_rng_state()
    train(tmp_path, store, model="with dropout")
    assert torch.equal(torch.get_rng_state(), before)


def test_a_batch_that_cannot_be_shared_equally_is_refused() -> None:
    assert [list(Ranks(rank, 2).places(4)) for rank in (0, 1)] == [[0, 2], [1, 3]]
    with pytest.raises(InvalidSetting, match="batches of 4 for 3 processes"):
        Ranks(0, 3).places(4)


@pytest.fixture
def accumulator() -> Any:
    module = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="needs the tensorboard extra"
    )
    return module.EventAccumulator


def test_tensorboard_has_the_figures_of_every_line_once_though_the_run_was_killed(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch, accumulator: Any
) -> None:
    means = replace(MEANS, tensorboard=True)
    with monkeypatch.context() as patch:
        killed_at(patch, "fedminet.centralised.folder.save_checkpoint", call=4, before=True)
        with pytest.raises(Killed):
            train(tmp_path, store, means=means)
    train(tmp_path, store, means=means)
    events = accumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    found = lines(tmp_path)
    for tag, key in (("training/loss", "loss"), ("training/learning_rate", "learning_rate")):
        scalars = [(event.step, event.value) for event in events.Scalars(tag)]
        assert scalars == [(line["step"], pytest.approx(line[key], rel=1e-6)) for line in found]
    assert [event.step for event in events.Scalars("validation/psnr_db/sms")] == [3, 6, 9]


def test_tensorboard_that_is_not_installed_is_said(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'fedminet\[tensorboard\]'"):
        train(tmp_path, store, means=replace(MEANS, tensorboard=True))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_pinned_batches_of_workers_and_a_resumed_run_train(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def on_gpu(federation: FederationSettings) -> nn.Module:
        model, _ = initial_weights(federation)
        recompute(model, True)
        return model.cuda()

    monkeypatch.setitem(MODELS, "minet", on_gpu)
    means = replace(MEANS, n_workers=2, autocast_dtype=torch.bfloat16)
    with monkeypatch.context() as patch:
        killed_at(patch, "fedminet.centralised.folder.save_checkpoint", call=4, before=True)
        with pytest.raises(Killed):
            train(tmp_path, store, means=means)
    train(tmp_path, store, means=means)
    found = lines(tmp_path)
    assert [line["step"] for line in found] == [2, 3, 4, 6, 8, 9]
    assert found[-1]["loss"] < found[0]["loss"]
