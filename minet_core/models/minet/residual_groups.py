"""The residual groups of RCAN (Zhang et al., ECCV 2018), from which both branches of MINet are made.

Shapes: B batch, C channel, H row, W column.
"""

from __future__ import annotations

from torch import Tensor, nn

from minet_core.models.activation_checkpointing import ActivationCheckpointed
from minet_core.models.minet.gated_residual import gated_residual
from minet_core.models.rectified import rectified_


class ChannelAttention(nn.Module):
    """A gate per channel from the channel's mean: x * sigmoid(W_up relu(W_down mean(x))) (RCAN, Eq. 10), with the skip.

    Parameters
    ----------
    n_features
        C, feature channels.
    reduction
        C / reduction hidden units.
    """

    def __init__(self, n_features: int, *, reduction: int) -> None:
        super().__init__()
        n_hidden = n_features // reduction
        self.down = nn.Linear(n_features, n_hidden)
        self.up = nn.Linear(n_hidden, n_features)
        # With four hidden units the default signs leave one gate in sixteen with every ReLU off, and so
        # without gradient. Biases above the reach of the pooled features keep all of them on at the start.
        nn.init.constant_(self.down.bias, 0.5)

    def forward(self, features: Tensor, response: Tensor) -> Tensor:  # (B, C, H, W)
        """The features, and the response times its channels' gates.

        Parameters
        ----------
        features, response : Tensor (B, C, H, W)
            What a block was given, and what its convolutions made of it.

        Returns
        -------
        Tensor (B, C, H, W)
            features + response * gate; a gate is a number from 0 to 1.
        """
        down, up = (self.down.weight, self.down.bias), (self.up.weight, self.up.bias)
        return gated_residual(features, response, down, up)


class ResidualChannelAttentionBlock(nn.Module):
    """RCAB: x + CA(conv(relu(conv(x)))) (RCAN, Eq. 11).

    Parameters
    ----------
    n_features
        C, feature channels.
    reduction
        Of its channel attention.
    """

    def __init__(self, n_features: int, *, reduction: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(n_features, n_features, 3, padding=1)
        self.second = nn.Conv2d(n_features, n_features, 3, padding=1)
        self.attention = ChannelAttention(n_features, reduction=reduction)

    def forward(self, features: Tensor) -> Tensor:  # (B, C, H, W)
        """The features and the block's attended response.

        Parameters
        ----------
        features : Tensor (B, C, H, W)
            Left as they are.

        Returns
        -------
        Tensor (B, C, H, W)
            New features.
        """
        response = self.second(rectified_(self.first(features)))
        attended: Tensor = self.attention(features, response)
        return attended


class ResidualGroup(ActivationCheckpointed):
    """F^l of Eq. 1 and 2: x + conv(RCAB_n(... RCAB_1(x))) (RCAN, Eq. 5).

    Parameters
    ----------
    n_features
        C, feature channels.
    n_blocks
        n, the group's RCABs.
    reduction
        Of their channel attention.
    """

    def __init__(self, n_features: int, *, n_blocks: int, reduction: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            ResidualChannelAttentionBlock(n_features, reduction=reduction) for _ in range(n_blocks)
        )
        self.last = nn.Conv2d(n_features, n_features, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:  # (B, C, H, W)
        """The features and the group's correction.

        Parameters
        ----------
        features : Tensor (B, C, H, W)
            Left as they are.

        Returns
        -------
        Tensor (B, C, H, W)
            F^l.
        """
        response = features
        for block in self.blocks:
            response = block(response)
        correction: Tensor = self.last(response)
        return features + correction
