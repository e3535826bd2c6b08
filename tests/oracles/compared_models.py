"""The models that MINet is compared with, literally: one image, float64, loops over channels, without torch.

Arrays are (channel, row, column). `weights` is a model's state by name. Each function follows the text of the module of
the same name in `minet_core.models`, not its code.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.signal import correlate2d

Array = NDArray[np.float64]
Weights = Mapping[str, Array]


def conv(x: Array, weights: Weights, name: str) -> Array:
    """3 x 3, zeros beyond the frame."""
    kernel, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1)))
    return np.stack(
        [
            sum(correlate2d(padded[i], kernel[o, i], mode="valid") for i in range(len(x))) + bias[o]
            for o in range(len(kernel))
        ]
    )


def relu(x: Array) -> Array:
    return np.where(x > 0, x, 0.0)


def shuffle(x: Array) -> Array:
    """Sub-pixel: channel 4 c + 2 a + b goes to channel c, row 2 i + a, column 2 j + b."""
    n, h, w = len(x) // 4, *x.shape[1:]
    out = np.empty((n, 2 * h, 2 * w))
    for c in range(n):
        for a in range(2):
            for b in range(2):
                out[c, a::2, b::2] = x[4 * c + 2 * a + b]
    return out


def enlarged(x: Array, weights: Weights, name: str, *, scale: int, first: int = 0) -> Array:
    index = first
    while scale > 1:
        x = shuffle(conv(x, weights, f"{name}.{index}"))
        index, scale = index + 2, scale // 2
    return x


def body(x: Array, weights: Weights, name: str, *, n_blocks: int, residual_scale: float) -> Array:
    initial = conv(x, weights, f"{name}.first")
    features = initial
    for block in range(n_blocks):
        features = residual_block(features, weights, f"{name}.blocks.{block}", residual_scale=residual_scale)
    return initial + conv(features, weights, f"{name}.last")


def residual_block(x: Array, weights: Weights, name: str, *, residual_scale: float) -> Array:
    return x + residual_scale * conv(relu(conv(x, weights, f"{name}.first")), weights, f"{name}.second")


def edsr(
    weights: Weights, low: Array, up: Array, *, scale: int, n_blocks: int, residual_scale: float
) -> Array:
    features = body(low, weights, "body", n_blocks=n_blocks, residual_scale=residual_scale)
    return up + conv(enlarged(features, weights, "enlargement", scale=scale), weights, "reconstruction")


def smore(weights: Weights, up: Array, *, n_blocks: int, residual_scale: float, power: float) -> Array:
    def restored(image: Array) -> Array:
        for name in ("anti_aliasing", "super_resolution"):
            features = body(image, weights, f"{name}.body", n_blocks=n_blocks, residual_scale=residual_scale)
            image = image + conv(features, weights, f"{name}.reconstruction")
        return image

    straight = restored(up)[0]
    turned = np.rot90(restored(np.rot90(up[0])[None].copy())[0], -1)
    spectra = [np.fft.fft2(straight), np.fft.fft2(turned)]
    shares = [np.abs(spectrum) ** power for spectrum in spectra]
    merged = sum(s * u for s, u in zip(shares, spectra, strict=True)) / sum(shares)
    return np.fft.ifft2(merged).real[None]


def zeng(
    weights: Weights, low: Array, reference: Array, up: Array, *, scale: int, n_blocks: int
) -> tuple[Array, Array]:
    def layers(x: Array, name: str) -> tuple[Array, int]:
        index = 0
        for _ in range(n_blocks + 1):
            x, index = relu(conv(x, weights, f"{name}.{index}")), index + 2
        return x, index

    features, index = layers(low, "single")
    features = enlarged(features, weights, "single", scale=scale, first=index)
    last = index + 2 * (scale.bit_length() - 1)
    single = up + conv(features, weights, f"single.{last}")
    features, index = layers(np.concatenate([single, reference]), "multi")
    return single, single + conv(features, weights, f"multi.{index}")


def halved(x: Array) -> Array:
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1)), mode="edge")
    taps = np.outer([0.25, 0.5, 0.25], [0.25, 0.5, 0.25])
    return correlate2d(padded[0], taps, mode="valid")[::2, ::2][None]


def lyu(
    weights: Weights, low: Array, reference: Array, up: Array, *, scale: int, n_blocks: int
) -> list[Array]:
    guides, skips = [reference], [up]
    if scale == 4:
        guides, skips = [halved(reference), reference], [halved(up), up]
    images, image = [], low
    for level, (guide, skip) in enumerate(zip(guides, skips, strict=True)):
        name = f"levels.{level}"
        target = body(image, weights, f"{name}.target.0", n_blocks=n_blocks, residual_scale=1.0)
        target = enlarged(target, weights, f"{name}.target", scale=2, first=1)
        guided = body(guide, weights, f"{name}.reference", n_blocks=n_blocks, residual_scale=1.0)
        both = np.concatenate([target, guided])
        fused = body(both, weights, f"{name}.fusion", n_blocks=n_blocks, residual_scale=1.0)
        image = skip + conv(fused, weights, f"{name}.reconstruction")
        images.append(image)
    return images


def late_fusion(
    weights: Weights, low: Array, reference: Array | None, up: Array, *, scale: int, n_blocks: int
) -> Array:
    def chain(x: Array, name: str, indices: range) -> Array:
        for index in indices:
            x = residual_block(x, weights, f"{name}.{index}", residual_scale=1.0)
        return x

    features = chain(conv(low, weights, "target_chain.0"), "target_chain", range(1, 1 + n_blocks))
    features = enlarged(features, weights, "enlargement", scale=scale)
    if reference is not None:
        guided = chain(
            conv(reference, weights, "reference_chain.0"), "reference_chain", range(1, 1 + n_blocks)
        )
        kernel, bias = weights["fusion.weight"][:, :, 0, 0], weights["fusion.bias"]
        features = np.einsum("oi,ihw->ohw", kernel, np.concatenate([guided, features])) + bias[:, None, None]
    return up + conv(chain(features, "joint_chain", range(2 * n_blocks)), weights, "reconstruction")
