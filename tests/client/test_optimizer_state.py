"""Adam goes on where it stopped, and only in the run and the round it belongs to."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from client.optimizer_state import continued_adam, keep_adam
from minet_core.models.minet import MINet
from minet_core.training import adam, bring_to_form


def small_model() -> MINet:
    torch.manual_seed(0)
    model = MINet(scale=2, n_groups=1, n_blocks=1, n_features=4, reduction=2)
    bring_to_form(model)
    return model


def step(model: MINet, optimizer: torch.optim.Optimizer, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    low_res, reference = (
        torch.randn(1, 1, 8, 8, generator=generator),
        torch.randn(1, 1, 16, 16, generator=generator),
    )
    optimizer.param_groups[0]["lr"] = 1e-3
    optimizer.zero_grad()
    image, guide = model(low_res, reference)
    (image.abs().mean() + guide.abs().mean()).backward()
    optimizer.step()


def weights(model: MINet) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in model.parameters()]


def test_a_continued_optimizer_steps_as_one_that_never_stopped(tmp_path: Path) -> None:
    straight = small_model()
    optimizer = adam(straight)
    for seed in range(4):
        step(straight, optimizer, seed)
    stopped = small_model()
    first = adam(stopped)
    for seed in range(2):
        step(stopped, first, seed)
    keep_adam(first, stopped, tmp_path, run="study", round_number=1)
    second = continued_adam(stopped, tmp_path, run="study", round_number=2)
    assert second is not None
    for seed in range(2, 4):
        step(stopped, second, seed)
    assert all(torch.equal(a, b) for a, b in zip(weights(straight), weights(stopped), strict=True))


def test_another_run_or_another_round_begins_afresh(tmp_path: Path) -> None:
    model = small_model()
    optimizer = adam(model)
    step(model, optimizer, 0)
    keep_adam(optimizer, model, tmp_path, run="study", round_number=3)
    assert continued_adam(model, tmp_path, run="study", round_number=4) is not None
    assert continued_adam(model, tmp_path, run="other", round_number=4) is None
    assert continued_adam(model, tmp_path, run="study", round_number=5) is None
    assert continued_adam(model, tmp_path, run="study", round_number=1) is None


def test_a_damaged_or_foreign_state_is_not_taken_up(tmp_path: Path) -> None:
    model = small_model()
    optimizer = adam(model)
    step(model, optimizer, 0)
    keep_adam(optimizer, model, tmp_path, run="study", round_number=1)
    other = MINet(scale=2, n_groups=2, n_blocks=1, n_features=4, reduction=2)
    assert continued_adam(other, tmp_path, run="study", round_number=2) is None
    path = next((tmp_path / "study").iterdir())
    path.write_bytes(path.read_bytes()[:100])
    assert continued_adam(model, tmp_path, run="study", round_number=2) is None


def test_old_rounds_and_other_runs_are_removed(tmp_path: Path) -> None:
    model = small_model()
    optimizer = adam(model)
    step(model, optimizer, 0)
    keep_adam(optimizer, model, tmp_path, run="former", round_number=1)
    for number in range(1, 5):
        keep_adam(optimizer, model, tmp_path, run="study", round_number=number)
    assert [path.name for path in tmp_path.iterdir()] == ["study"]
    kept = sorted(path.name for path in (tmp_path / "study").iterdir())
    assert kept == ["round-0003.safetensors", "round-0004.safetensors"]
