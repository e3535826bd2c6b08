"""`fedminet train` as it is run: killed and given again, by one process and by two under torch's launcher."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from fedminet.centralised.ranks import Ranks
from fedminet.centralised.train import TrainOptions, train_models
from fedminet.main import run
from minet_core.checkpoint import load_model, read_manifest
from minet_core.models.late_fusion import LateFusion
from minet_core.protocol.exchange_plan import initial_weights
from minet_core.runtime.files.atomic_write import sha256_of_file
from tests.faults.tiny_sites import make_tiny_sites, tiny_federation
from tests.support.gradient_descent import N_STEPS, descend, weights_file
from tests.support.own_validation_site import own_validation_site
from tests.support.repository import ROOT

QUICK = TrainOptions(rounds=1, local_steps=3)
HELD = """
import os, sys, time
from pathlib import Path
from fedminet.main import run

def hold(event, arguments):
    if event == "open" and str(arguments[0]).endswith("metrics.jsonl") and arguments[2] & os.O_APPEND:
        path = Path(arguments[0])
        if path.exists() and path.read_bytes().count(b"\\n") >= n_lines:
            time.sleep(600)

if __name__ == "__main__":
    n_lines = int(sys.argv.pop(1))
    sys.addaudithook(hold)
    run()
"""
"""`fedminet` that stops before it adds a line to so many: a kill meets it there, however fast it trains."""

LAUNCHER = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    homes = make_tiny_sites(tmp_path_factory.mktemp("train"), names=("sms", "umr"), shape=(8, 56, 48))
    return {name: home.path for name, home in homes.items()}


def arguments(sites: dict[str, Path], out: Path, *more: object) -> list[str]:
    folders = [f"--site={folder}" for folder in sites.values()]
    return ["train", *folders, f"--out={out}", "--rounds=1", "--local-steps=9", *map(str, more)]


def started(*command: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, *command],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def held_at(n_lines: int, folder: Path) -> tuple[str, str]:
    """For a command in the place of `-m fedminet`."""
    script = folder / "held.py"
    script.write_text(HELD)
    return str(script), str(n_lines)


def ended_well(process: subprocess.Popen[str]) -> str:
    """What it printed on standard output."""
    out, err = process.communicate(timeout=500)
    assert process.returncode == 0, err
    return out


def wait_for_lines(path: Path, n_lines: int, process: subprocess.Popen[str]) -> None:
    ends = time.monotonic() + 400
    while not (path.exists() and path.read_bytes().count(b"\n") >= n_lines):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < ends
        time.sleep(0.02)


def kill(process: subprocess.Popen[str]) -> None:
    """Its workers notice within seconds, and nobody waits for them."""
    process.kill()
    assert process.wait() == -signal.SIGKILL
    for stream in (process.stdout, process.stderr):
        assert stream is not None
        stream.close()


def steps_logged(folder: Path) -> list[int]:
    return [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.long
def test_a_command_killed_twice_and_given_again_ends_in_the_same_bytes(
    tmp_path: Path, sites: dict[str, Path]
) -> None:
    """SIGKILL, with batches read ahead by a worker; the calm run draws its batches itself."""
    calm = started("-m", "fedminet", *arguments(sites, tmp_path / "calm", "--save-every=1"))
    killed = tmp_path / "killed"
    command = arguments(sites, killed, "--save-every=1", "--workers=1")
    for n_lines in (2, 5):
        process = started(*held_at(n_lines, tmp_path), *command)
        wait_for_lines(killed / "metrics.jsonl", n_lines, process)
        kill(process)
        assert len(steps_logged(killed)) == n_lines
        assert not (killed / "model.safetensors").exists()
    ended_well(started("-m", "fedminet", *command))
    ended_well(calm)
    assert sha256_of_file(killed / "model.safetensors") == sha256_of_file(tmp_path / "calm/model.safetensors")
    assert steps_logged(killed) == steps_logged(tmp_path / "calm") == list(range(1, 10))


@pytest.mark.long
def test_two_processes_that_are_killed_and_started_again_come_to_what_two_calm_ones_come_to(
    tmp_path: Path, sites: dict[str, Path]
) -> None:
    folders = {name: tmp_path / name for name in ("calm", "killed")}
    more = ("--save-every=1", "--json")
    calm = ended_well(started(*LAUNCHER, "-m", "fedminet.main", *arguments(sites, folders["calm"], *more)))
    assert json.loads(calm)["model"] == str(folders["calm"] / "model.safetensors")  # one process reports
    command = arguments(sites, folders["killed"], *more, "--workers=1")
    killed = started(*LAUNCHER, *held_at(2, tmp_path), *command)
    wait_for_lines(folders["killed"] / "metrics.jsonl", 2, killed)
    workers = children_of(killed.pid)
    assert len(workers) == 2
    kill(killed)
    for worker in workers:
        os.kill(worker, signal.SIGKILL)
    ended_well(started(*LAUNCHER, "-m", "fedminet.main", *command))
    assert steps_logged(folders["killed"]) == steps_logged(folders["calm"])
    calm_model, model = (sha256_of_file(folder / "model.safetensors") for folder in folders.values())
    assert model == calm_model
    scores = [json.loads((folder / "test.json").read_text()) for folder in folders.values()]
    assert scores[0] == scores[1]
    assert set(scores[0]) == set(sites)


def children_of(process_id: int) -> list[int]:
    return [
        int(child) for child in Path(f"/proc/{process_id}/task/{process_id}/children").read_text().split()
    ]


@pytest.fixture(scope="module")
def descended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of what two processes came to, with stored groups and with recomputed ones: one after the other."""
    folder = tmp_path_factory.mktemp("descended")
    ended_well(started(*LAUNCHER, "-m", "tests.support.gradient_descent", str(folder), "4"))
    return folder


