"""MINet as the paper prints it: equation by equation, S F materialised, F_Att as a Conv3d, loops over the rest.

Slow on purpose. It takes the parameters of a `MINet` by name and computes in their dtype, so float64 weights
make it the oracle of every fast form, and float32 weights the plain reference of the benchmark.

B batch, L stages, C channel, H row, W column.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

Weights = Mapping[str, Tensor]


def conv(weights: Weights, name: str, x: Tensor) -> Tensor:
    """A convolution that keeps the size, with the weights and bias under `name`."""
    kernel = weights[f"{name}.weight"]
    return functional.conv2d(x, kernel, weights[f"{name}.bias"], padding=kernel.shape[-1] // 2)


def channel_attention(weights: Weights, name: str, x: Tensor) -> Tensor:
    """RCAN, Eq. 10: the mean of each channel through two 1 x 1 convolutions."""
    pooled = functional.adaptive_avg_pool2d(x, 1)  # (B, C, 1, 1)
    for layer in ("down", "up"):
        kernel = weights[f"{name}.{layer}.weight"][:, :, None, None]
        pooled = functional.conv2d(pooled, kernel, weights[f"{name}.{layer}.bias"])
        pooled = pooled.relu() if layer == "down" else pooled.sigmoid()
    return x * pooled


def residual_group(weights: Weights, name: str, x: Tensor) -> Tensor:
    """RCAN, Eq. 5 and 11."""
    y = x
    for block in range(_count(weights, f"{name}.blocks.")):
        z = conv(weights, f"{name}.blocks.{block}.first", y).relu()
        z = conv(weights, f"{name}.blocks.{block}.second", z)
        y = y + channel_attention(weights, f"{name}.blocks.{block}.attention", z)
    return x + conv(weights, f"{name}.last", y)


def pixel_shuffle(x: Tensor) -> Tensor:
    """(B, 4C, h, w) -> (B, C, 2h, 2w): channel 4c + 2i + j goes to row 2y + i, column 2x + j."""
    B, four_C, h, w = x.shape
    out = x.new_zeros(B, four_C // 4, 2 * h, 2 * w)
    for i in range(2):
        for j in range(2):
            out[:, :, i::2, j::2] = x[:, 2 * i + j :: 4]
    return out


def heads(weights: Weights, low_res: Tensor, scale: int) -> Tensor:
    """F_T2^0: a convolution and log2(scale) sub-pixel convolutions (Section 2.1)."""
    x = conv(weights, "target_head.0", low_res)
    for step in range(int(math.log2(scale))):
        x = pixel_shuffle(conv(weights, f"target_head.{1 + 2 * step}", x))
    return x


def multi_stage_features(
    weights: Weights, reference: Tensor | None, target: Tensor
) -> tuple[list[Tensor], list[Tensor]]:
    """Eq. 1 and 2: F_T1^1 ... F_T1^L (empty without the reference) and F_T2^1 ... F_T2^L."""
    stages_1, stages_2 = [], []
    for stage in range(_count(weights, "target_branch.")):
        if reference is None:
            target = residual_group(weights, f"target_branch.{stage}", target)
        else:
            joined = conv(weights, f"fusions.{stage}", torch.cat([reference, target], dim=1))
            reference = residual_group(weights, f"reference_branch.{stage}", reference)
            target = residual_group(weights, f"target_branch.{stage}", joined)
            stages_1.append(reference)
        stages_2.append(target)
    return stages_1, stages_2


def channel_spatial_attention(weights: Weights, name: str, x: Tensor) -> Tensor:
    """Eq. 4 with the paper's three-dimensional convolution."""
    kernel = weights[f"{name}.kernel"][None, None]  # (1, 1, 3, 3, 3)
    attention = functional.conv3d(x[:, None], kernel, weights[f"{name}.bias"], padding=1)[:, 0]
    return attention.sigmoid() * x + x


def affinity(stored: list[Tensor], temperature: Tensor | None) -> Tensor:
    """Eq. 7, (B, 2L, 2L): the dot product of each pair, softmax by rows; cosines if there is a temperature."""
    n_samples, n_stored = len(stored[0]), len(stored)
    samples = []
    for b in range(n_samples):
        rows = []
        for i in range(n_stored):
            scores = []
            for j in range(n_stored):
                score = (stored[i][b] * stored[j][b]).sum()
                if temperature is not None:
                    score = temperature[0] * score / (stored[i][b].norm() * stored[j][b].norm())
                scores.append(score)
            row = torch.stack(scores)
            exponentials = (row - row.max().detach()).exp()
            rows.append(exponentials / exponentials.sum())
        samples.append(torch.stack(rows))
    return torch.stack(samples)


def integrate(stored: list[Tensor], s: Tensor) -> Tensor:
    """Eq. 8: H = R F + F, (B, 2L C, H, W), with R F materialised from S F."""
    enhanced = []
    for i in range(len(stored)):
        summary = torch.zeros_like(stored[i])
        for j in range(len(stored)):
            summary = summary + s[:, i, j, None, None, None] * stored[j]
        enhanced.append(summary + stored[i])
    return torch.cat(enhanced, dim=1)


def minet(
    weights: Weights,
    low_res: Tensor,
    reference: Tensor | None,
    upsampled: Tensor | None,
    *,
    scale: int,
) -> tuple[Tensor, Tensor | None]:
    """Eq. 1 to 5. What the weights have no name for is left out; `upsampled` is added if it is given."""
    has_reference = "reference_head.weight" in weights
    target_0 = heads(weights, low_res, scale)
    reference_0 = conv(weights, "reference_head", reference) if has_reference else None
    stages_1, stages_2 = multi_stage_features(weights, reference_0, target_0)

    enriched = target_0 + _attended(weights, "target_attention", stages_2[-1])
    if "integration.projection.weight" in weights:
        stored = [f for pair in zip(stages_1, stages_2, strict=True) for f in pair] if stages_1 else stages_2
        h = integrate(stored, affinity(stored, weights.get("integration.temperature")))
        enriched = enriched + conv(weights, "integration.projection", h)
    x_2 = conv(weights, "target_reconstruction", enriched)
    if upsampled is not None:
        x_2 = x_2 + upsampled
    if not has_reference:
        return x_2, None
    g_1 = _attended(weights, "reference_attention", stages_1[-1])
    return x_2, conv(weights, "reference_reconstruction", g_1)


def loss(images: list[tuple[Tensor, Tensor]], truths: list[tuple[Tensor, Tensor]], alpha: float, beta: float):
    """Eq. 6 over N pairs (target, reference), the L1 norm taken per pixel."""
    total = 0.0
    for (x_2, x_1), (truth_2, truth_1) in zip(images, truths, strict=True):
        total = total + alpha * (x_2 - truth_2).abs().sum() / truth_2.numel()
        total = total + beta * (x_1 - truth_1).abs().sum() / truth_1.numel()
    return total / len(images)


def _attended(weights: Weights, name: str, x: Tensor) -> Tensor:
    return channel_spatial_attention(weights, name, x) if f"{name}.kernel" in weights else x


def _count(weights: Weights, prefix: str) -> int:
    return len({name[len(prefix) :].split(".")[0] for name in weights if name.startswith(prefix)})
