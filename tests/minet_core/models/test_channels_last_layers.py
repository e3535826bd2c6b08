"""Layers that are computed in another order than they are written, beside torch's own.

Float64: what differs is the order of sums, 1e-12 of values near one.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from minet_core.models.baselines.edsr import ResidualBlock
from minet_core.models.minet import gram
from minet_core.models.minet.joined_maps import joined
from minet_core.models.one_channel_convolution import OneChannelConvolution
from minet_core.models.rectified import rectified_
from minet_core.models.sub_pixel_convolution import SubPixelConvolution


def test_a_sub_pixel_convolution_is_a_convolution_and_torch_s_pixel_shuffle() -> None:
    torch.manual_seed(1)
    layer = SubPixelConvolution(4).double()
    features = torch.randn(2, 4, 6, 5, dtype=torch.float64)
    plain = nn.functional.conv2d(features, layer.weight, layer.bias, padding=1)
    expected = nn.functional.pixel_shuffle(plain, 2)
    towards = torch.randn_like(expected)
    of_expected = torch.autograd.grad(expected, (layer.weight, layer.bias), towards)

    image = layer(features.contiguous(memory_format=torch.channels_last))
    of_image = torch.autograd.grad(image, (layer.weight, layer.bias), towards)

    assert image.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(image, expected, rtol=1e-12, atol=1e-12)
    for ours, theirs in zip(of_image, of_expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_the_gradient_of_joined_maps_is_laid_out_as_they_are() -> None:
    torch.manual_seed(2)
    maps = [torch.randn(2, 4, 3, 5).contiguous(memory_format=torch.channels_last) for _ in range(3)]
    for one in maps:
        one.requires_grad_()
    together = joined(maps)
    towards = torch.randn_like(together)
    gradients = torch.autograd.grad(together, maps, towards)

    assert torch.equal(together, torch.cat(maps, dim=1))
    for gradient, expected in zip(gradients, towards.chunk(3, dim=1), strict=True):
        assert torch.equal(gradient, expected)
        assert gradient.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("shape", [(2, 8, 6, 5), (1, 4, 1, 9)])
def test_a_convolution_to_one_channel_in_bfloat16_is_torch_s(shape: tuple[int, ...]) -> None:
    """Weights and features are rounded to 2^-9 before, products after: 2^-7 of the largest image and gradient."""
    torch.manual_seed(3)
    layer = OneChannelConvolution(shape[1])
    features = torch.randn(shape).contiguous(memory_format=torch.channels_last).requires_grad_()
    variables = (features, layer.weight, layer.bias)
    expected = nn.functional.conv2d(features, layer.weight, layer.bias, padding=1)
    towards = torch.randn_like(expected)
    of_expected = torch.autograd.grad(expected, variables, towards)

    with torch.autocast("cpu", dtype=torch.bfloat16):
        image = layer(features)
        with torch.no_grad():
            untrained = layer(features)
    of_image = torch.autograd.grad(image, variables, towards)

    assert torch.equal(untrained, image)
    assert image.dtype == torch.float32
    for ours, theirs in zip((image, *of_image), (expected, *of_expected), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=2**-7 * float(theirs.detach().abs().max()))


def test_a_convolution_to_one_channel_is_torch_s_own_in_float64() -> None:
    torch.manual_seed(3)
    layer = OneChannelConvolution(4).double()
    features = torch.randn(2, 4, 6, 5, dtype=torch.float64)
    assert torch.equal(layer(features), nn.functional.conv2d(features, layer.weight, layer.bias, padding=1))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_relu_of_whole_numbers_is_torch_s(dtype: torch.dtype) -> None:
    special = torch.tensor([0.0, -0.0, math.inf, -math.inf, 1e-40, -1e-40])
    maps = torch.cat([special, torch.randn(300)]).to(dtype)
    with torch.no_grad():
        assert torch.equal(rectified_(maps.clone()), maps.relu())
    assert torch.equal(rectified_(maps.clone().requires_grad_() * 1), maps.relu())


def test_a_residual_block_in_bfloat16_keeps_what_is_not_a_number() -> None:
    block = ResidualBlock(4, residual_scale=1.0).bfloat16()
    features = torch.randn(1, 4, 6, 6).bfloat16()
    features[0, 1, 2, 3] = math.nan
    with torch.no_grad():
        assert bool(block(features)[0, 1, 2, 3].isnan())


def test_products_of_maps_in_bfloat16_and_their_gradient_are_those_of_float32() -> None:
    torch.manual_seed(4)
    maps = [torch.randn(2, 4, 3, 5).bfloat16().requires_grad_() for _ in range(3)]
    rows = torch.stack([one.flatten(1).float() for one in maps], dim=1)
    products = gram.products_of(maps)
    towards = torch.randn_like(products)
    torch.testing.assert_close(products, rows @ rows.mT, rtol=1e-6, atol=1e-5)  # float32, sums of 60
    ours, theirs = (torch.autograd.grad(one, maps, towards) for one in (products, rows @ rows.mT))
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=2**-8, atol=2**-8)  # rounded to bfloat16 once
