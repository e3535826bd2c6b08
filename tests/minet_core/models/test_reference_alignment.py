"""The alignment of the reference: known motions are found and undone; with the switch off nothing is there."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy import ndimage
from torch import Tensor

from minet_core.errors import InvalidSetting
from minet_core.models.activation_checkpointing import recompute
from minet_core.models.minet.model import MINet
from minet_core.models.minet.reference_alignment import MAX_MOVE_PX, ReferenceAlignment, moved
from minet_core.settings.federation import FederationSettings, ModelSettings

SMALL: dict[str, Any] = {"n_groups": 2, "n_blocks": 1, "n_features": 8, "reduction": 2}
SIDE = 96
DIGEST_BEFORE_THE_KEY = "7dba8f911904fd69d7b4bac26d63841b9507da70f42a2d3c11d04e4bff48621d"
"""Of the file of the last test, as the code before the switch gave it."""


def tissue(seed: int = 0, *, shift: tuple[float, float] = (0.0, 0.0), turn: float = 0.0) -> Tensor:
    """Areas of three brightnesses with soft borders, (1, 1, SIDE, SIDE): of one seed the same, lying elsewhere.

    The picture at each place is the areas' at the place turned and shifted: `moved` by the inverse gives them back.
    """
    noise = np.random.default_rng(seed).standard_normal((2 * SIDE, 2 * SIDE))
    smooth = ndimage.gaussian_filter(noise, 6, mode="wrap")
    areas = ndimage.gaussian_filter(np.digitize(smooth, np.quantile(smooth, [0.4, 0.7])).astype(float), 1.2)
    rows, columns = np.indices((SIDE, SIDE)) - (SIDE - 1) / 2
    there = (
        math.cos(turn) * rows - math.sin(turn) * columns + shift[0],
        math.sin(turn) * rows + math.cos(turn) * columns + shift[1],
    )
    image = ndimage.map_coordinates(areas, [SIDE - 0.5 + place for place in there], order=5)
    return torch.from_numpy((image - image.mean()) / image.std()).float()[None, None]


def other_contrast(image: Tensor) -> Tensor:
    """Bright for dark."""
    return -image


def alignment(scale: int = 2) -> ReferenceAlignment:
    return ReferenceAlignment(scale=scale)


def model(**settings: Any) -> MINet:
    torch.manual_seed(1)
    return MINet(scale=2, **{**SMALL, "align_reference": True, **settings})


def images(n_samples: int = 2) -> list[Tensor]:
    """low_res, reference, upsampled of a reference that lies a pixel off and of one that lies right."""
    targets = torch.cat([other_contrast(tissue(seed)) for seed in range(n_samples)])
    references = torch.cat([tissue(seed, shift=(1.0 - seed, -0.5)) for seed in range(n_samples)])
    return [targets[:, :, ::2, ::2].contiguous(), references, targets]


@pytest.mark.parametrize(
    ("shift", "turn"), [((0.0, 0.0), 0.0), ((1.0, 0.0), 0.0), ((-1.6, 0.7), 0.0), ((0.4, -0.9), 0.02)]
)
@pytest.mark.parametrize("scale", [2, 4])
def test_a_known_motion_is_found_in_a_picture_of_the_other_contrast(
    shift: tuple[float, float], turn: float, scale: int
) -> None:
    with torch.no_grad():
        found = alignment(scale).motion(other_contrast(tissue()), tissue(shift=shift, turn=turn))[0]
    # The reference shows the areas of place M p + shift at p, so the target's p is found at the inverse of that.
    back = (
        -math.cos(turn) * shift[0] - math.sin(turn) * shift[1],
        math.sin(turn) * shift[0] - math.cos(turn) * shift[1],
    )
    expected = torch.tensor([*back, -turn])
    # Borders of a picture and its negative are the same: what is left is linear sampling of the maps, and the prior,
    # which counts for more at 4x, where the filters reach farther and leave less of the frame.
    assert (found - expected)[:2].abs().max() < 0.06
    assert abs(found[2] - expected[2]) < 0.0008 * scale


def test_an_aligned_reference_is_nearer_by_far() -> None:
    right, off = tissue(), tissue(shift=(1.3, -0.8), turn=0.01)
    with torch.no_grad():
        aligned = alignment()(other_contrast(right), off)
    inner = (..., slice(8, -8), slice(8, -8))
    assert (aligned - right)[inner].square().mean().sqrt() < 0.1 * (off - right)[inner].square().mean().sqrt()


def test_a_motion_of_whole_pixels_is_exact_and_no_motion_is_none() -> None:
    image = tissue().double()
    still = moved(image, torch.zeros(1, 3, dtype=torch.float64))
    torch.testing.assert_close(still, image, rtol=0, atol=1e-12)
    down = moved(image, torch.tensor([[2.0, -3.0, 0.0]], dtype=torch.float64))
    torch.testing.assert_close(down[..., :-2, 3:], image[..., 2:, :-3], rtol=0, atol=1e-12)


def test_a_turned_wave_is_the_wave_at_the_turned_places() -> None:
    """A closed form, of a wave of 8 px: the windowed sinc errs by less than a hundredth there."""
    turn, shift = 0.03, (0.4, -0.7)
    rows, columns = (
        places.double() for places in torch.meshgrid(*[torch.arange(64) - 31.5] * 2, indexing="ij")
    )

    def wave(row: Tensor, column: Tensor) -> Tensor:
        return torch.sin(2 * math.pi * (0.6 * row + 0.8 * column) / 8)

    expected = wave(
        math.cos(turn) * rows - math.sin(turn) * columns + shift[0],
        math.sin(turn) * rows + math.cos(turn) * columns + shift[1],
    )
    found = moved(wave(rows, columns)[None, None], torch.tensor([[*shift, turn]], dtype=torch.float64))[0, 0]
    assert (found - expected)[8:-8, 8:-8].abs().max() < 0.01


@pytest.mark.parametrize("reference", [torch.zeros(1, 1, SIDE, SIDE), torch.ones(1, 1, SIDE, SIDE)])
def test_a_reference_without_contours_stays_and_every_gradient_is_a_number(reference: Tensor) -> None:
    part = alignment()
    aligned = part(other_contrast(tissue()), reference)
    torch.testing.assert_close(aligned, reference, rtol=0, atol=1e-6)
    aligned.sum().backward()
    assert all(p.grad is not None and bool(torch.isfinite(p.grad).all()) for p in part.parameters())


def test_of_another_anatomy_nothing_is_sent_beyond_the_shears() -> None:
    with torch.no_grad():
        found = alignment().motion(torch.cat([tissue(n) for n in range(6)]), torch.cat([tissue(9)] * 6))
    reach = found[:, :2].abs().amax(dim=1) + found[:, 2].abs() * SIDE / 2
    assert bool((reach <= MAX_MOVE_PX + 1e-4).all())


@pytest.mark.parametrize("size", [(2, 2), (3, 40), (12, 10)])
def test_frames_too_small_for_contours_stay_as_they_are(size: tuple[int, int]) -> None:
    image = torch.randn(1, 1, *size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        aligned = alignment()(image.flip(3), image)
    assert bool(torch.isfinite(aligned).all())
    assert (aligned - image).square().mean() < 0.1 * image.square().mean()


def test_every_parameter_receives_gradient() -> None:
    network = model()
    low_res, reference, upsampled = images()
    found = network.training_images(low_res, reference, upsampled)
    network.training_loss(found, upsampled, reference, alpha=0.9, beta=0.1).backward()
    assert [n for n, p in network.named_parameters() if p.grad is None or not bool(p.grad.any())] == []


def test_the_other_weights_begin_as_without_and_the_picture_is_that_of_the_aligned_reference() -> None:
    network, plain = model(), model(align_reference=False)
    own = plain.state_dict()
    for name, tensor in network.state_dict().items():
        assert name.startswith("reference_alignment.") or bool((tensor == own[name]).all())
    assert network.reference_alignment is not None
    assert [name for name, _ in plain.named_parameters() if "align" in name] == []
    low_res, reference, upsampled = images()
    with torch.no_grad():
        aligned = network.reference_alignment(upsampled, reference)
        found, expected = network(low_res, reference, upsampled), plain(low_res, aligned, upsampled)
    for left, right in zip(found, expected, strict=True):
        torch.testing.assert_close(left, right, rtol=0, atol=0)
    assert (aligned - reference).abs().max() > 0.1


def test_the_reference_is_to_be_reconstructed_where_it_was_laid() -> None:
    network = model()
    low_res, reference, upsampled = images()
    target_image, _, aligned = network.training_images(low_res, reference, upsampled)
    assert not aligned.requires_grad
    given = (target_image.detach(), aligned, aligned)
    assert float(network.training_loss(given, upsampled, reference, alpha=0.0, beta=1.0)) == 0
    assert float(network.training_loss(given, upsampled + 1, reference, alpha=1.0, beta=0.0)) > 0.9


def test_samples_of_a_batch_do_not_see_each_other_and_channels_last_agrees() -> None:
    network = model().double()
    given = [image.double() for image in images()]
    with torch.no_grad():
        together = network(*given)[0]
        for sample in range(2):
            alone = network(*[image[sample : sample + 1] for image in given])[0]
            torch.testing.assert_close(alone, together[sample : sample + 1], rtol=1e-9, atol=1e-10)
        again = network.to(memory_format=torch.channels_last)(*given)[0]
    torch.testing.assert_close(again, together, rtol=1e-9, atol=1e-10)


def test_under_autocast_the_motion_is_still_found_in_float32() -> None:
    part = alignment()
    _, reference, upsampled = images()
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        found = part(upsampled, reference)
    assert found.dtype == torch.float32
    with torch.no_grad():
        torch.testing.assert_close(found, part(upsampled, reference), rtol=0, atol=0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        network = model()
        network.training_loss(
            network.training_images(*images()), upsampled, reference, alpha=0.9, beta=0.1
        ).backward()
    assert all(bool(torch.isfinite(p.grad).all()) for p in network.parameters() if p.grad is not None)


def test_recomputed_in_the_backward_pass_it_gives_the_same_gradients() -> None:
    network = model()

    def gradients() -> tuple[Tensor, ...]:
        low_res, reference, upsampled = images()
        loss = network.training_loss(
            network.training_images(low_res, reference, upsampled), upsampled, reference, alpha=0.9, beta=0.1
        )
        return torch.autograd.grad(loss, list(network.parameters()))

    stored = gradients()
    recompute(network, True)
    assert network.reference_alignment is not None
    assert network.reference_alignment.recomputed
    for left, right in zip(gradients(), stored, strict=True):
        torch.testing.assert_close(left, right, rtol=0, atol=0)


def test_an_alignment_without_a_reference_is_refused() -> None:
    with pytest.raises(InvalidSetting, match=r"FM-C102.*no reference to align"):
        model(use_reference=False)
    with pytest.raises(ValidationError, match="align_reference needs use_reference"):
        ModelSettings(align_reference=True, use_reference=False)
    with pytest.raises(ValidationError, match="align_reference is no setting of the architecture edsr"):
        ModelSettings(architecture="edsr", align_reference=True)


def test_off_it_is_in_no_file_and_on_it_is_agreed() -> None:
    """The digest of a file without the key is what it was before there was one."""

    def federation(**settings: Any) -> FederationSettings:
        content = {"name": "pilot", "sites": ["north"], "participation": {"quorum": 1}, "model": settings}
        return FederationSettings.model_validate(content)

    off, on = federation(), federation(align_reference=True)
    assert "align" not in json.dumps(off.model_dump(mode="json"))
    assert off.digest() == federation(align_reference=False).digest() == DIGEST_BEFORE_THE_KEY
    assert on.digest() != off.digest()
    assert FederationSettings.model_validate(on.model_dump(mode="json")) == on
