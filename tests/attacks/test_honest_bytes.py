"""What the defences cost honest sites: nothing. The same replies give the same model with them and without."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from minet_core.checkpoint import load_checkpoint
from server.runs.run_directory import RunDirectory
from tests.attacks.test_steering import conduct, federation
from tests.faults.robustness import OPEN

OFF = {
    **OPEN,
    "suspect_factor": 1e9,
    "norm_factor": 1e9,
    "suspect_agreement": -1.0,
    "opposed_agreement": -1.0,
}


def digest(run: RunDirectory) -> str:
    """SHA-256 of the global model's tensors by name: the file also names its federation, which differs."""
    tensors, _ = load_checkpoint(run.global_model)
    found = hashlib.sha256()
    for name in sorted(tensors):
        array = tensors[name].numpy()
        found.update(f"{name} {array.dtype} {array.shape}".encode() + array.tobytes())
    return found.hexdigest()


def test_the_defences_change_no_byte_of_an_honest_run(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    digests = {}
    for name in ("fedavg", "fedprox", "scaffold", "fedadam"):
        server_step = {"server_learning_rate": 0.05} if name == "fedadam" else {}
        on = federation(rounds=4, algorithm={"name": name, **server_step})
        off = federation(rounds=4, algorithm={"name": name, **server_step, "max_share": 1.0}, quarantine=OFF)
        slices = {"sms": 30, "umr": 20, "fastmri": 25}
        runs = [
            conduct(tmp_path / name / end, settings, None, **slices)
            for end, settings in (("on", on), ("off", off))
        ]
        assert [run.state.status for run in runs] == ["completed"] * 2
        digests[name], other = map(digest, runs)
        assert digests[name] == other, name
    assert len(set(digests.values())) > 1  # the algorithms are told apart, so a digest tells something
    record_property(
        "figure", f"unchanged, with 4 algorithms: SHA-256 {digests['fedavg'][:12]} of FedAvg's model"
    )


def test_another_model_has_another_digest(tmp_path: Path) -> None:
    one = conduct(tmp_path / "one", federation(rounds=1), None)
    two = conduct(tmp_path / "two", federation(rounds=2), None)
    assert digest(one) != digest(two)
