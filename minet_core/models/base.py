"""What every learned method is to the rest of the house: one call, one loss.

Shapes: B batch, H row, W column of the high-resolution image, h and w of the low-resolution one.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from minet_core.errors import InvalidSetting, ModelError
from minet_core.imaging.interpolation import bicubic
from minet_core.models.loss import reconstruction_loss

START_OF_LAST_CONVOLUTION = 1e-2
"""Factor on the initial weights of the target's last convolution under `bicubic_skip`: small beside the interpolated
image, and not zero, since zero weights would pass no gradient to anything before them in the first step."""


class SuperResolver(nn.Module):
    """Called as model(low_res, reference, upsampled), gives the target image and, of MINet, the reference's.

    low_res: (B, 1, h, w), normalised. reference: (B, 1, H, W), normalised by itself; single-contrast models do not
    look at it. upsampled: the aligned bicubic target (B, 1, H, W); a caller with a patch gives the patch of the
    interpolated frame. bicubic_skip: the target image is `upsampled` plus what the layers add. uses_reference: whether
    the reference is looked at. self_ensemble: poses over which its pictures are averaged where a volume is made
    (`minet_core.evaluation.self_ensemble`); the call itself makes one.
    """

    scale: int
    bicubic_skip: bool
    uses_reference: bool
    self_ensemble: int = 1

    def target_image(self, low_res: Tensor, reference: Tensor | None, upsampled: Tensor | None) -> Tensor:
        """The target image of the call, by which a volume is made; a method may leave out what only other images need.

        Parameters
        ----------
        low_res : Tensor (B, 1, h, w)
            Normalised.
        reference : Tensor (B, 1, H, W) or None
            Normalised by itself.
        upsampled : Tensor (B, 1, H, W) or None
            The aligned bicubic target; None computes it from `low_res`.

        Returns
        -------
        Tensor (B, 1, H, W)
            The same values as the call's first.

        Raises
        ------
        ModelError
            FM-M300, if the sizes do not fit.
        """
        image: Tensor = self(low_res, reference, upsampled)[0]
        return image

    def training_images(
        self, low_res: Tensor, reference: Tensor | None, upsampled: Tensor | None
    ) -> tuple[Any, ...]:
        """The images that the loss is taken of; those of the call, where a method has no more.

        Parameters
        ----------
        low_res : Tensor (B, 1, h, w)
            Normalised.
        reference : Tensor (B, 1, H, W) or None
            Normalised by itself.
        upsampled : Tensor (B, 1, H, W) or None
            The aligned bicubic target; None computes it from `low_res`.

        Returns
        -------
        tuple
            What `training_loss` takes, in its order; of the base class the target image and the reference's or None.
        """
        images: tuple[Any, ...] = self(low_res, reference, upsampled)
        return images

    def training_loss(
        self, images: tuple[Any, ...], target: Tensor, reference: Tensor, *, alpha: float, beta: float
    ) -> Tensor:
        """The loss of what `training_images` gave; Eq. 6 of MINet, where a method has none of its own.

        Parameters
        ----------
        images
            As `training_images` gave them.
        target, reference : Tensor (B, 1, H, W)
            The truth, normalised.
        alpha, beta
            Weights of the target's and of the reference's term, 0 or more.

        Returns
        -------
        Tensor
            A scalar in float32, with its graph.

        Raises
        ------
        ModelError
            FM-M300, where an image and its truth differ in shape.
        """
        target_image, reference_image = images
        return reconstruction_loss((target_image, reference_image), target, reference, alpha=alpha, beta=beta)

    def _with_skip(self, correction: Tensor, low_res: Tensor, upsampled: Tensor | None) -> Tensor:
        if not self.bicubic_skip:
            return correction
        return correction + (bicubic(low_res, self.scale) if upsampled is None else upsampled)


def scale_initial_weights(convolution: nn.Conv2d) -> None:
    """Let a last convolution start near zero, see START_OF_LAST_CONVOLUTION.

    Parameters
    ----------
    convolution
        With a bias, which becomes zero; changed in place.
    """
    assert convolution.bias is not None
    with torch.no_grad():
        convolution.weight.mul_(START_OF_LAST_CONVOLUTION)
        convolution.bias.zero_()


def conv3x3(n_in: int, n_out: int) -> nn.Conv2d:
    """A 3 x 3 convolution that keeps the size of the image.

    Parameters
    ----------
    n_in, n_out
        Channels.

    Returns
    -------
    Conv2d
        (B, n_in, H, W) -> (B, n_out, H, W), padded with zeros.
    """
    return nn.Conv2d(n_in, n_out, 3, padding=1)


def check_scale(scale: int) -> None:
    """Refuse an enlargement that no model has.

    Parameters
    ----------
    scale
        2 or 4.

    Raises
    ------
    InvalidSetting
        FM-C102, for another one.
    """
    if scale not in (2, 4):
        raise InvalidSetting("the model's scale is wrong", got=scale, expected="2 or 4")


def check_reference(low_res: Tensor, reference: Tensor | None, *, scale: int) -> Tensor:
    """The reference, where it is on the grid of the enlarged target.

    Parameters
    ----------
    low_res : Tensor (B, 1, h, w)
        The low-resolution target.
    reference : Tensor or None
        Expected as (B, 1, scale * h, scale * w).
    scale
        Factor along both axes.

    Returns
    -------
    Tensor (B, 1, scale * h, scale * w)
        `reference` itself.

    Raises
    ------
    ModelError
        FM-M300, where there is no reference or it has another shape.
    """
    batch, _, rows, columns = low_res.shape
    expected = (batch, 1, rows * scale, columns * scale)
    if reference is None or tuple(reference.shape) != expected:
        raise ModelError(
            "the reference does not fit the low-resolution target",
            got=None if reference is None else tuple(reference.shape),
            expected=expected,
        )
    return reference
