"""Enlargement by sub-pixel convolutions, laid out so that a pixel's channels stay beside each other.

Shapes: B batch, C channel, H row, W column; h and w are those of low resolution.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class SubPixelConvolution(nn.Conv2d):
    """A 3 x 3 convolution to 4 C channels, and its channels laid out as four pixels: (B, C, h, w) -> (B, C, 2 h, 2 w).

    Torch's pixel shuffle moves single numbers where channels lie beside each other (channels_last), and its gradient
    takes as long as a convolution. Here the weights' rows are put in another order, so that all channels of a pixel
    come out beside each other and are moved together. The stored weights and the image are those of the paper.

    Parameters
    ----------
    n_features
        C, channels before and after.

    References
    ----------
    Shi et al.: "Real-Time Single Image and Video Super-Resolution Using an Efficient Sub-Pixel Convolutional Neural
    Network", CVPR 2016, Eq. 4.
    """

    bias: Tensor  # of a convolution in general there may be none
    """(4 C), one for each channel of the convolution."""

    def __init__(self, n_features: int) -> None:
        super().__init__(n_features, 4 * n_features, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:  # (B, C, h, w)
        """Features of twice the size.

        Parameters
        ----------
        features : Tensor (B, C, h, w)
            Left as they are.

        Returns
        -------
        Tensor (B, C, 2 h, 2 w)
            Channels_last, but for a file that is exported.
        """
        if torch.compiler.is_exporting():  # runtimes of exported files have rows and columns last
            return functional.pixel_shuffle(super().forward(features), 2)
        batch, n_features, n_rows, n_columns = features.shape
        # (C, 4) to (4, C): a pixel of the four outside of the channels.
        weight = (
            self.weight.permute(0, 2, 3, 1)
            .reshape(n_features, 4, 3, 3, n_features)
            .transpose(0, 1)
            .flatten(0, 1)
        )
        bias = self.bias.reshape(n_features, 4).t().flatten()
        pixels = functional.conv2d(features, weight.permute(0, 3, 1, 2), bias, padding=1).permute(0, 2, 3, 1)
        of_four = pixels.reshape(batch, n_rows, n_columns, 2, 2, n_features)
        of_rows = of_four.transpose(2, 3)  # (B, h, 2, w, 2, C)
        return of_rows.reshape(batch, 2 * n_rows, 2 * n_columns, n_features).permute(0, 3, 1, 2)


def pixel_shuffle_upsampler(n_features: int, *, scale: int) -> list[nn.Module]:
    """Sub-pixel convolutions, log2(scale) of them.

    Parameters
    ----------
    n_features
        C, channels before and after.
    scale
        A power of two.

    Returns
    -------
    list of Module
        In order; together (B, C, h, w) -> (B, C, scale * h, scale * w).

    References
    ----------
    Shi et al.: "Real-Time Single Image and Video Super-Resolution Using an Efficient Sub-Pixel Convolutional Neural
    Network", CVPR 2016.
    """
    layers: list[nn.Module] = []
    for _ in range(scale.bit_length() - 1):
        # What follows keeps the layers' numbers, by which their weights are named.
        layers += [SubPixelConvolution(n_features), nn.Identity()]
    return layers
