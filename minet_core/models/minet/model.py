"""MINet: multi-contrast super-resolution by multi-stage integration (Feng et al., MICCAI 2021).

Shapes: B batch, C channel, H row, W column of the high-resolution image, h and w of the low-resolution one,
L stages, N stored features (2L, or L without the reference).

Readings of the paper where it does not decide, and departures from it:

- Eq. 2: [F_ref, F_tgt] is brought from 2C to C channels by a 1 x 1 convolution before the group.
- Eq. 5 does not add up as printed: H has 2LC channels, F^0 and G have C. P, a 3 x 3 convolution, projects H:
  x = Rec(F^0 + G + P(H)).
- Eq. 7 as printed saturates: see `minet_core.models.minet.multi_stage_integration`. Its literal form is
  `integration="raw"`.
- "without F_Int" takes H out: x = Rec(F^0 + G). "without F_Att" takes Eq. 4 out: G = F^L. "without the
  auxiliary" builds no reference branch at all, so it stores L features and gives no reference image.
- F_Att has its own kernel in each branch.
- `bicubic_skip`, a departure: x = bicubic(y) + Rec(...), with the target's last convolution started near zero, so
  that training starts at the aligned interpolation. Not at the zero-filled one: the convolutions reach some
  twenty pixels, and the ringing of sinc comes from farther away (docs/decisions/0013). The reference's
  reconstruction has no such skip: its input is also its ground truth, and with a skip its loss would be zero and
  teach nothing.
- `align_reference`, no part of the paper: what the equations call the reference is the given one, laid onto the target
  (`minet_core.models.minet.reference_alignment`). It is the reference's ground truth too: by the given one the loss
  would teach the alignment to leave everything where it is.
"""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor, nn

from minet_core.errors import InvalidSetting
from minet_core.imaging.interpolation import bicubic
from minet_core.models.base import SuperResolver, check_reference, check_scale, conv3x3, scale_initial_weights
from minet_core.models.minet.channel_spatial_attention import ChannelSpatialAttention
from minet_core.models.minet.multi_stage_integration import MultiStageIntegration
from minet_core.models.minet.reference_alignment import ReferenceAlignment
from minet_core.models.minet.residual_groups import ResidualGroup
from minet_core.models.minet.stage_fusion import fuse
from minet_core.models.one_channel_convolution import OneChannelConvolution
from minet_core.models.sub_pixel_convolution import pixel_shuffle_upsampler


