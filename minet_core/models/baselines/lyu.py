"""Progressive multi-contrast super-resolution with a composite loss (Lyu et al., IEEE TMI 2020).

Shapes: B batch, C feature channel, H row, W column.

One level enlarges by 2: features of the target, enlarged, and features of the reference on the same grid are
concatenated, so that the contrasts meet as features and not as pixels, and become an image. For 4x two levels follow
each other, the first with the reference at half its resolution, the second with the whole of it, and each level's image
is held to the target at its resolution. The loss has a pixel term, a perceptual and a textural one.

Readings and departures:

- What is known here of the paper is its abstract and what others say of it: the numbers of blocks and features are
  settings and not the published ones. Each level's image is a correction of what it is given, under `bicubic_skip` of
  the interpolated image.
- Perceptual and textural terms compare features of the two images and their Gram matrices. The paper takes them from a
  network trained on photographs; neither its weights nor their licence come with this program. The features here are
  those of a fixed bank of random filters after a ReLU: enough to tell textures apart (Ustyuzhaninov et al. 2017).
- No adversarial term: a second network that judges images would have to be federated too, and what it adds is not
  what PSNR and SSIM ask for.
- The pixel term is L1, as for all methods here.
- At half the resolution, the target and the reference are low-passed with (1, 2, 1) / 4 and every second sample is
  kept. It keeps the grid (high-resolution sample 2 n is sample n) and works on a patch, where cutting off k-space
  would wrap around the patch's edges.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from minet_core.imaging.interpolation import bicubic
from minet_core.models.activation_checkpointing import ActivationCheckpointed
from minet_core.models.base import SuperResolver, check_reference, check_scale, conv3x3, scale_initial_weights
from minet_core.models.baselines.edsr import ResidualBody
from minet_core.models.loss import reconstruction_loss
from minet_core.models.sub_pixel_convolution import pixel_shuffle_upsampler

PERCEPTUAL_WEIGHT = 0.1
TEXTURAL_WEIGHT = 0.1
"""Beside the pixel term, which weighs 1."""

N_FILTERS, FILTER_PX, FILTER_SEED = 32, 5, 1


class Lyu(SuperResolver):
    """Super-resolve a target contrast from its low-resolution image and a high-resolution reference contrast.

    Parameters
    ----------
    scale
        2 or 4.
    n_blocks
        Residual blocks in each of a level's three parts.
    n_features
        C, feature channels.
    bicubic_skip
        Each level's image is the interpolated one plus what the layers add.

    Raises
    ------
    InvalidSetting
        FM-C102, for another scale.
    """

    uses_reference = True

    def __init__(
        self, *, scale: int, n_blocks: int = 4, n_features: int = 64, bicubic_skip: bool = False
    ) -> None:
        super().__init__()
        check_scale(scale)
        self.scale, self.bicubic_skip = scale, bicubic_skip
        self.levels = nn.ModuleList(
            _Level(n_features, n_blocks=n_blocks, start_small=bicubic_skip)
            for _ in range(scale.bit_length() - 1)
        )
        self.register_buffer("filters", _filter_bank(), persistent=False)

    def forward(
        self, low_res: Tensor, reference: Tensor | None, upsampled: Tensor | None = None
    ) -> tuple[Tensor, None]:
        """The last level's image.

        Parameters
        ----------
        low_res : Tensor (B, 1, h, w)
            Normalised.
        reference : Tensor (B, 1, H, W)
            Normalised by itself; None is refused.
        upsampled : Tensor (B, 1, H, W) or None
            The aligned bicubic target; None computes it from `low_res`.

        Returns
        -------
        tuple of Tensor (B, 1, H, W) and None
            The target image, and no image of the reference.

        Raises
        ------
        ModelError
            FM-M300, where the reference does not fit.
        """
        return self.training_images(low_res, reference, upsampled)[-1], None

    def training_images(
        self, low_res: Tensor, reference: Tensor | None, upsampled: Tensor | None
    ) -> tuple[Tensor, ...]:
        """Every level's image.

        Parameters
        ----------
        low_res : Tensor (B, 1, h, w)
            Normalised.
        reference : Tensor (B, 1, H, W)
            Normalised by itself; None is refused.
        upsampled : Tensor (B, 1, H, W) or None
            The aligned bicubic target; None computes it from `low_res`.

        Returns
        -------
        tuple of Tensor
            log2(scale) images, the coarsest first: (B, 1, 2 h, 2 w), and for 4x (B, 1, 4 h, 4 w).

        Raises
        ------
        ModelError
            FM-M300, where the reference does not fit.
        """
        guides = [check_reference(low_res, reference, scale=self.scale)]
        while len(guides) < len(self.levels):
            guides.insert(0, halved(guides[0]))
        whole = bicubic(low_res, self.scale) if upsampled is None else upsampled
        images: list[Tensor] = []
        image = low_res
        for number, (level, guide) in enumerate(zip(self.levels, guides, strict=True), start=1):
            skip = whole
            for _ in range(len(self.levels) - number):
                skip = halved(skip)
            image = level(image, guide)
            image = image + skip if self.bicubic_skip else image
            images.append(image)
        return tuple(images)

    def training_loss(
        self, images: tuple[Any, ...], target: Tensor, reference: Tensor, *, alpha: float, beta: float
    ) -> Tensor:
        """alpha times the mean over the levels of the composite loss.

        Parameters
        ----------
        images
            Every level's, as `training_images` gave them.
        target : Tensor (B, 1, H, W)
            The truth, normalised; halved for the coarser level.
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
        truths = [target]
        while len(truths) < len(images):
            truths.insert(0, halved(truths[0]))
        losses = [
            reconstruction_loss((image, None), truth, reference, alpha=alpha, beta=beta)
            + alpha * self._of_features(image.to(truth.dtype), truth)
            for image, truth in zip(images, truths, strict=True)
        ]
        return torch.stack(losses).mean()

    def _of_features(self, image: Tensor, truth: Tensor) -> Tensor:
        """The perceptual and the textural term."""
        seen, true = self._features(image), self._features(truth)
        perceptual = functional.l1_loss(seen, true)
        textural = functional.l1_loss(gram(seen), gram(true))
        return PERCEPTUAL_WEIGHT * perceptual + TEXTURAL_WEIGHT * textural

    def _features(self, image: Tensor) -> Tensor:
        assert isinstance(self.filters, Tensor)
        return functional.relu(functional.conv2d(image, self.filters.to(image)))


