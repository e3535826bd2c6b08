"""Ensembles: the mean of the networks' pictures, an error never above the mean of theirs, a gradient for each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from minet_core.checkpoint import load_model, save_checkpoint
from minet_core.checkpoint_manifest import describe
from minet_core.models.baselines.smore import SMORE
from minet_core.models.ensemble import Ensemble, joined_weights
from minet_core.models.registry import build_model
from minet_core.settings.federation import MAX_MEMBERS, FederationSettings, ModelSettings
from minet_core.training.batches import Batch
from minet_core.training.loop import batch_loss
from minet_core.weights.manifest import Arrays, learnable, load_weights

ONE = ModelSettings(n_groups=1, n_blocks=1, n_features=4, reduction=2)
SETTINGS: Any = {"device": torch.device("cpu"), "alpha": 0.9, "beta": 0.1, "autocast_dtype": None}
TWO = ONE.model_copy(update={"members": 2})


def inputs(seed: int = 1) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    sizes = ((2, 1, 6, 8), (2, 1, 12, 16), (2, 1, 12, 16))
    low_res, reference, upsampled = (torch.randn(size, generator=generator) for size in sizes)
    return low_res, reference, upsampled


def networks() -> list[torch.nn.Module]:
    found = []
    for seed in (3, 4):
        torch.manual_seed(seed)
        network = build_model(ONE.model_dump(), scale=2)
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.normal_(0, 0.3)
        found.append(network)
    return found


def joined(members: list[torch.nn.Module]) -> tuple[Ensemble, Arrays]:
    model = build_model(TWO.model_dump(), scale=2)
    assert isinstance(model, Ensemble)
    weights = joined_weights([learnable(member) for member in members])
    load_weights(model, weights)
    return model, weights


def test_the_picture_is_the_mean_and_its_error_no_more_than_the_networks_mean_error() -> None:
    members = networks()
    model, _ = joined(members)
    with torch.inference_mode():
        own = [member(*inputs()) for member in members]
        target, reference = model(*inputs())
        assert torch.equal(model.target_image(*inputs()), target)
    assert torch.allclose(target, (own[0][0] + own[1][0]) / 2)
    assert torch.allclose(reference, (own[0][1] + own[1][1]) / 2)
    assert not torch.allclose(own[0][0], own[1][0], atol=0.1)
    truth = torch.randn(2, 1, 12, 16, generator=torch.Generator().manual_seed(9))
    errors = [float(((image - truth) ** 2).mean()) for image in (target, own[0][0], own[1][0])]
    spread = float(((own[0][0] - own[1][0]) ** 2).mean()) / 4
    assert errors[0] == pytest.approx((errors[1] + errors[2]) / 2 - spread, rel=1e-4)  # Krogh and Vedelsby


def test_each_network_learns_as_it_would_by_itself() -> None:
    members = networks()
    model, _ = joined(members)
    low_res, reference, upsampled = inputs()
    batch = Batch(low_res=low_res, reference=reference, upsampled=upsampled, target=inputs(2)[1])
    batch_loss(model, batch, **SETTINGS).backward()
    for place, member in enumerate(members):
        batch_loss(member, batch, **SETTINGS).backward()  # type: ignore[arg-type]
        for name, parameter in member.named_parameters():
            gradient = model.get_parameter(f"members.{place}.{name}").grad
            assert gradient is not None
            assert parameter.grad is not None
            assert torch.allclose(2 * gradient, parameter.grad, rtol=1e-4, atol=1e-7)


def test_a_method_with_a_loss_of_its_own_keeps_it() -> None:
    settings = ModelSettings(architecture="smore", n_blocks=1, n_features=4, members=2)
    model = build_model(settings.model_dump(), scale=2)
    assert all(isinstance(member, SMORE) for member in model.members)  # type: ignore[union-attr]
    low_res, reference, upsampled = inputs()
    batch = Batch(low_res=low_res, reference=reference, upsampled=upsampled, target=inputs(2)[1])
    batch_loss(model, batch, **SETTINGS).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_a_file_holds_all_of_it(tmp_path: Path) -> None:
    model, weights = joined(networks())
    manifest = describe(weights, model=TWO, scale=2, round_number=1, provenance={})
    save_checkpoint(tmp_path / "both.safetensors", weights, manifest)
    read, found = load_model(tmp_path / "both.safetensors")
    assert found.model.members == 2
    with torch.inference_mode():
        assert torch.allclose(read(*inputs())[0], model(*inputs())[0], rtol=1e-4, atol=1e-4)
    for name, array in learnable(read).items():
        assert np.array_equal(array, weights[name])


def test_a_federation_file_without_the_key_is_what_it_was() -> None:
    content = {"name": "pilot", "sites": ("sms",), "participation": {"quorum": 1}}
    federation = FederationSettings.model_validate(content)
    assert "members" not in federation.model_dump(mode="json")["model"]
    with_two = FederationSettings.model_validate({**content, "model": {"members": 2}})
    assert with_two.model_dump(mode="json")["model"]["members"] == 2
    assert with_two.digest() != federation.digest()
    with pytest.raises(ValidationError):
        ModelSettings(members=MAX_MEMBERS + 1)
