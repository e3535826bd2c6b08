"""F_Att, the channel-spatial attention module (Eq. 4 of Feng et al. 2021)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class ChannelSpatialAttention(nn.Module):
    """G = sigmoid(A) * F + F (Eq. 4), where A is one 3 x 3 x 3 convolution over channel, row and column.

    The paper's three-dimensional convolution has one input and one output channel and runs along the feature
    channels as its depth. It equals a two-dimensional convolution from C to C channels whose weights are
    banded: output channel o sees the input channels o-1, o and o+1. That form is some ten times faster and is
    used here; the parameters are those of the three-dimensional kernel.

    Parameters
    ----------
    n_features
        C, feature channels.
    """

    bands: Tensor

    def __init__(self, n_features: int) -> None:
        super().__init__()
        kernel = nn.Conv3d(1, 1, 3)  # for its initialisation
        self.kernel = nn.Parameter(kernel.weight.detach()[0, 0].clone())  # (3, 3, 3): channel, row, column
        assert kernel.bias is not None
        self.bias = nn.Parameter(kernel.bias.detach().clone())  # (1,)
        bands = torch.zeros(3, n_features, n_features)
        # Where shapes alone are asked for (exchange_plan_of), nothing is filled in: torch would import its compiler for
        # it, three seconds of a processor, and a model of any size must cost nothing there.
        if not bands.is_meta:
            for index, offset in enumerate((-1, 0, 1)):
                bands[index].diagonal(offset).fill_(1.0)
        self.register_buffer("bands", bands, persistent=False)  # (3, C, C): offset, output, input

    def forward(self, features: Tensor) -> Tensor:  # (B, C, H, W)
        """G of Eq. 4.

        Parameters
        ----------
        features : Tensor (B, C, H, W)
            F^L of one branch.

        Returns
        -------
        Tensor (B, C, H, W)
            Enriched features.
        """
        weight = torch.einsum("doi,dhw->oihw", self.bands, self.kernel)  # (C, C, 3, 3)
        attention = functional.conv2d(features, weight, self.bias.expand(features.shape[1]), padding=1)
        return torch.addcmul(features, features, torch.sigmoid(attention))
