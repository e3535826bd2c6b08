"""Layers that are computed in another order than they are written, beside torch's own.

Float64: what differs is the order of sums, 1e-12 of values near one.
"""

from __future__ import annotations

import torch
from torch import nn

from minet_core.models.minet.joined_maps import joined
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
