"""F_Int, the multi-stage integration module, and the projection of its output.

Source: Eq. 3, 7 and 8 of Feng et al., MICCAI 2021.
Shapes: B batch, N stored features (2L, or L without the reference), C channel, H row, W column.

The module never forms S F. A convolution P of H = S F + F is linear in F, so its weights are mixed instead:
sum_i P_i * H_i = sum_j P'_j * F_j with P'_j = sum_i (S + I)_ij P_i, a set of weights per sample.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

MIN_NORM_SQUARED = 1e-12
"""Below this a feature counts as zero and is similar to nothing, itself included."""


class MultiStageIntegration(nn.Module):
    """P(H), where H = S F + F (Eq. 8) and S is the softmax, by rows, of the features' similarities (Eq. 7).

    Parameters
    ----------
    n_stored
        N, stored features.
    n_features
        C, feature channels.
    similarity
        "raw" takes the dot products of Eq. 7 as printed. They grow with H W C, so S is one-hot for any real image and
        its path has no gradient. "cosine", the default of `MINet`, divides them by both norms and multiplies by a
        learnable temperature: the same for a patch and for a frame of the same content.
    """

    def __init__(self, n_stored: int, *, n_features: int, similarity: Literal["cosine", "raw"]) -> None:
        super().__init__()
        self.n_stored = n_stored
        self.n_features = n_features
        self.similarity = similarity
        self.projection = nn.Conv2d(n_stored * n_features, n_features, 3, padding=1)
        # One feature has only itself to be similar to: S is 1 whatever the temperature.
        learns_temperature = similarity == "cosine" and n_stored > 1
        self.temperature = nn.Parameter(torch.tensor([10.0])) if learns_temperature else None

    def forward(self, stored: list[Tensor]) -> Tensor:  # N x (B, C, H, W) -> (B, C, H, W)
        """P(H), with the affinity of each sample computed in float32 whatever autocast says.

        Parameters
        ----------
        stored : N tensors (B, C, H, W)
            F of Eq. 3.

        Returns
        -------
        Tensor (B, C, H, W)
            The integrated and projected features.
        """
        samples = torch.cat(stored, dim=1)[:, None].unbind()  # B x (1, N C, H, W)
        projected = []
        for sample in samples:
            with torch.autocast(sample.device.type, enabled=False):
                weight = self._mixed_weight(self.affinity(sample))
            projected.append(functional.conv2d(sample, weight, self.projection.bias, padding=1))
        return torch.cat(projected)

    def affinity(self, sample: Tensor) -> Tensor:
        """S of Eq. 7, of one sample.

        Accumulated in float32 at least: at this length bfloat16 errs by thousands. One sample at a time: a batched
        product of matrices this flat takes three times as long.

        Parameters
        ----------
        sample : Tensor (1, N C, H, W)
            The sample's stored features, one behind the other.

        Returns
        -------
        Tensor (N, N)
            Each row sums to one.
        """
        blocks = sample.reshape(self.n_stored, self.n_features, *sample.shape[2:])  # (N, C, H, W)
        # The order of the elements does not matter to a dot product; this one is near to channels_last.
        rows = blocks.permute(0, 2, 3, 1).flatten(1)  # (N, H W C)
        rows = rows.to(torch.promote_types(rows.dtype, torch.float32))
        products = rows @ rows.mT  # (N, N)
        if self.similarity == "cosine":
            inverse = products.diagonal().clamp_min(MIN_NORM_SQUARED).rsqrt()  # (N,)
            products = products * torch.outer(inverse, inverse)
            if self.temperature is not None:
                products = products * self.temperature
        return products.softmax(dim=1)

    def _mixed_weight(self, affinity: Tensor) -> Tensor:
        """P' of the module's docstring, (C, N C, 3, 3)."""
        weight = self.projection.weight
        mixing = affinity.to(weight.dtype) + torch.eye(
            len(affinity), dtype=weight.dtype, device=weight.device
        )
        per_stored = weight.reshape(self.n_features, self.n_stored, self.n_features, 3, 3)
        return torch.einsum("ij,oichw->ojchw", mixing, per_stored).flatten(1, 2)