class MINet(SuperResolver):
    """Super-resolve a target contrast from its low-resolution image and a high-resolution reference contrast.

    Parameters
    ----------
    scale
        2 or 4.
    n_groups
        L, stages of residual groups.
    n_blocks
        RCABs in a residual group.
    n_features
        C, feature channels.
    reduction
        Channel reduction of RCAN's attention; divides `n_features`.
    integration
        Similarity of Eq. 7: "cosine" with a learnable temperature, or "raw" as printed.
    use_reference, use_integration, use_attention
        False: the ablation without the auxiliary contrast, F_Int, F_Att.
    bicubic_skip
        The target image is the interpolated one plus what the layers add.
    align_reference
        Lay the reference onto the target first; needs `use_reference`.

    Raises
    ------
    InvalidSetting
        FM-C102, for sizes that no model has, or an alignment without a reference.

    References
    ----------
    Feng et al.: "Multi-Contrast MRI Super-Resolution via a Multi-Stage Integration Network", MICCAI 2021.
    """

    def __init__(
        self,
        *,
        scale: int,
        n_groups: int = 2,
        n_blocks: int = 2,
        n_features: int = 16,
        reduction: int = 4,
        integration: Literal["cosine", "raw"] = "cosine",
        use_reference: bool = True,
        use_integration: bool = True,
        use_attention: bool = True,
        bicubic_skip: bool = True,
        align_reference: bool = False,
    ) -> None:
        super().__init__()
        _check_sizes(scale, n_features=n_features, reduction=reduction, integration=integration)
        self.scale, self.bicubic_skip, self.uses_reference = scale, bicubic_skip, use_reference
        self.target_head = _upsampling_head(n_features, scale=scale)
        self.target_branch = _branch(n_groups, n_features=n_features, n_blocks=n_blocks, reduction=reduction)
        self.target_attention = ChannelSpatialAttention(n_features) if use_attention else None
        self.target_reconstruction = OneChannelConvolution(n_features)
        self.reference_branch: nn.ModuleList | None = None
        self.reference_attention: ChannelSpatialAttention | None = None
        if use_reference:
            self.reference_head = nn.Conv2d(1, n_features, 3, padding=1)
            self.reference_branch = _branch(
                n_groups, n_features=n_features, n_blocks=n_blocks, reduction=reduction
            )
            self.fusions = nn.ModuleList(nn.Conv2d(2 * n_features, n_features, 1) for _ in range(n_groups))
            self.reference_attention = ChannelSpatialAttention(n_features) if use_attention else None
            self.reference_reconstruction = OneChannelConvolution(n_features)
        if align_reference and not use_reference:
            raise InvalidSetting("there is no reference to align", got="use_reference false", expected="true")
        self.reference_alignment = ReferenceAlignment(scale=scale) if align_reference else None
        n_stored = n_groups * (2 if use_reference else 1)
        self.integration = (
            MultiStageIntegration(n_stored, n_features=n_features, similarity=integration)
            if use_integration
            else None
        )
        if bicubic_skip:
            scale_initial_weights(self.target_reconstruction)

    def forward(
        self, low_res: Tensor, reference: Tensor | None, upsampled: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """The target image and the reconstructed reference.

        Parameters
        ----------
        low_res : Tensor (B, 1, h, w)
            Normalised.
        reference : Tensor (B, 1, H, W) or None
            H = scale h; normalised by its own mean and standard deviation. Not looked at without the reference
            branch.
        upsampled : Tensor (B, 1, H, W) or None
            The aligned bicubic target. A caller with a patch gives the patch of the interpolated frame; without it
            the interpolation is computed from `low_res`, which is right for a whole frame only.

        Returns
        -------
        tuple of Tensor (B, 1, H, W) and Tensor (B, 1, H, W) or None
            None without the reference branch.

        Raises
        ------
        ModelError
            FM-M300, if the sizes do not fit.
        """
        return self._images(low_res, self._guide(low_res, reference, upsampled), upsampled)

    def target_image(self, low_res: Tensor, reference: Tensor | None, upsampled: Tensor | None) -> Tensor:
        """The call's target image, without the reconstruction of the reference: a twentieth of a `quick` slice's time.

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
        guide = self._guide(low_res, reference, upsampled)
        return self._target_and_stored(low_res, guide, upsampled)[0]

    def training_images(
        self, low_res: Tensor, reference: Tensor | None, upsampled: Tensor | None
    ) -> tuple[Any, ...]:
        """The images of the call, and with `align_reference` the reference that they were made with.

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
            What `training_loss` takes.
        """
        if self.reference_alignment is None:
            images: tuple[Any, ...] = self(low_res, reference, upsampled)
            return images
        guide = self._guide(low_res, reference, upsampled)
        assert guide is not None
        return *self._images(low_res, guide, upsampled), guide.detach()

    def training_loss(
        self, images: tuple[Any, ...], target: Tensor, reference: Tensor, *, alpha: float, beta: float
    ) -> Tensor:
        """Eq. 6, whose reference is the aligned one where there is an alignment.

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
        """
        target_image, reference_image, *aligned = images
        truth = aligned[0] if aligned else reference
        return super().training_loss((target_image, reference_image), target, truth, alpha=alpha, beta=beta)

    def _guide(self, low_res: Tensor, reference: Tensor | None, upsampled: Tensor | None) -> Tensor | None:
        """The reference as the equations have it; None without its branch."""
        if self.reference_branch is None:
            return None
        guide = check_reference(low_res, reference, scale=self.scale)
        if self.reference_alignment is None:
            return guide
        aligned: Tensor = self.reference_alignment(
            bicubic(low_res, self.scale) if upsampled is None else upsampled, guide
        )
        return aligned

    def _images(
        self, low_res: Tensor, guide: Tensor | None, upsampled: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """The target image and the reconstructed reference (Eq. 1 to 5)."""
        target_image, reference = self._target_and_stored(low_res, guide, upsampled)
        if reference is None:
            return target_image, None
        return target_image, self.reference_reconstruction(_attended(reference, self.reference_attention))

    def _target_and_stored(
        self, low_res: Tensor, guide: Tensor | None, upsampled: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """The target image, and F_ref^L (B, C, H, W)."""
        target_initial = self.target_head(low_res)  # F_tgt^0, (B, C, H, W)
        stored_reference: list[Tensor] = []
        if guide is None:
            stored = stored_target = self._target_stages(target_initial)
        else:
            stored_reference, stored_target = self._both_stages(self.reference_head(guide), target_initial)
            # F of Eq. 3: [F_ref^1, F_tgt^1, ..., F_ref^L, F_tgt^L]
            stored = [f for pair in zip(stored_reference, stored_target, strict=True) for f in pair]
        enriched = target_initial + _attended(stored_target[-1], self.target_attention)  # F^0 + G
        if self.integration is not None:
            enriched = enriched + self.integration(stored)  # + P(H)
        target_image: Tensor = self.target_reconstruction(enriched)  # Eq. 5
        return self._with_skip(target_image, low_res, upsampled), next(reversed(stored_reference), None)

    def _target_stages(self, target: Tensor) -> list[Tensor]:
        """F_tgt^1 ... F_tgt^L without the reference."""
        stages = []
        for group in self.target_branch:
            target = group(target)
            stages.append(target)
        return stages

    def _both_stages(self, reference: Tensor, target: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """F_ref^1 ... F_ref^L (Eq. 1) and F_tgt^1 ... F_tgt^L (Eq. 2)."""
        assert self.reference_branch is not None
        stages_reference, stages_target = [], []
        for reference_group, target_group, fusion in zip(
            self.reference_branch, self.target_branch, self.fusions, strict=True
        ):
            fused = fuse(reference, target, fusion)
            reference, target = reference_group(reference), target_group(fused)
            stages_reference.append(reference)
            stages_target.append(target)
        return stages_reference, stages_target


def _branch(n_groups: int, *, n_features: int, n_blocks: int, reduction: int) -> nn.ModuleList:
    return nn.ModuleList(
        ResidualGroup(n_features, n_blocks=n_blocks, reduction=reduction) for _ in range(n_groups)
    )


def _upsampling_head(n_features: int, *, scale: int) -> nn.Sequential:
    """A convolution, then log2(scale) sub-pixel convolutions (Section 2.1)."""
    return nn.Sequential(conv3x3(1, n_features), *pixel_shuffle_upsampler(n_features, scale=scale))


def _attended(features: Tensor, attention: ChannelSpatialAttention | None) -> Tensor:
    """G of Eq. 4, or the features themselves in the ablation without F_Att."""
    return features if attention is None else attention(features)


def _check_sizes(scale: int, *, n_features: int, reduction: int, integration: str) -> None:
    check_scale(scale)
    if integration not in ("cosine", "raw"):
        raise InvalidSetting("the model's integration is unknown", got=integration, expected="cosine or raw")
    if n_features % reduction:
        raise InvalidSetting(
            "the attention's reduction does not divide the number of features",
            got=f"reduction {reduction} of {n_features} features",
            expected="a divisor",
        )
