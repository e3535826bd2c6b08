"""A damaged run folder is found and named, or ends in the same model; never in another one."""

from __future__ import annotations

from pathlib import Path

import pytest

from minet_core.errors import RunDamaged
from server.runs.run_directory import RunDirectory
from tests.faults.damaged_runs import MOMENTS, Damage, damage_all, finished, half_way


def judge(found: list[Damage]) -> None:
    assert [damage for damage in found if damage.outcome not in ("found", "harmless")] == []
    codes = {damage.detail for damage in found if damage.outcome == "found"}
    assert codes <= {RunDamaged.code}


def test_damages_are_found_or_change_nothing(tmp_path: Path) -> None:
    found = damage_all(tmp_path, seeds=range(24))
    judge(found)
    assert sum(damage.outcome == "found" for damage in found) >= 6  # else nothing was tried


@pytest.mark.long
def test_240_damages_are_found_or_change_nothing(tmp_path: Path) -> None:
    judge(damage_all(tmp_path, seeds=range(240)))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    return half_way(tmp_path_factory.mktemp("base"), "aggregated")


@pytest.mark.parametrize(
    "name",
    [
        "state.json",
        "federation.yaml",
        "declared.json",
        "metrics.jsonl",
        "checkpoints/round-0002.safetensors",
        "checkpoints/round-0002.memory.safetensors",
        "replies/round-0003/sms.json",
        "replies/round-0003/sms.safetensors",
    ],
)
def test_each_file_that_a_run_goes_on_from_is_held_to_its_digest(
    tmp_path: Path, base: RunDirectory, name: str
) -> None:
    import shutil

    from tests.faults.damaged_runs import _conduct

    run = RunDirectory(tmp_path / "run")
    shutil.copytree(base.path, run.path)
    path = run.path / name
    content = path.read_bytes()
    path.unlink()
    with pytest.raises(RunDamaged, match=r"FM-S517.*back-up"):
        _conduct(run, lambda _: None)
    path.write_bytes(content)  # restored, it goes on: nothing had been given up
    _conduct(run, lambda _: None)
    assert run.state.status == "completed"


def test_the_moments_leave_what_they_are_named_for(tmp_path: Path) -> None:
    assert set(MOMENTS) == {"received", "aggregated", "saved", "tested"}
    assert len(finished(tmp_path)) == 64
