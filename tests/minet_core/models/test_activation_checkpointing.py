"""Parts that are recomputed: the same numbers, and less that is stored for the backward pass."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from minet_core.models.activation_checkpointing import LARGE_MODEL, ActivationCheckpointed, recompute
from minet_core.models.base import SuperResolver
from minet_core.models.baselines.edsr import EDSR
from minet_core.models.baselines.lyu import Lyu
from minet_core.models.baselines.smore import SMORE
from minet_core.models.baselines.zeng import Zeng
from minet_core.models.minet.model import MINet

MODELS: dict[str, Callable[[], SuperResolver]] = {
    "minet": lambda: MINet(scale=2, n_groups=3, n_blocks=3, n_features=8),
    "edsr": lambda: EDSR(scale=2, n_blocks=8, n_features=8),
    "smore": lambda: SMORE(scale=2, n_blocks=8, n_features=8),
    "lyu": lambda: Lyu(scale=4, n_blocks=4, n_features=8),
}


def loss_of(model: SuperResolver) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    low_res = torch.randn(2, 1, 8, 8, generator=generator)
    reference = torch.randn(2, 1, 8 * model.scale, 8 * model.scale, generator=generator)
    images = model.training_images(low_res, reference, None)
    return torch.stack([image.square().mean() for image in images if image is not None]).sum()


def stored_bytes(model: SuperResolver) -> int:
    """What is kept for the backward pass, the parameters aside, each storage once."""
    own = {parameter.data_ptr() for parameter in model.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        if tensor.data_ptr() not in own:
            kept[tensor.data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = loss_of(model)  # held, so that no address is used twice
    del loss
    return sum(kept.values())


@pytest.mark.parametrize("name", MODELS)
def test_the_gradients_are_the_same_and_less_is_stored(name: str) -> None:
    torch.manual_seed(1)
    model = MODELS[name]()
    plain, stored = torch.autograd.grad(loss_of(model), list(model.parameters())), stored_bytes(model)
    recompute(model, True)
    again, kept = torch.autograd.grad(loss_of(model), list(model.parameters())), stored_bytes(model)
    for left, right in zip(plain, again, strict=True):
        torch.testing.assert_close(left, right, rtol=0, atol=0)
    assert kept < 0.7 * stored, kept / stored
    recompute(model, False)
    assert stored_bytes(model) == stored


def test_nothing_is_recomputed_where_no_gradient_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    model = MODELS["minet"]()
    recompute(model, True)
    monkeypatch.setattr("minet_core.models.activation_checkpointing.checkpoint", None)
    with torch.no_grad():
        loss_of(model)
    with pytest.raises(TypeError):
        loss_of(model)


def test_left_to_the_device_a_processor_stores_all_and_a_gpu_recomputes_large_models() -> None:
    small, large = MODELS["minet"](), MINet(scale=2, n_groups=6, n_blocks=6, n_features=64, reduction=16)
    assert (
        sum(p.numel() for p in small.parameters()) < LARGE_MODEL < sum(p.numel() for p in large.parameters())
    )
    for model in (small, large):
        recompute(model, True)
        recompute(model, None)
        assert not any(
            part.recomputed for part in model.modules() if isinstance(part, ActivationCheckpointed)
        )
    if torch.cuda.is_available():
        for model, expected in ((small, False), (large, True)):
            recompute(model.cuda(), None)
            assert {
                part.recomputed for part in model.modules() if isinstance(part, ActivationCheckpointed)
            } == {expected}


def test_a_model_without_such_parts_stores_all() -> None:
    model = Zeng(scale=2, n_blocks=2, n_features=4)
    stored = stored_bytes(model)
    recompute(model, True)
    assert stored_bytes(model) == stored
