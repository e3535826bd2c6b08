"""SMORE: anti-aliasing and super-resolution of MRI by networks that see the image in two orientations
(Zhao et al., MICCAI 2018).

Shapes: B batch, H row, W column.

The paper restores thick slices: one network takes the aliasing of a wide slice spacing out (SAA), a second one raises
the resolution (SSR), both are EDSRs on the interpolated grid, applied in several orientations, and the results are
merged by Fourier burst accumulation (Delbracio and Sapiro 2015): of every spatial frequency, mostly from the
orientation in which it is strongest.

In the plane of a slice, where MINet's authors used it, this is what is left of that idea, and what is not:

- SAA and SSR one after the other on the interpolated image, once as it is and once turned by 90 degrees; merged with
  |U|^p / sum |U|^p as weights. The paper's p, infinity, passes no gradient to the weaker one; `burst_power` is finite.
- No aliasing is there to be removed: a k-space that was cut off rings. SAA is the stage that sees the ringing first.
- The paper learns from the very volume that it restores, since that has one direction of high resolution. A slice that
  is coarse in both has none: the networks learn from the training split, as all methods here.
- SAA and SSR are one chain under the loss of its result, and not two networks, each trained for its own task.
- The weights of the burst are those of each frequency by itself, and are not smoothed over neighbouring ones.
- 32 blocks of 256 features are EDSR's published size, on which the paper builds.
"""

from __future__ import annotations

import torch
from torch import Tensor

from minet_core.imaging.interpolation import bicubic
from minet_core.models.activation_checkpointing import ActivationCheckpointed
from minet_core.models.base import SuperResolver, check_scale, conv3x3, scale_initial_weights
from minet_core.models.baselines.edsr import ResidualBody


class SMORE(SuperResolver):
    """Super-resolve a target contrast from its low-resolution image alone.

    Parameters
    ----------
    scale
        2 or 4.
    n_blocks
        Residual blocks in each of the two networks.
    n_features
        C, feature channels.
    residual_scale
        Factor on a block's response.
    burst_power
        p of the weights |U|^p / sum |U|^p.

    Raises
    ------
    InvalidSetting
        FM-C102, for another scale.
    """

    uses_reference = False
    bicubic_skip = True
    """Part of the method: its networks work on the interpolated image."""

    def __init__(
        self,
        *,
        scale: int,
        n_blocks: int = 32,
        n_features: int = 256,
        residual_scale: float = 0.1,
        burst_power: float = 2.0,
    ) -> None:
        super().__init__()
        check_scale(scale)
        self.scale, self.burst_power = scale, burst_power
        self.anti_aliasing = _Restoration(n_features, n_blocks=n_blocks, residual_scale=residual_scale)
        self.super_resolution = _Restoration(n_features, n_blocks=n_blocks, residual_scale=residual_scale)

    def forward(
        self, low_res: Tensor, _reference: Tensor | None, upsampled: Tensor | None = None
    ) -> tuple[Tensor, None]:
        """The burst of both orientations; the reference is not looked at.

        Parameters
        ----------
        low_res : Tensor (B, 1, h, w)
            Normalised.
        _reference
            Taken as every `SuperResolver` takes it.
        upsampled : Tensor (B, 1, H, W) or None
            The aligned bicubic target, which the networks work on; None computes it from `low_res`.

        Returns
        -------
        tuple of Tensor (B, 1, H, W) and None
            The target image in float32, and no image of the reference.
        """
        interpolated = bicubic(low_res, self.scale) if upsampled is None else upsampled
        turned = interpolated.rot90(1, dims=(-2, -1))
        return burst(
            self._restored(interpolated),
            self._restored(turned).rot90(-1, dims=(-2, -1)),
            power=self.burst_power,
        ), None

    def _restored(self, image: Tensor) -> Tensor:
        restored: Tensor = self.super_resolution(self.anti_aliasing(image))
        return restored


class _Restoration(ActivationCheckpointed):
    """An EDSR that keeps the grid, added to its input: (B, 1, H, W) -> (B, 1, H, W)."""

    def __init__(self, n_features: int, *, n_blocks: int, residual_scale: float) -> None:
        super().__init__()
        self.body = ResidualBody(1, n_features=n_features, n_blocks=n_blocks, residual_scale=residual_scale)
        self.reconstruction = conv3x3(n_features, 1)
        scale_initial_weights(self.reconstruction)

    def forward(self, image: Tensor) -> Tensor:
        correction: Tensor = self.reconstruction(self.body(image))
        return image + correction


def burst(first: Tensor, second: Tensor, *, power: float) -> Tensor:
    """Fourier burst accumulation of two images: each frequency by the power of its magnitudes.

    In float32, whatever the images are in: sums of bfloat16 spectra are not worth having.

    Parameters
    ----------
    first, second : Tensor (..., H, W)
        Real, of one shape.
    power
        p of the weights |U|^p / sum |U|^p; 0 is the plain mean.

    Returns
    -------
    Tensor (..., H, W)
        float32.

    References
    ----------
    Delbracio, Sapiro: "Burst Deblurring: Removing Camera Shake Through Fourier Burst Accumulation", CVPR 2015.
    """
    spectra = torch.fft.rfft2(torch.stack([first.float(), second.float()]))
    strength = spectra.abs().clamp_min(1e-12) ** power
    merged = (spectra * strength).sum(0) / strength.sum(0)
    image: Tensor = torch.fft.irfft2(merged, s=first.shape[-2:])
    return image
