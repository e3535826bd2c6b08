"""Single- and multi-contrast super-resolution at once (Zeng et al., Computers in Biology and Medicine 2018).

Shapes: B batch, C feature channel, H row, W column.

Two networks in a row: the first super-resolves the target by itself; the second gets that image and the reference, and
corrects it. Both images are results, and both are in the loss.

Readings: what is known here of the paper is its abstract and what others say of it, so the numbers of layers and
features are settings and not the published ones; plain 3 x 3 convolutions with ReLU, sub-pixel convolution for the
enlargement, each network a correction of what it is given (the first of the interpolated image under `bicubic_skip`).
The two images weigh alike in the loss, and the pixels' loss is L1 as for all methods here.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from minet_core.models.base import SuperResolver, check_reference, check_scale, conv3x3, scale_initial_weights
from minet_core.models.loss import reconstruction_loss
from minet_core.models.sub_pixel_convolution import pixel_shuffle_upsampler


class Zeng(SuperResolver):
    """Super-resolve a target contrast from its low-resolution image and a high-resolution reference contrast.

    Parameters
    ----------
    scale
        2 or 4.
    n_blocks
        Hidden convolutions in each of the two networks.
    n_features
        C, feature channels.
    bicubic_skip
        The first network's image is the interpolated one plus what the layers add.

    Raises
    ------
    InvalidSetting
        FM-C102, for another scale.
    """

    uses_reference = True

    def __init__(
        self, *, scale: int, n_blocks: int = 8, n_features: int = 64, bicubic_skip: bool = False
    ) -> None:
        super().__init__()
        check_scale(scale)
        self.scale, self.bicubic_skip = scale, bicubic_skip
        self.single = nn.Sequential(
            *_layers(1, n_features, n_blocks=n_blocks),
            *pixel_shuffle_upsampler(n_features, scale=scale),
            conv3x3(n_features, 1),
        )
        self.multi = nn.Sequential(*_layers(2, n_features, n_blocks=n_blocks), conv3x3(n_features, 1))
        if bicubic_skip:
            scale_initial_weights(self.single[-1])  # type: ignore[arg-type]
        scale_initial_weights(self.multi[-1])  # type: ignore[arg-type]

    def forward(
        self, low_res: Tensor, reference: Tensor | None, upsampled: Tensor | None = None
    ) -> tuple[Tensor, None]:
        """The multi-contrast image.

        Parameters
        ----------
        low_res : Tensor (B, 1, h, w)
            Normalised.
        reference : Tensor (B, 1, H, W)
            Normalised by itself; None is refused.
        upsampled : Tensor (B, 1, H, W) or None
            The aligned bicubic target, under `bicubic_skip`; None computes it from `low_res`.

        Returns
        -------
        tuple of Tensor (B, 1, H, W) and None
            The target image, and no image of the reference.

        Raises
        ------
        ModelError
            FM-M300, where the reference does not fit.
        """
        return self.training_images(low_res, reference, upsampled)[1], None

    def training_images(
        self, low_res: Tensor, reference: Tensor | None, upsampled: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """The single- and the multi-contrast image.

        Parameters
        ----------
        low_res : Tensor (B, 1, h, w)
            Normalised.
        reference : Tensor (B, 1, H, W)
            Normalised by itself; None is refused.
        upsampled : Tensor (B, 1, H, W) or None
            The aligned bicubic target, under `bicubic_skip`; None computes it from `low_res`.

        Returns
        -------
        tuple of two Tensor (B, 1, H, W)
            Both are results and both are in the loss.

        Raises
        ------
        ModelError
            FM-M300, where the reference does not fit.
        """
        guide = check_reference(low_res, reference, scale=self.scale)
        single = self._with_skip(self.single(low_res), low_res, upsampled)
        return single, single + self.multi(torch.cat([single, guide.to(single.dtype)], dim=1))

    def training_loss(
        self, images: tuple[Any, ...], target: Tensor, reference: Tensor, *, alpha: float, beta: float
    ) -> Tensor:
        """alpha times the mean of both images' L1.

        Parameters
        ----------
        images
            Both, as `training_images` gave them.
        target : Tensor (B, 1, H, W)
            The truth, normalised.
        reference, beta
            Not used: there is no image of the reference.
        alpha
            Weight of the loss.

        Returns
        -------
        Tensor
            A scalar in float32, with its graph.

        Raises
        ------
        ModelError
            FM-M300, where an image and its truth differ in shape.
        """
        losses = [
            reconstruction_loss((image, None), target, reference, alpha=alpha, beta=beta) for image in images
        ]
        return torch.stack(losses).mean()


def _layers(n_in: int, n_features: int, *, n_blocks: int) -> list[nn.Module]:
    layers: list[nn.Module] = [conv3x3(n_in, n_features), nn.ReLU(inplace=True)]
    for _ in range(n_blocks):
        layers += [conv3x3(n_features, n_features), nn.ReLU(inplace=True)]
    return layers
