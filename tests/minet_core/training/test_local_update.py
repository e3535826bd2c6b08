"""Adam goes on where it stopped."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from minet_core.models.minet.model import MINet
from minet_core.training.device import to_channels_last
from minet_core.training.local_update import continued_adam, moments_of
from minet_core.training.loop import adam


def small_model() -> MINet:
    torch.manual_seed(0)
    model = MINet(scale=2, n_groups=1, n_blocks=1, n_features=4, reduction=2)
    to_channels_last(model)
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


def test_a_continued_optimizer_steps_as_one_that_never_stopped() -> None:
    straight = small_model()
    optimizer = adam(straight)
    for seed in range(4):
        step(straight, optimizer, seed)
    stopped = small_model()
    first = adam(stopped)
    for seed in range(2):
        step(stopped, first, seed)
    second = continued_adam(stopped, moments_of(first, stopped))
    assert second is not None
    for seed in range(2, 4):
        step(stopped, second, seed)
    assert all(torch.equal(a, b) for a, b in zip(weights(straight), weights(stopped), strict=True))


def test_what_else_a_site_keeps_is_left_alone() -> None:
    model = small_model()
    optimizer = adam(model)
    step(model, optimizer, 0)
    kept = {**moments_of(optimizer, model), "head/target_reconstruction.bias": np.zeros(1, np.float32)}
    assert continued_adam(model, kept) is not None


def test_no_moments_or_those_of_another_model_are_not_taken_up() -> None:
    model = small_model()
    optimizer = adam(model)
    step(model, optimizer, 0)
    other = MINet(scale=2, n_groups=2, n_blocks=1, n_features=4, reduction=2)
    assert continued_adam(other, moments_of(optimizer, model)) is None
    assert continued_adam(model, {}) is None
