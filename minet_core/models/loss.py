"""The loss of MINet (Eq. 6 of Feng et al. 2021)."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from minet_core.errors import ModelError


def reconstruction_loss(
    images: tuple[Tensor, Tensor | None], target: Tensor, reference: Tensor, *, alpha: float, beta: float
) -> Tensor:
    """alpha * L1(target) + beta * L1(reference), each a mean over batch and pixels.

    The mean per pixel, where Eq. 6 prints a norm, so that a learning rate serves patches and frames alike.

    Parameters
    ----------
    images : (Tensor (B, 1, H, W), Tensor (B, 1, H, W) or None)
        The model's target image and its reconstruction of the reference; None for a model without the reference
        branch, whose loss is the first term alone.
    target, reference : Tensor (B, 1, H, W)
        The truth.
    alpha, beta
        Weights of the two terms.

    Returns
    -------
    Tensor
        A scalar of the truth's dtype, float32 in training.

    Raises
    ------
    ModelError
        FM-M300, where an image and its truth differ in shape.

    References
    ----------
    Feng et al.: "Multi-Contrast MRI Super-Resolution via a Multi-Stage Integration Network", MICCAI 2021, Eq. 6.
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
