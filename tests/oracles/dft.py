"""The centred orthonormal discrete Fourier transform as its defining sum, float64, one matrix an axis."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def dft_matrix(n_samples: int) -> NDArray[np.complex128]:
    """W[u, n] = N^(-1/2) exp(-2 pi i (u - N//2) (n - N//2) / N)."""
    matrix = np.empty((n_samples, n_samples), dtype=np.complex128)
    for u in range(n_samples):
        for n in range(n_samples):
            angle = -2 * np.pi * (u - n_samples // 2) * (n - n_samples // 2) / n_samples
            matrix[u, n] = complex(np.cos(angle), np.sin(angle)) / np.sqrt(n_samples)
    return matrix


def dft2(image: NDArray[np.complex128]) -> NDArray[np.complex128]:
    """(H, W) -> (H, W), the sum along rows and columns."""
    kspace: NDArray[np.complex128] = dft_matrix(image.shape[0]) @ image @ dft_matrix(image.shape[1]).T
    return kspace


def degrade(image: NDArray[np.complex128], scale: int) -> NDArray[np.float64]:
    """Keep the lines |u| <= N / (2 scale) (the positive end left out), transform back, keep the amplitude."""
    H, W = image.shape
    h, w = H // scale, W // scale
    kspace = dft2(image)
    central = np.empty((h, w), dtype=np.complex128)
    for u in range(h):
        for v in range(w):
            central[u, v] = kspace[u - h // 2 + H // 2, v - w // 2 + W // 2]
    return np.abs(dft_matrix(h).conj().T @ central @ dft_matrix(w).conj()) / scale
