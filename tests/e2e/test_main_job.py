"""The main job, end to end on small scans and phantoms: on the real deployment engine, and on the in-process grid."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from fedminet.centralised.baseline import evaluate_file
from fedminet.centralised.train import TrainOptions, train_models
from fedminet.simulation.simulate import simulate
from fedminet.single_machine.demo import run_demo
from minet_core.checkpoint import load_model
from minet_core.report.summary import Summary, read_summary
from minet_core.runtime.files.atomic_write import sha256_of_file
from sites.scores import by_method, scores_as_text
from tests.support.repository import ROOT
from tests.support.small_federation import NAMED, PHANTOM, SHAPE, SITES, site_options, small_rehearsal
from tests.support.small_scans import write_fastmri

WITHIN_S = 180
"""For what takes seconds: a busy machine has its time."""


def check_outcome(out: Path, summary: Summary, *, engine: str, sites: Sequence[str] = SITES) -> None:
    assert summary.status == "completed"
    assert summary.engine == engine
    assert summary.rounds == 2
    assert set(summary.sites) == set(sites)
    for name, site in summary.sites.items():
        assert site.kind == ("phantom" if name == PHANTOM else "surrogate")
        assert set(site.methods()) >= {"global", "sinc", "bicubic"}
    assert all(entry.aggregated and set(entry.sites) == set(sites) for entry in summary.per_round)
    assert all(entry.bytes_up > 0 and entry.bytes_down > 0 for entry in summary.per_round)
    assert read_summary(out / "summary.json") == summary
    model, manifest = load_model(out / "global.safetensors")
    assert manifest.round_number == 2
    assert sum(parameter.numel() for parameter in model.parameters()) == summary.model.n_parameters  # type: ignore[union-attr]
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert page.count("data:image/") > 5


@pytest.mark.e2e
def test_the_demonstration_runs_over_the_real_engine(tmp_path: Path, scans: Path, made: Path) -> None:
    """Of scans and of phantoms, a site each: every site costs the start of its programs. Three of them are in
    `fedminet bench round` and in containers."""
    sites = (NAMED[0], PHANTOM)
    rehearsal = small_rehearsal(tmp_path / "demo", scans, made=made, sites=sites)
    check_outcome(rehearsal.out, run_demo(rehearsal, quiet=True), engine="deployment", sites=sites)
    leaving = "".join(
        path.read_text(errors="replace")
        for folder in ("runs", "logs")
        for path in (rehearsal.out / "coordinator" / folder).rglob("*")
        if path.is_file() and path.suffix in (".json", ".jsonl", ".log", ".yaml")
    )
    assert "run-ended" in leaving  # the positive control: the files were read
    for site in sites:
        assert str(rehearsal.home(site).path) not in leaving
    assert not [text for text in (str(rehearsal.out / "scans"), str(made), str(scans)) if text in leaving]
    assert "patient0" not in leaving


@pytest.mark.e2e
@pytest.mark.charts
def test_the_simulation_beside_pooled_training_and_a_site_alone(
    tmp_path: Path, scans: Path, made: Path
) -> None:
    rehearsal = small_rehearsal(tmp_path / "simulation", scans, made=made)
    summary = simulate(rehearsal, compare=("pooled",), quiet=True)
    check_outcome(rehearsal.out, summary, engine="in-process")
    for site in summary.sites.values():
        assert set(site.compared) == {"pooled"}
    model = tmp_path / "alone.safetensors"
    folder = rehearsal.home("sms").path
    (trained,) = train_models([folder], model, TrainOptions(rounds=1, local_steps=3), quiet=True)
    assert trained.sha256 == sha256_of_file(model)
    figures = evaluate_file(model, folder, quiet=True)
    assert by_method(figures) == trained.test["sms"]
    assert "PSNR" in scores_as_text(figures)


@pytest.mark.e2e
@pytest.mark.long
def test_the_simulation_on_ray(tmp_path: Path, scans: Path, made: Path) -> None:
    """In a process of its own: Ray leaves threads and warnings behind that are not ours to judge.

    Ray ends its own start where one of its processes is not there in time, which a busy machine may bring about: the
    command says so by its code, and is given once more.
    """
    rehearsal = small_rehearsal(tmp_path / "ray", scans, made=made)
    code = (
        "from pathlib import Path; from fedminet.simulation.simulate import simulate; "
        "import tests.e2e.test_main_job as job;"
        f"job.simulate_on_ray(Path({str(rehearsal.out)!r}), Path({str(scans)!r}))"
    )
    for _ in range(2):
        ended = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=400, check=False
        )
        if "FM-S500: Ray ended before the run did" not in ended.stderr:
            break
        shutil.rmtree(rehearsal.out / "coordinator", ignore_errors=True)
    assert ended.returncode == 0, ended.stderr[-3000:]
    check_outcome(rehearsal.out, read_summary(rehearsal.out / "summary.json"), engine="ray")


def simulate_on_ray(out: Path, scans: Path) -> None:
    """What the test's own process does."""
    rehearsal = small_rehearsal(out / "unused", scans)  # the sites of `out` are there already
    simulate(replace(rehearsal, out=out), engine="ray", quiet=True)


@pytest.mark.e2e
@pytest.mark.long
def test_ctrl_c_ends_every_child_process(tmp_path: Path, scans: Path) -> None:
    out = tmp_path / "demo"
    named = [*site_options(scans), f"{PHANTOM}={small_knees(tmp_path / 'knees')}"]
    options = [f"--site={option}" for option in named]
    process = subprocess.Popen(
        [sys.executable, "-m", "fedminet", "demo", "--out", str(out), "--rounds", "50", *options],
        env={
            **os.environ,
            "HTTPS_PROXY": "http://127.0.0.1:1",
        },  # a machine's web proxy is not asked for loopback
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    state = out / "coordinator" / "runs" / "demo" / "state.json"
    ends = time.monotonic() + WITHIN_S
    while not (state.exists() and json.loads(state.read_text())["status"] == "running"):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < ends
        time.sleep(0.2)
    assert processes_of(out)  # the positive control
    process.send_signal(signal.SIGINT)
    _, printed = process.communicate(timeout=WITHIN_S)
    assert process.returncode == 130
    assert "Traceback" not in printed
    ends = time.monotonic() + WITHIN_S
    while processes_of(out) and time.monotonic() < ends:
        time.sleep(0.2)
    assert processes_of(out) == []


def small_knees(folder: Path) -> Path:
    """Three patients in fastMRI's format, of the other sites' size: only that they train is needed."""
    for patient in range(3):
        for number, acquisition in enumerate(("CORPD_FBK", "CORPDFS_FBK")):
            path = folder / f"file{1000 + 2 * patient + number}.h5"
            write_fastmri(path, 200 + patient, acquisition, patient_id=f"{patient:064x}", shape=SHAPE)
    return folder


def processes_of(out: Path) -> list[str]:
    """Command lines of living processes that name the folder of this demonstration."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(out) in command:
            found.append(command)
    return found
