"""What a step is estimated to take in memory, beside what torch keeps for its backward pass."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from minet_core.models.registry import build_model
from minet_core.settings.federation import FederationSettings
from minet_core.settings.presets import federation_of
from sites.settings.round_cost import BYTES_OF_A_WEIGHT, cost_of_round


def kept_gb(federation: FederationSettings) -> tuple[float, int]:
    """What a step of one patch in float32 keeps, in GB, and the model's number of weights."""
    model = build_model(federation.model.model_dump(), scale=federation.scale)
    own = {parameter.data_ptr() for parameter in model.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        if tensor.data_ptr() not in own:
            kept[tensor.data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    assert federation.training.patch_px is not None
    high = torch.randn(1, 1, federation.training.patch_px, federation.training.patch_px)
    low = high[..., :: federation.scale, :: federation.scale].contiguous()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        image, _ = model(low, high)
        loss = image.square().mean()  # held, so that no address is used twice
    del loss
    return sum(kept.values()) / 1e9, sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("scale", [2, 4])
@pytest.mark.parametrize("preset", ["quick", "late"])
def test_a_step_is_estimated_to_keep_what_it_keeps_to_a_factor_of_two(preset: str, scale: int) -> None:
    made = federation_of(name="study", sites=("sms",), preset=preset, scale=scale, rounds=1)
    federation = made.model_copy(update={"training": made.training.model_copy(update={"batch_size": 1})})
    found, n_parameters = kept_gb(federation)
    cost = cost_of_round(federation, site="sms", n_parameters=n_parameters, device="cpu", cohort=None)
    estimated = cost.memory_gb - BYTES_OF_A_WEIGHT * n_parameters / 1e9
    assert found / 2 < estimated < 2 * found
