"""Networks whose pictures are averaged: what they get wrong each in its own way is less in their mean.

The squared error of the mean is the mean of the networks' own less their spread about it (Krogh and Vedelsby 1995), so
it is never above that mean, and below the best of them where they are about as good as each other and differ.

References
----------
Krogh, Vedelsby: "Neural Network Ensembles, Cross Validation, and Active Learning", NeurIPS 1995.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from minet_core.models.base import SuperResolver

PREFIX = "members"
"""Of the names of an ensemble's tensors: `members.0.` and the name in the network."""


class Ensemble(SuperResolver):
    """The mean of several networks' pictures, as one network.

    In training each network learns by its own pictures, and the loss is the mean of theirs.

    Parameters
    ----------
    members
        Networks of one method, one scale and one `bicubic_skip`; at least one.
    """

    def __init__(self, members: Sequence[SuperResolver]) -> None:
        super().__init__()
        first = members[0]
        self.scale, self.bicubic_skip = first.scale, first.bicubic_skip
        self.uses_reference = first.uses_reference
        self.members = nn.ModuleList(members)

    def forward(
        self, low_res: Tensor, reference: Tensor | None = None, upsampled: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """The mean of the networks' pictures.

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
        tuple of Tensor (B, 1, H, W) and Tensor (B, 1, H, W) or None
            The target, and the reference where the networks give one.

        Raises
        ------
        ModelError
            FM-M300, if the sizes do not fit.
        """
        images = [member(low_res, reference, upsampled) for member in self.members]
        targets = torch.stack([target for target, _ in images])
        references = [given for _, given in images if given is not None]
        return targets.mean(0), torch.stack(references).mean(0) if references else None

    def target_image(self, low_res: Tensor, reference: Tensor | None, upsampled: Tensor | None) -> Tensor:
        """The mean of the networks' target images.

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
        return torch.stack(
            [one.target_image(low_res, reference, upsampled) for one in self._networks()]
        ).mean(0)

    def training_images(
        self, low_res: Tensor, reference: Tensor | None, upsampled: Tensor | None
    ) -> tuple[Any, ...]:
        """Each network's own, in their order.

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
            As many as there are networks.
        """
        return tuple(member.training_images(low_res, reference, upsampled) for member in self._networks())

    def training_loss(
        self, images: tuple[Any, ...], target: Tensor, reference: Tensor, *, alpha: float, beta: float
    ) -> Tensor:
        """The mean of the networks' losses.

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
        losses = [
            member.training_loss(own, target, reference, alpha=alpha, beta=beta)
            for member, own in zip(self._networks(), images, strict=True)
        ]
        return torch.stack(losses).mean()

    def _networks(self) -> list[SuperResolver]:
        return [cast(SuperResolver, member) for member in self.members]


def joined_weights(weights: Sequence[Mapping[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
    """The weights of an ensemble of networks.

    Parameters
    ----------
    weights
        Of each network, by name; the same names for each.

    Returns
    -------
    dict of str to ndarray
        Under the names that `Ensemble` has for them; the arrays are not copied.
    """
    return {
        f"{PREFIX}.{place}.{name}": array
        for place, network in enumerate(weights)
        for name, array in network.items()
    }
