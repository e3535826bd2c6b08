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

from minet_core.models.minet.gram import products_of
from minet_core.models.minet.joined_maps import joined

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
        if torch.compiler.is_exporting():
            return self.with_fixed_weights(stored)
        with torch.autocast(stored[0].device.type, enabled=False):
            weights = self._mixed_weights(self.affinity(stored))
        # A slice of a batch keeps channels_last, which unbind(1) after [:, None] loses: reordered twice a sample.
        samples = torch.split(joined(stored), 1)  # B x (1, N C, H, W)
        bias = self.projection.bias
        projected = [
            functional.conv2d(sample, weight, bias, padding=1)
            for sample, weight in zip(samples, weights.unbind(), strict=True)
        ]
        return projected[0] if len(projected) == 1 else torch.cat(projected)

    def with_fixed_weights(self, stored: list[Tensor]) -> Tensor:
        """The same P(H) as Eq. 8 has it, S F + F formed: for an exported file, whose batch is free.

        A graph has no loop over its samples, and weights that are the same for every picture are laid out once.

        Parameters
        ----------
        stored : N tensors (B, C, H, W)
            F of Eq. 3.

        Returns
        -------
        Tensor (B, C, H, W)
            As `forward`.
        """
        rows = torch.stack([features.flatten(1) for features in stored], dim=1)  # (B, N, C H W)
        mixing = self._softmax_of(rows @ rows.mT) + torch.eye(self.n_stored, dtype=rows.dtype)
        mixed = (mixing @ rows).reshape(-1, self.n_stored * self.n_features, *stored[0].shape[2:])
        projected: Tensor = self.projection(mixed)
        return projected

    def affinity(self, stored: list[Tensor]) -> Tensor:
        """S of Eq. 7, of every sample.

        Accumulated in float32 at least: at this length bfloat16 errs by thousands.

        Parameters
        ----------
        stored : N tensors (B, C, H, W)
            F of Eq. 3.

        Returns
        -------
        Tensor (B, N, N)
            Each row sums to one.
        """
        return self._softmax_of(products_of(stored))

    def _softmax_of(self, products: Tensor) -> Tensor:
        """S of the products (B, N, N) of all features with each other."""
        if self.similarity == "cosine":
            norms_squared = products.diagonal(dim1=1, dim2=2)  # (B, N)
            inverse = norms_squared.clamp_min(MIN_NORM_SQUARED).rsqrt()
            products = products * (inverse[:, :, None] * inverse[:, None])
            if self.temperature is not None:
                products = products * self.temperature
        return products.softmax(dim=2)

    def _mixed_weights(self, affinity: Tensor) -> Tensor:
        """P' of the module's docstring, (B, C, N C, 3, 3)."""
        weight = self.projection.weight
        mixing = affinity.to(weight.dtype) + torch.eye(
            self.n_stored, dtype=weight.dtype, device=weight.device
        )
        per_stored = weight.reshape(self.n_features, self.n_stored, self.n_features, 3, 3)
        return torch.einsum("bij,oichw->bojchw", mixing, per_stored).flatten(2, 3)
