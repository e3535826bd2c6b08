"""The mean of the pictures that a model makes of one slice as it is, mirrored and transposed, each laid back.

A network knows of left and right what its training happened to teach it. What its picture owes to that is less in the
mean over poses: a self-ensemble, at so many times the time for an image and with no weight more.

References
----------
Timofte, Rothe, Van Gool: "Seven Ways to Improve Example-Based Single Image Super Resolution", CVPR 2016.
Lim et al.: "Enhanced Deep Residual Networks for Single Image Super-Resolution" (EDSR+), CVPR Workshops 2017.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

Run = Callable[[Tensor, Tensor, Tensor], Tensor]
"""A model's picture (B, 1, H, W) of a low-resolution target, its reference and its interpolation."""

ROWS, COLUMNS = 2, 3

MARGIN = 2
"""Low-resolution samples that a frame is continued by before it is mirrored. The first sample of a mirrored frame is
its last one, and the samples of the high resolution behind it would fall off; two, since frames have even sides."""


@dataclass(frozen=True)
class Pose:
    """How a slice is shown to the model. axes: that are mirrored. transposed: afterwards."""

    axes: tuple[int, ...]
    transposed: bool = False

    def show(self, image: Tensor, *, step: int) -> Tensor:
        """An image in this pose.

        Parameters
        ----------
        image : Tensor (B, 1, H, W)
            Continued by its margin.
        step
            Samples that make one of the low resolution.

        Returns
        -------
        Tensor (B, 1, H, W) or (B, 1, W, H)
            Its first sample is again that of the first low-resolution one.
        """
        spare = step - 1
        for axis in self.axes:
            kept = image.flip(axis).narrow(axis, spare, image.shape[axis] - spare)
            image = functional.pad(kept, _behind(axis, spare), mode="replicate")
        return image.mT if self.transposed else image

    def lay_back(self, picture: Tensor, shape: tuple[int, int], *, step: int) -> Tensor:
        """A picture in this pose as the slice lies.

        Parameters
        ----------
        picture : Tensor (B, 1, H, W) or (B, 1, W, H)
            Of an image that `show` gave.
        shape
            (rows, columns) without the margin.
        step
            As `show` had it.

        Returns
        -------
        Tensor (B, 1, rows, columns)
            A view.
        """
        picture = picture.mT if self.transposed else picture
        for axis, n in zip((ROWS, COLUMNS), shape, strict=True):
            first = 0
            if axis in self.axes:
                picture, first = picture.flip(axis), step - 1
            picture = picture.narrow(axis, first, n)
        return picture


AS_IT_IS = Pose(())
POSES = (
    AS_IT_IS,
    Pose((ROWS, COLUMNS)),
    Pose((ROWS,)),
    Pose((COLUMNS,)),
    *(Pose(axes, transposed=True) for axes in ((), (ROWS, COLUMNS), (ROWS,), (COLUMNS,))),
)
"""The first two, four or all are taken: each of these sets is closed, so that the mean has its symmetry."""


def mean_over_poses(
    run: Run, low_res: Tensor, reference: Tensor, upsampled: Tensor, *, scale: int, n_poses: int
) -> Tensor:
    """The mean picture.

    Parameters
    ----------
    run
        The model.
    low_res : Tensor (B, 1, h, w)
        Normalised; even sides.
    reference, upsampled : Tensor (B, 1, scale h, scale w)
        Normalised.
    scale
        2 or 4; the first sample of either grid is the same place.
    n_poses
        1, 2, 4 or 8; 1: the model's own picture.

    Returns
    -------
    Tensor (B, 1, scale h, scale w)
        float32 where more than one pose is taken.

    Examples
    --------
    >>> import torch
    >>> from minet_core.evaluation.self_ensemble import mean_over_poses
    >>> low_res, image = torch.rand(1, 1, 6, 4), torch.rand(1, 1, 12, 8)
    >>> mean = mean_over_poses(lambda low, guide, upsampled: upsampled, low_res, image, image, scale=2, n_poses=8)
    >>> torch.allclose(mean, image)
    True
    """
    first = run(low_res, reference, upsampled)
    if n_poses == 1:
        return first
    rows, columns = upsampled.shape[ROWS:]
    low_res = functional.pad(low_res, (0, MARGIN, 0, MARGIN), mode="replicate")
    reference, upsampled = (
        functional.pad(image, (0, scale * MARGIN, 0, scale * MARGIN), mode="replicate")
        for image in (reference, upsampled)
    )
    total = first.float()
    for pose in POSES[1:n_poses]:
        shown = (
            pose.show(image, step=step)
            for image, step in ((low_res, 1), (reference, scale), (upsampled, scale))
        )
        total = total + pose.lay_back(run(*shown).float(), (rows, columns), step=scale)
    return total / n_poses


def _behind(axis: int, n: int) -> tuple[int, int, int, int]:
    """For `pad`: so many samples behind the last row or column."""
    return (0, 0, 0, n) if axis == ROWS else (0, n, 0, 0)
