"""F_Int, the multi-stage integration module, and the projection of its output (Eq. 3, 7, 8 of Feng et al. 2021).

Shapes: B batch, N stored features (2L, or L without the reference), C channel, H row, W column.

The module never forms S F. A convolution P of H = S F + F is linear in F, so its weights are mixed instead:
sum_i P_i * H_i = sum_j P'_j * F_j with P'_j = sum_i (S + I)_ij P_i, a set of weights per sample.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

SMALLEST_NORM_SQUARED = 1e-12
"""Below this a feature counts as zero and is similar to nothing, itself included."""


class MultiStageIntegration(nn.Module):
    """P(H), where H = S F + F (Eq. 8) and S is the softmax, by rows, of the features' similarities (Eq. 7).

    similarity: "raw" takes the dot products of Eq. 7 as printed. They grow with H W C, so S is one-hot for any
        real image and its path has no gradient. "cosine", the default, divides them by both norms and multiplies
        by a learnable temperature: the same value for a patch and for a frame of the same content.
    """

    def __init__(self, n_stored: int, *, n_features: int, similarity: Literal["cosine", "raw"]) -> None:
        super().__init__()
        self.n_stored = n_stored
        self.similarity = similarity
        self.projection = nn.Conv2d(n_stored * n_features, n_features, 3, padding=1)
        # One feature has only itself to be similar to: S is 1 whatever the temperature.
        learns_temperature = similarity == "cosine" and n_stored > 1
        self.temperature = nn.Parameter(torch.tensor([10.0])) if learns_temperature else None

    def forward(self, stored: list[Tensor]) -> Tensor:  # N x (B, C, H, W) -> (B, C, H, W)
        with torch.autocast(stored[0].device.type, enabled=False):
            mixing = self.affinity(stored)  # (B, N, N)
            weights = self._mixed_weights(mixing)  # B x (C, N C, 3, 3)
        samples = torch.cat(stored, dim=1).split(1)  # B x (1, N C, H, W)
        bias = self.projection.bias
        projected = [
            functional.conv2d(sample, weight, bias, padding=1)
            for sample, weight in zip(samples, weights, strict=True)
        ]
        return torch.cat(projected)

    def affinity(self, stored: list[Tensor]) -> Tensor:
        """S of Eq. 7, (B, N, N), accumulated in float32 at least: bfloat16 errs by thousands at this length."""
        accumulated = torch.promote_types(stored[0].dtype, torch.float32)
        # The order of the elements does not matter to a dot product; this one is a view in channels_last.
        rows = torch.stack([feature.permute(0, 2, 3, 1).flatten(1) for feature in stored], dim=1)
        rows = rows.to(accumulated)  # (B, N, H W C)
        products = rows @ rows.mT  # (B, N, N)
        if self.similarity == "cosine":
            squares = products.diagonal(dim1=1, dim2=2).clamp_min(SMALLEST_NORM_SQUARED)  # (B, N)
            inverse = squares.rsqrt()
            products = products * inverse[:, :, None] * inverse[:, None, :]
            if self.temperature is not None:
                products = products * self.temperature
        return products.softmax(dim=2)

    def _mixed_weights(self, affinity: Tensor) -> tuple[Tensor, ...]:
        weight = self.projection.weight
        n_features = weight.shape[0]
        per_stored = weight.unflatten(1, (self.n_stored, n_features))  # (C, N, C, 3, 3)
        mixing = affinity.to(weight.dtype) + torch.eye(
            self.n_stored, dtype=weight.dtype, device=weight.device
        )
        mixed = torch.einsum("bij,oichw->bojchw", mixing, per_stored).flatten(2, 3)  # (B, C, N C, 3, 3)
        return mixed.unbind()