class _Level(ActivationCheckpointed):
    """Enlarge by 2: (B, 1, h, w) and the reference (B, 1, 2 h, 2 w) -> (B, 1, 2 h, 2 w)."""

    def __init__(self, n_features: int, *, n_blocks: int, start_small: bool) -> None:
        super().__init__()
        self.target = nn.Sequential(
            _body(1, n_features, n_blocks), *pixel_shuffle_upsampler(n_features, scale=2)
        )
        self.reference = _body(1, n_features, n_blocks)
        self.fusion = _body(2 * n_features, n_features, n_blocks)
        self.reconstruction = conv3x3(n_features, 1)
        if start_small:
            scale_initial_weights(self.reconstruction)

    def forward(self, image: Tensor, reference: Tensor) -> Tensor:
        features = torch.cat([self.target(image), self.reference(reference)], dim=1)
        enlarged: Tensor = self.reconstruction(self.fusion(features))
        return enlarged


def halved(image: Tensor) -> Tensor:
    """Half the resolution: low-passed with (1, 2, 1) / 4 each way, every second sample kept.

    Parameters
    ----------
    image : Tensor (B, 1, H, W)
        The edge samples are repeated beyond the frame.

    Returns
    -------
    Tensor (B, 1, H / 2, W / 2)
        Rounded up for odd sizes; sample n is sample 2 n of `image`.
    """
    weights = torch.tensor([0.25, 0.5, 0.25], dtype=image.dtype, device=image.device)
    padded = functional.pad(image, (1, 1, 1, 1), mode="replicate")
    return functional.conv2d(padded, torch.outer(weights, weights)[None, None], stride=2)


def gram(features: Tensor) -> Tensor:
    """Gram matrices: mean products of every two features over the image.

    Parameters
    ----------
    features : Tensor (B, N, H, W)
        Of one layer.

    Returns
    -------
    Tensor (B, N, N)
        Symmetric.
    """
    flat = features.flatten(2)
    return flat @ flat.transpose(1, 2) / flat.shape[-1]


def _body(n_in: int, n_features: int, n_blocks: int) -> ResidualBody:
    return ResidualBody(n_in, n_features=n_features, n_blocks=n_blocks, residual_scale=1.0)


def _filter_bank() -> Tensor:
    """Random filters without a mean, of length 1: (N_FILTERS, 1, FILTER_PX, FILTER_PX), the same everywhere."""
    generator = torch.Generator().manual_seed(FILTER_SEED)
    drawn = torch.randn(N_FILTERS, 1, FILTER_PX, FILTER_PX, generator=generator, device="cpu")
    drawn = drawn - drawn.mean(dim=(-2, -1), keepdim=True)
    normalised: Tensor = drawn / drawn.flatten(1).norm(dim=1)[:, None, None, None]
    return normalised
