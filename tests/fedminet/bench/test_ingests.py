"""The comparison of ingests: a known motion is found, two sides of one code agree, and where it cannot run."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

from fedminet.bench import ingests
from fedminet.main import run
from minet_core.errors import FileMissing, ProcessDied
from minet_core.phantom.acquisition import SITES
from minet_core.phantom.patient import with_slices
from tests.support.small_scans import make_volume, write_nifti_patient
from tests.support.warm_python import warm_python

CHECKOUT = Path(__file__).resolve().parents[3]
N_SLICES = 12
"""Of a phantom's stack; the protocols have 19 and 20."""


@pytest.fixture(scope="module", autouse=True)
def _sides_find_torch_loaded() -> Iterator[None]:
    with mock.patch.object(sys, "executable", warm_python()):
        yield


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[ingests.Ingested]]:
    """Two phantoms, as they lie and moved, by this code twice."""
    folder = tmp_path_factory.mktemp("bench")
    few = {site: with_slices(SITES[site], N_SLICES) for site in ingests.PHANTOM_SITES}
    with mock.patch.object(ingests, "SITES", few):
        return ingests.bench_ingest(folder, n_rounds=1, seeds=[71], baseline=CHECKOUT)


def test_known_motions_are_found_and_their_error_is_said(compared) -> None:
    still, moved = (compared[kind][0] for kind in (ingests.STILL, ingests.MOVED))
    assert [len(side.pairs) for side in (still, moved)] == [2, 2]
    assert not any(pair["resampled"] for pair in still.pairs)
    assert all(pair["resampled"] for pair in moved.pairs)
    # A phantom that lies right is led nowhere: its transform is the identity.
    assert still.mean("error_mm") == pytest.approx(0, abs=1e-9)
    # The motions are of several mm; the phantoms' pixels are 0.7 mm wide.
    assert 0 < moved.mean("error_mm") < 0.3


def test_the_same_code_is_as_exact_on_both_sides(compared) -> None:
    for this, baseline in compared.values():
        assert (this.label, baseline.label) == ("this code", "baseline")
        assert this.pairs == baseline.pairs
        assert 0 < this.seconds["registration"][0] < this.seconds["processor"][0]
        assert min(this.peak_bytes, baseline.peak_bytes) > 100_000_000


def test_a_motion_turns_about_the_middle() -> None:
    volume = make_volume(1, "T1")
    motion = ingests.moved_by(volume, shift_mm=(1.0, 2.0, 3.0), turn_degrees=(0.0, 0.0, 90.0))
    middle = volume.affine @ [*[(n - 1) / 2 for n in volume.array.shape], 1.0]
    assert (motion @ middle)[:3] - middle[:3] == pytest.approx([1.0, 2.0, 3.0])
    assert motion[:3, :3] @ [1.0, 0.0, 0.0] == pytest.approx([0.0, 1.0, 0.0])
    assert np.linalg.det(motion) == pytest.approx(1)


def test_the_command_ingests_the_given_scans_in_processes_of_their_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for number in range(3):
        write_nifti_patient(tmp_path / "scans" / f"patient{number}", seed=number)
    asked = ("--seeds=", f"--scans={tmp_path / 'scans'}", "--processes=2", "--steps=1")
    monkeypatch.setattr(sys, "argv", ["fedminet", "bench", "ingest", *asked, f"--out={tmp_path / 'out'}"])
    with pytest.raises(SystemExit) as ending:
        run()
    assert not ending.value.code
    printed = capsys.readouterr().out
    assert "### the given scans, 1 interleaved rounds" in printed
    assert (tmp_path / "out.md").read_text().endswith(printed)
    (side,) = json.loads((tmp_path / "out.json").read_text())["ingests"]["the given scans"]
    assert len(side["pairs"]) == 3
    assert "registration" not in side["seconds"]  # it was made where this process does not see it


def test_a_side_that_fails_is_said(tmp_path: Path) -> None:
    (tmp_path / "scans").mkdir()
    with pytest.raises(ProcessDied, match="exit code 1"):
        ingests.bench_ingest(tmp_path, n_rounds=1, seeds=[], scans=tmp_path / "scans")


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileMissing, match="no checkout of fedminet"):
        ingests.bench_ingest(tmp_path, n_rounds=1, seeds=[71], baseline=tmp_path)
    with pytest.raises(FileMissing, match="folder of scans"):
        ingests.bench_ingest(tmp_path, n_rounds=1, seeds=[], scans=tmp_path / "none")