@pytest.mark.long
@pytest.mark.parametrize("recompute", [False, True], ids=["stored groups", "recomputed groups"])
def test_two_processes_take_the_step_of_one_with_the_whole_batch(descended: Path, recompute: bool) -> None:
    _, before = initial_weights(tiny_federation())
    one = descend(Ranks(), batch_size=4, recomputed=recompute)
    two = load_file(weights_file(descended, recomputed=recompute))
    half = descend(Ranks(), batch_size=2, recomputed=recompute)
    assert one.keys() == two.keys()
    differences = 0
    for name, weights in one.items():
        moved = np.abs(weights - before[name]).max()
        # Each step rounds a weight once, and the two sums of a gradient differ by some roundings of it.
        tolerance = N_STEPS * np.spacing(np.abs(before[name]).max() + moved) + 64 * moved * 2**-24
        assert np.abs(weights - two[name]).max() <= tolerance, name
        differences += np.abs(weights - half[name]).max() > 10 * tolerance
    assert differences > len(one) / 2  # the test would see another batch


def test_each_mode_trains_its_models_and_tests_them_on_every_given_site(
    tmp_path: Path, sites: dict[str, Path]
) -> None:
    (pooled,) = train_models(list(sites.values()), tmp_path / "p.safetensors", QUICK, quiet=True)
    assert (pooled.label, pooled.path) == ("sms+umr", tmp_path / "p.safetensors")
    local = train_models(list(sites.values()), tmp_path / "local", replace(QUICK, mode="local"), quiet=True)
    assert [model.label for model in local] == list(sites)
    assert [model.path for model in local] == [
        tmp_path / "local" / name / "model.safetensors" for name in sites
    ]
    for model in (pooled, *local):
        assert model.sha256 == sha256_of_file(model.path)
        assert set(model.test) == set(sites)
        load_model(model.path)
    assert len({model.sha256 for model in (pooled, *local)}) == 3
    assert (tmp_path / "p" / "model.safetensors").read_bytes() == pooled.path.read_bytes()
    again = train_models(list(sites.values()), tmp_path / "p.safetensors", QUICK, quiet=True)
    assert again == [pooled]


def test_a_trained_model_has_the_error_bars_of_validation_patients(tmp_path: Path) -> None:
    home = own_validation_site(tmp_path / "site", shape=(4, 56, 48))
    (trained,) = train_models([home.path], tmp_path / "one.safetensors", QUICK, quiet=True)
    bars = read_manifest(trained.path).calibration
    assert bars is not None
    assert (bars.patients, bars.poses) == (1, 1)


def test_the_preset_of_late_fusion_trains_and_its_model_is_read_back(
    tmp_path: Path, sites: dict[str, Path]
) -> None:
    options = TrainOptions(preset="late", rounds=1, local_steps=2)
    (trained,) = train_models([sites["sms"]], tmp_path, options, quiet=True)
    model, manifest = load_model(trained.path)
    assert isinstance(model, LateFusion)
    assert manifest.model.architecture == "late-fusion"
    assert set(trained.test) == {"sms"}


@pytest.mark.long
def test_the_paper_preset_trains_on_whole_slices(tmp_path: Path, sites: dict[str, Path]) -> None:
    options = TrainOptions(preset="paper", rounds=1, recompute=True)
    (trained,) = train_models([sites["sms"]], tmp_path, options, quiet=True)
    assert trained.label == "sms"
    assert steps_logged(tmp_path) == [3]  # 10 slices in batches of 4


def test_one_line_says_what_cannot_be_trained(
    tmp_path: Path,
    sites: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = str(sites["sms"])
    cases = [
        (["--mode", "both"], "FM-C102: no such mode; got both; expected pooled or local."),
        (["--site", folder], "FM-C102: a site is given twice; got sms, sms; expected each name once."),
    ]
    for more, said in cases:
        monkeypatch.setattr(
            sys, "argv", ["fedminet", "train", "--site", folder, "--out", str(tmp_path), *more]
        )
        with pytest.raises(SystemExit) as ending:
            run()
        assert ending.value.code == 2
        assert capsys.readouterr().err.strip() == said


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_paper_preset_trains_on_a_gpu(tmp_path: Path, sites: dict[str, Path]) -> None:
    (trained,) = train_models([sites["sms"]], tmp_path, TrainOptions(preset="paper", rounds=2), quiet=True)
    assert steps_logged(tmp_path) == [3, 6]
    assert set(trained.test) == {"sms"}


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
def test_two_gpus_train_one_model(tmp_path: Path, sites: dict[str, Path]) -> None:
    ended_well(started(*LAUNCHER, "-m", "fedminet.main", *arguments(sites, tmp_path, "--preset=paper")))
    assert (tmp_path / "model.safetensors").exists()
