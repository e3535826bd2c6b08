"""The loss of MINet (Eq. 6 of Feng et al. 2021)."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from minet_core.errors import ModelError


def reconstruction_loss(
    images: tuple[Tensor, Tensor | None], target: Tensor, reference: Tensor, *, alpha: float, beta: float
) -> Tensor:
    """alpha * L1(target) + beta * L1(reference), each a mean over batch and pixels, a scalar in float32.

    images: the model's target image and its reconstruction of the reference, None for a model without the
        reference branch, whose loss is the first term alone. target, reference: the truth, (B, 1, H, W).
    The mean per pixel, where Eq. 6 prints a norm, so that a learning rate serves patches and frames alike.
    Raises ModelError (FM-M300) where an image and its truth differ in shape.
    """
    target_image, reference_image = images
    loss = alpha * _mean_l1(target_image, target)
    if reference_image is None:
        return loss
    return loss + beta * _mean_l1(reference_image, reference)


def _mean_l1(image: Tensor, truth: Tensor) -> Tensor:
    if image.shape != truth.shape:
        raise ModelError(
            "an image and its truth differ in shape", got=tuple(image.shape), expected=tuple(truth.shape)
        )
    return functional.l1_loss(image.to(truth.dtype), truth)
