"""The mean over poses: every pose lies where the slice lies, and the mean has the symmetry that a network lacks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from minet_core.evaluation.inference import super_resolve
from minet_core.evaluation.self_ensemble import POSES, mean_over_poses
from minet_core.imaging.interpolation import bicubic
from minet_core.models.registry import build_model

SIDES = (16, 12)


def _images(scale: int) -> tuple[Tensor, Tensor]:
    torch.manual_seed(3)
    rows, columns = SIDES
    return torch.rand(1, 1, rows, columns), torch.rand(1, 1, scale * rows, scale * columns)


@pytest.mark.parametrize("n_poses", [2, 4, 8])
@pytest.mark.parametrize("scale", [2, 4])
def test_what_is_shown_comes_back_to_its_place(scale: int, n_poses: int) -> None:
    low_res, image = _images(scale)
    for place in (1, 2):
        mean = mean_over_poses(
            lambda *shown, place=place: shown[place], low_res, image, image, scale=scale, n_poses=n_poses
        )
        assert torch.allclose(mean, image, atol=1e-6)


@pytest.mark.parametrize("n_poses", [2, 4, 8])
@pytest.mark.parametrize("scale", [2, 4])
def test_both_grids_keep_their_first_sample_in_each_pose(scale: int, n_poses: int) -> None:
    """An interpolation of the low resolution alone is the same in every pose: half a sample off and it is not."""
    low_res, image = _images(scale)
    own = bicubic(low_res, scale)
    mean = mean_over_poses(
        lambda low_res, *_: bicubic(low_res, scale), low_res, image, image, scale=scale, n_poses=n_poses
    )
    inside = slice(3 * scale, -3 * scale)
    assert torch.allclose(mean[..., inside, inside], own[..., inside, inside], atol=1e-5)
    moved = torch.roll(own, 1, dims=3)
    assert not torch.allclose(mean[..., inside, inside], moved[..., inside, inside], atol=1e-2)


def test_each_pose_is_another_one() -> None:
    """A model that moves every picture by a column: of the eight laid back two go each way."""
    low_res, image = torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 16, 16)
    image[0, 0, 7, 7] = 8.0
    mean = mean_over_poses(
        lambda low, guide, upsampled: torch.roll(upsampled, 1, dims=3),
        low_res,
        image,
        image,
        scale=2,
        n_poses=8,
    )
    found = {(int(row), int(column)): float(mean[0, 0, row, column]) for row, column in mean[0, 0].nonzero()}
    assert found == {(7, 8): 2.0, (7, 6): 2.0, (8, 7): 2.0, (6, 7): 2.0}
    assert len({(pose.axes, pose.transposed) for pose in POSES}) == 8


@pytest.mark.parametrize(("n_poses", "apart"), [(4, False), (1, True)])
def test_a_mirrored_volume_gives_the_mirrored_picture(n_poses: int, apart: bool) -> None:
    """An odd frame, by the whole road: the low resolution mirrored, the reference about the first sample's place."""
    torch.manual_seed(5)
    model = build_model(
        {"architecture": "late-fusion", "n_blocks": 1, "n_features": 4, "self_ensemble": n_poses}, scale=2
    )
    for parameter in model.parameters():
        parameter.data.mul_(1.5)
    drawn = np.random.default_rng(5)
    low_res = drawn.random((1, 33, 29), dtype=np.float32) + 1
    wide = drawn.random((1, 67, 59), dtype=np.float32) + 1  # a sample before the first of the low resolution
    picture = super_resolve(model, low_res, wide[:, 1:, 1:], scale=2)
    mirrored = super_resolve(model, low_res[:, :, ::-1].copy(), wide[:, 1:, ::-1][:, :, 1:].copy(), scale=2)
    # Sample j of the mirrored picture is sample 56 - j of the first; the edges have other neighbours.
    inside = slice(16, -18)
    back = mirrored[0, :, ::-1]
    off = np.abs(picture[0, inside, 16:41] - back[inside, 17:42]).max()
    assert (off > 1e-3) == apart
    if not apart:
        assert off < 1e-4
    assert np.abs(picture - np.median(picture)).max() > 0.1
