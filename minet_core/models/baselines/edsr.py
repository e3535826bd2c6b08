"""EDSR: enhanced deep residual networks for single-image super-resolution (Lim et al., CVPR Workshops 2017).

Shapes: B batch, C feature channel, H row, W column.

Fig. 3 of the paper: a convolution, residual blocks without normalisation (Fig. 2c) and a convolution, all with a skip
over them, at the low resolution; sub-pixel convolutions; a last convolution. The published model has 32 blocks of 256
features, each block's response times 0.1, and 43 million parameters for colour images.

Departures: one grey channel instead of three less the mean colour; `bicubic_skip` as in MINet, off as published. It is
trained by the federation's recipe, in the presets MINet's, and not by its own paper's (patches of 48 pixels, 1e-4
halved in steps, 4x begun from the model for 2x).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from minet_core.models.activation_checkpointing import ActivationCheckpointed
from minet_core.models.base import SuperResolver, check_scale, conv3x3, scale_initial_weights
from minet_core.models.rectified import rectified_
from minet_core.models.sub_pixel_convolution import pixel_shuffle_upsampler


class EDSR(SuperResolver):
    """Super-resolve a target contrast from its low-resolution image alone.

    Parameters
    ----------
    scale
        2 or 4.
    n_blocks
        Residual blocks.
    n_features
        C, feature channels.
    residual_scale
        Factor on a block's response.
    bicubic_skip
        The target image is the interpolated one plus what the layers add.
    n_channels
        Of the images, 1; 3 as in the paper.

    Raises
    ------
    InvalidSetting
        FM-C102, for another scale.
    """

    uses_reference = False

    def __init__(
        self,
        *,
        scale: int,
        n_blocks: int = 32,
        n_features: int = 256,
        residual_scale: float = 0.1,
        bicubic_skip: bool = False,
        n_channels: int = 1,
    ) -> None:
        super().__init__()
        check_scale(scale)
        self.scale, self.bicubic_skip = scale, bicubic_skip
        self.body = ResidualBody(
            n_channels, n_features=n_features, n_blocks=n_blocks, residual_scale=residual_scale
        )
        self.enlargement = nn.Sequential(*pixel_shuffle_upsampler(n_features, scale=scale))
        self.reconstruction = conv3x3(n_features, n_channels)
        if bicubic_skip:
            scale_initial_weights(self.reconstruction)

    def forward(
        self, low_res: Tensor, _reference: Tensor | None, upsampled: Tensor | None = None
    ) -> tuple[Tensor, None]:
        """The super-resolved target; the reference is not looked at.

        Parameters
        ----------
        low_res : Tensor (B, n_channels, h, w)
            Normalised.
        _reference
            Taken as every `SuperResolver` takes it.
        upsampled : Tensor (B, n_channels, H, W) or None
            The aligned bicubic target, under `bicubic_skip`; None computes it from `low_res`.

        Returns
        -------
        tuple of Tensor (B, n_channels, H, W) and None
            The target image, and no image of the reference.
        """
        image = self.reconstruction(self.enlargement(self.body(low_res)))
        return self._with_skip(image, low_res, upsampled), None


class ResidualBody(nn.Module):
    """EDSR up to the enlargement: (B, n_channels, h, w) -> (B, C, h, w).

    Parameters
    ----------
    n_channels
        Of the input.
    n_features
        C, feature channels.
    n_blocks
        Residual blocks.
    residual_scale
        Factor on a block's response.
    """

    def __init__(self, n_channels: int, *, n_features: int, n_blocks: int, residual_scale: float) -> None:
        super().__init__()
        self.first = conv3x3(n_channels, n_features)
        self.blocks = nn.ModuleList(
            ResidualBlock(n_features, residual_scale=residual_scale) for _ in range(n_blocks)
        )
        self.last = conv3x3(n_features, n_features)

    def forward(self, image: Tensor) -> Tensor:
        """First convolution, residual blocks and last convolution, with a skip over the latter two.

        Parameters
        ----------
        image : Tensor (B, n_channels, h, w)
            At the low resolution in EDSR; the size is kept.

        Returns
        -------
        Tensor (B, C, h, w)
            Features.
        """
        initial = self.first(image)
        features = initial
        for block in self.blocks:
            features = block(features)
        added: Tensor = initial + self.last(features)
        return added


class ResidualBlock(ActivationCheckpointed):
    """x + residual_scale * conv(relu(conv(x))) (Fig. 2c, Section 3.3).

    Parameters
    ----------
    n_features
        C, feature channels.
    residual_scale
        Factor on the block's response.
    """

    def __init__(self, n_features: int, *, residual_scale: float) -> None:
        super().__init__()
        self.first, self.second = conv3x3(n_features, n_features), conv3x3(n_features, n_features)
        self.residual_scale = residual_scale

    def forward(self, features: Tensor) -> Tensor:
        """The features and the block's scaled response.

        Parameters
        ----------
        features : Tensor (B, C, h, w)
            Left as they are.

        Returns
        -------
        Tensor (B, C, h, w)
            New features.
        """
        response: Tensor = self.second(rectified_(self.first(features)))
        return torch.add(features, response, alpha=self.residual_scale)  # a factor of 1 costs nothing
