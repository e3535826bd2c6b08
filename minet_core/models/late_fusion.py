"""A network whose contrasts meet once, late: what learns most from a pair of contrasts in a given time.

Shapes: B batch, C channel, H row, W column of the high-resolution image, h and w of the low-resolution one.

In the symbols of MINet (Feng et al. 2021), with chains F of residual blocks:

    F_tgt = enlarged(F(head(y)))              at the low resolution, without the reference
    F_ref = F(head(reference))                at the high resolution, without the target
    x     = bicubic(y) + Rec(F(W [F_ref, F_tgt]))     W: the 1 x 1 convolution of Eq. 2

Beside `minet_core.models.minet.model` this is what is left when everything is taken out that a short training does not
repay: fusions at every stage, the target's stages at the high resolution, the gates of the residual blocks, F_Att,
F_Int, and the reconstruction of the reference with its term of the loss (docs/decisions/0023,
docs/results/late-fusion.md). It is near one level of Lyu et al. (`minet_core.models.baselines.lyu`), with less before
the contrasts meet and more after, at any scale, and with the pixel term alone.
"""

from __future__ import annotations

from torch import Tensor, nn

from minet_core.models.base import SuperResolver, check_reference, check_scale, conv3x3, scale_initial_weights
from minet_core.models.baselines.edsr import ResidualBlock
from minet_core.models.minet.stage_fusion import fuse
from minet_core.models.one_channel_convolution import OneChannelConvolution
from minet_core.models.sub_pixel_convolution import pixel_shuffle_upsampler


class LateFusion(SuperResolver):
    """Super-resolve a target contrast; the reference's features are joined to the target's once, after a chain of each.

    Parameters
    ----------
    scale
        2 or 4.
    n_blocks
        Residual blocks in the chain of each contrast; the joint chain has twice as many.
    n_features
        C, feature channels.
    use_reference
        False: the same network without the reference's chain and the fusion.
    bicubic_skip
        The target image is the interpolated one plus what the layers add.

    Raises
    ------
    InvalidSetting
        FM-C102, for another scale.
    """

    def __init__(
        self,
        *,
        scale: int,
        n_blocks: int = 2,
        n_features: int = 16,
        use_reference: bool = True,
        bicubic_skip: bool = True,
    ) -> None:
        super().__init__()
        check_scale(scale)
        self.scale, self.bicubic_skip, self.uses_reference = scale, bicubic_skip, use_reference
        self.target_chain = nn.Sequential(conv3x3(1, n_features), *_blocks(n_features, n_blocks))
        self.enlargement = nn.Sequential(*pixel_shuffle_upsampler(n_features, scale=scale))
        self.reference_chain: nn.Sequential | None = None
        if use_reference:
            self.reference_chain = nn.Sequential(conv3x3(1, n_features), *_blocks(n_features, n_blocks))
            self.fusion = nn.Conv2d(2 * n_features, n_features, 1)
        self.joint_chain = nn.Sequential(*_blocks(n_features, 2 * n_blocks))
        self.reconstruction = OneChannelConvolution(n_features)
        if bicubic_skip:
            scale_initial_weights(self.reconstruction)

    def forward(
        self, low_res: Tensor, reference: Tensor | None, upsampled: Tensor | None = None
    ) -> tuple[Tensor, None]:
        """The target image.

        Parameters
        ----------
        low_res : Tensor (B, 1, h, w)
            Normalised.
        reference : Tensor (B, 1, H, W) or None
            H = scale h; normalised by itself. Not looked at without the reference's chain.
        upsampled : Tensor (B, 1, H, W) or None
            The aligned bicubic target; None computes it from `low_res`, which is right for a whole frame only.

        Returns
        -------
        tuple of Tensor (B, 1, H, W) and None
            The target image, and no image of the reference.

        Raises
        ------
        ModelError
            FM-M300, if the sizes do not fit.
        """
        features = self.enlargement(self.target_chain(low_res))  # F_tgt, (B, C, H, W)
        if self.reference_chain is not None:
            guide = check_reference(low_res, reference, scale=self.scale)
            features = fuse(self.reference_chain(guide), features, self.fusion)
        correction: Tensor = self.reconstruction(self.joint_chain(features))
        return self._with_skip(correction, low_res, upsampled), None


def _blocks(n_features: int, n_blocks: int) -> list[ResidualBlock]:
    return [ResidualBlock(n_features, residual_scale=1.0) for _ in range(n_blocks)]
