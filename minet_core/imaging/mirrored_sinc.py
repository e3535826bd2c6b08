"""Zero-filled sinc for a picture that ends: mirrored about its outermost samples instead of taken for periodic.

`minet_core.imaging.interpolation.sinc` takes a slice for one period, as k-space does: behind the last sample it
interpolates to the first one, the tissue of the opposite edge. Here the slice is continued by its mirror image, so
that it goes on smoothly on both sides; between the samples both agree up to the ringing of a step at the edge.

h, w low-resolution row and column.
"""

from __future__ import annotations

import torch
from torch import Tensor

from minet_core.imaging.interpolation import sinc


def mirrored_sinc(low_res: Tensor, scale: int) -> Tensor:
    """Zero-filled sinc of a slice continued by its mirror image, from scale - 1 samples before the first sample.

    Parameters
    ----------
    low_res : Tensor (h, w)
        Real.
    scale
        Factor along both axes.

    Returns
    -------
    Tensor (scale * h + scale - 1, scale * w + scale - 1)
        Real and never negative, as a magnitude. Sample scale * n + scale - 1 is low-resolution sample n.

    Raises
    ------
    ScanInvalid
        For a complex image.
    """
    h, w = low_res.shape
    return on_frame(sinc(mirror(low_res), scale, non_negative=True), (h, w), scale)


def mirror(image: Tensor) -> Tensor:
    """One period of a slice that is continued by its mirror image about its outermost samples.

    Parameters
    ----------
    image : Tensor (H, W)
        Real.

    Returns
    -------
    Tensor (2 * (H - 1), 2 * (W - 1))
        The slice and its way back, the outermost samples once; an axis of one sample stays.
    """
    H, W = image.shape
    return image[_there_and_back(H)][:, _there_and_back(W)]


def on_frame(period: Tensor, size: tuple[int, int], scale: int) -> Tensor:
    """From a mirrored period at high resolution, the frame from scale - 1 samples before the first sample.

    Parameters
    ----------
    period : Tensor (scale * 2 * (h - 1), scale * 2 * (w - 1))
        Real, as `mirror` continues it.
    size : (h, w)
        Of the low-resolution slice.
    scale
        Factor along both axes.

    Returns
    -------
    Tensor (scale * h + scale - 1, scale * w + scale - 1)
        Sample scale * n + scale - 1 is low-resolution sample n.
    """
    rows, columns = (torch.arange(1 - scale, scale * n) % (scale * max(2 * (n - 1), 1)) for n in size)
    return period[rows][:, columns]


def _there_and_back(n: int) -> Tensor:
    """0, 1, ..., n - 1, n - 2, ..., 1: one period of the line mirrored about its ends."""
    return torch.cat([torch.arange(n), torch.arange(n - 2, 0, -1)])
