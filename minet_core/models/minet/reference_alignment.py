"""The reference laid onto the target before MINet sees it: a shift and a turn of each sample, found from contours.

A switch of its own (`align_reference`), no part of the paper. MINet's equations stay; what they call the reference is
the aligned one.

How it is found. Learnt filters, one pair for each contrast, begin as the derivatives of a Gaussian. Their response at
twice its angle does not know which side of a border is brighter, so contours of two contrasts can be laid onto each
other: damped least squares over shift and turn (Lucas and Kanade 1981), coarse and then fine. Over the whole sample,
not by place: the contours of two contrasts lie a fraction of a pixel beside each other, one way here and another way
there. Windows find a right reference 0.2 to 0.4 px off, a whole slice 0.02 to 0.04 (docs/results/alignment.md).

How much is believed. The gain in least squares is the evidence that the reference has moved; below a learnt doubt it
stays where it is. A patch has little evidence and moves only where it lies off by a pixel; a slice has much.

How it is moved. By three shears (Paeth 1986), each a shift of every row or column of its own by windowed sinc: a
sharper kernel than cubic interpolation, whose loss is what a reference half a pixel off costs.

Shapes: B batch, H, W row and column of the high-resolution image, C two components of a contour map.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from minet_core.models.activation_checkpointing import ActivationCheckpointed

SIGMA = 0.5
"""Deviation of the filters' Gaussian at the start, over the scale: in low-resolution pixels."""
COARSE = 1.0
"""Deviation of the further smoothing of the coarse steps, over the scale."""
STEPS = (True, True, False, False)
"""Whether each step of least squares is a coarse one."""
FILTER_STEP = 0.05
"""Factor on the filters' learnt part: Adam moves every weight by its rate, and these are good where they begin."""
EVIDENCE = 0.05
"""Weight of a contour's pixel at the start: with it 0.3 px, what a patch of 40 px errs by, is one deviation."""
DOUBT = 4.0
"""Evidence that a move has to outweigh at the start."""
PRIOR_SHIFT_PX, PRIOR_TURN = 2.0, 0.02
"""Deviations of the shift and of the turn (radians) that are expected without evidence."""
MAX_MOVE_PX = 6.0
"""What a shear moves at most along an axis, at the frame's corner."""
HALF_TAPS = 4
"""Samples on either side that the windowed sinc takes in."""
MARGIN_PX = 2
"""Left out along the edges beside the filters' reach: what was moved in from beyond them."""
RADIUS_PX = 64.0
"""Where a turn is counted in pixels, so that the three unknowns are of one size; the result does not depend on it."""
MIN_STEEPNESS = 0.05
"""Of unrelated contours, whose multiple is none: it would send the reference away."""
SMALL = 1e-6


class ReferenceAlignment(ActivationCheckpointed):
    """The reference where the target's contours say that it belongs.

    Parameters
    ----------
    scale
        2 or 4: the contours are those of the low resolution.

    References
    ----------
    Lucas and Kanade: "An iterative image registration technique", IJCAI 1981. Paeth: "A fast algorithm for general
    raster rotation", Graphics Interface 1986.
    """

    derivatives: Tensor

    def __init__(self, *, scale: int) -> None:
        super().__init__()
        self.scale = scale
        self.register_buffer("derivatives", _derivatives(SIGMA * scale), persistent=False)  # (2, 1, k, k)
        self.target_contours = nn.Parameter(torch.zeros_like(self.derivatives))
        self.reference_contours = nn.Parameter(torch.zeros_like(self.derivatives))
        self.evidence = nn.Parameter(torch.zeros(1))  # logarithm of the factor on EVIDENCE
        self.doubt = nn.Parameter(torch.full((1,), DOUBT))

    def forward(self, upsampled: Tensor, reference: Tensor) -> Tensor:
        """The aligned reference.

        Parameters
        ----------
        upsampled : Tensor (B, 1, H, W)
            The interpolated target.
        reference : Tensor (B, 1, H, W)
            Normalised.

        Returns
        -------
        Tensor (B, 1, H, W)
            float32 at least, whatever autocast says: a place of the frame is no number for bfloat16.
        """
        with torch.autocast(reference.device.type, enabled=False):
            wide = torch.promote_types(self.doubt.dtype, torch.float32)
            image = reference.to(wide)
            return moved(image, self.motion(upsampled.to(wide), image))

    def motion(self, upsampled: Tensor, reference: Tensor) -> Tensor:
        """Where in the reference the target's places are: a shift and a turn about the frame's centre.

        Parameters
        ----------
        upsampled, reference : Tensor (B, 1, H, W)
            As `forward` takes them, in float32 at least.

        Returns
        -------
        Tensor (B, 3)
            Along rows and columns, px, and from the rows' axis towards the columns', radians.
        """
        still = self._contours(upsampled, self.target_contours)
        guide = self._contours(reference, self.reference_contours)
        coarse = (_smoothed(still, COARSE * self.scale), _smoothed(guide, COARSE * self.scale))
        deviation = still.new_tensor([PRIOR_SHIFT_PX, PRIOR_SHIFT_PX, PRIOR_TURN * RADIUS_PX])
        weight = EVIDENCE * self.evidence.exp()
        units = still.new_zeros(still.shape[0], 3)  # px, px, and the turn in px at RADIUS_PX
        gain = still.new_zeros(still.shape[0])
        for is_coarse in STEPS:
            maps = coarse if is_coarse else (still, guide)
            normal, right = self._least_squares(*maps, units)
            damping = deviation.pow(-2)
            step = _solved(weight * normal + torch.diag(damping), weight * right - damping * units)
            units = units + step
            gain = weight * (units[:, None] @ normal @ units[:, :, None])[:, 0, 0] / 2
        believed = torch.sigmoid(gain - self.doubt)
        return _held(believed[:, None] * _motion(units), upsampled)

    def _contours(self, image: Tensor, learnt: Tensor) -> Tensor:
        """The filters' response at twice its angle and of its length; of a mean square of 1."""
        reach = self.derivatives.shape[2] // 2
        padded = functional.pad(image, (reach, reach, reach, reach), mode="replicate")
        row, column = functional.conv2d(padded, self.derivatives + FILTER_STEP * learnt).chunk(2, dim=1)
        length = (row * row + column * column + SMALL).sqrt()
        both = torch.cat([(row * row - column * column) / length, 2 * row * column / length], dim=1)
        return both / (both.square().sum(dim=1, keepdim=True).mean(dim=(2, 3), keepdim=True) + SMALL).sqrt()

    def _least_squares(self, still: Tensor, guide: Tensor, units: Tensor) -> tuple[Tensor, Tensor]:
        """Normal matrix (B, 3, 3) and right side (B, 3) of the next step, over all but the edges."""
        there = _sampled(guide, _motion(units))
        rows, columns = _places(still)
        edge = self.derivatives.shape[2] // 2 + MARGIN_PX
        inner = (rows.abs() <= rows[-1] - edge)[:, None] & (columns.abs() <= columns[-1] - edge)
        # The contrasts' borders are not equally steep: the target's are a multiple of the reference's.
        steepness = (inner * still * there).sum(dim=(1, 2, 3)) / (
            (inner * there.square()).sum(dim=(1, 2, 3)) + SMALL
        )
        left = still / steepness.clamp_min(MIN_STEEPNESS)[:, None, None, None] - there
        around = functional.pad(there, (1, 1, 1, 1), mode="replicate")
        by_row = inner * (around[:, :, 2:, 1:-1] - around[:, :, :-2, 1:-1]) / 2
        by_column = inner * (around[:, :, 1:-1, 2:] - around[:, :, 1:-1, :-2]) / 2
        by_turn = by_column * (rows[:, None] / RADIUS_PX) - by_row * (columns / RADIUS_PX)
        slopes = torch.stack([by_row, by_column, by_turn], dim=1).flatten(2)  # (B, 3, C H W)
        return slopes @ slopes.mT, (slopes @ left.flatten(1)[:, :, None])[:, :, 0]


def moved(image: Tensor, motion: Tensor) -> Tensor:
    """An image of what lies at other places: at each place the sample at a shift and a turn about the centre from it.

    Parameters
    ----------
    image : Tensor (B, 1, H, W)
        Real; beyond its edges it is its outermost sample.
    motion : Tensor (B, 3)
        Shift along rows and columns, px, and the turn from the rows' axis towards the columns', radians.

    Returns
    -------
    Tensor (B, 1, H, W)
        By windowed sinc, along the columns' axis, the rows' and the columns' again.
    """
    rows, columns = _places(image)
    row, column, turn = (part[:, None] for part in motion.unbind(dim=1))  # (B, 1) each
    half, sine = torch.tan(turn / 2), torch.sin(turn)
    last = column - half * row  # so that the turned place is moved by the shift, and the shift is not turned
    image = _sheared(image, half * rows)
    image = _sheared(image.mT, row + sine * (last - columns)).mT
    return _sheared(image, half * rows + last)


def _sheared(image: Tensor, shift: Tensor) -> Tensor:
    """Each row read `shift` (B, H) px further along its columns, by a windowed sinc of 2 `HALF_TAPS` samples."""
    reach = math.ceil(MAX_MOVE_PX) + HALF_TAPS
    W = image.shape[3]
    padded = functional.pad(image, (reach, reach, 0, 0), mode="replicate")
    out = torch.zeros_like(image)
    for offset in range(-reach, reach + 1):
        away = offset - shift
        inside = (away / HALF_TAPS).clamp(-1, 1)
        tap = torch.sinc(away) * torch.cos(inside * (math.pi / 2)).square()
        out = out + tap[:, None, :, None] * padded[:, :, :, reach + offset : reach + offset + W]
    return out


def _sampled(maps: Tensor, motion: Tensor) -> Tensor:
    """Contour maps at the places that a motion gives: linear between samples, which suits smooth maps."""
    rows, columns = _places(maps)
    row, column, turn = (part[:, None, None] for part in motion.unbind(dim=1))
    there_row = torch.cos(turn) * rows[:, None] - torch.sin(turn) * columns + row
    there_column = torch.sin(turn) * rows[:, None] + torch.cos(turn) * columns + column
    edges = (columns[-1].clamp_min(0.5), rows[-1].clamp_min(0.5))  # of one sample's axis there is none
    places = torch.stack([there_column / edges[0], there_row / edges[1]], dim=3)
    return functional.grid_sample(maps, places, padding_mode="border", align_corners=True)


def _places(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Rows (H), columns (W), px from the frame's centre; of no number made of the sizes, for an export would fix it."""
    rows, columns = (torch.arange(n, device=maps.device, dtype=maps.dtype) for n in maps.shape[2:])
    return rows - rows[-1] / 2, columns - columns[-1] / 2


def _motion(units: Tensor) -> Tensor:
    """(B, 3) with the turn in radians, from one in px at RADIUS_PX."""
    return units / units.new_tensor([1.0, 1.0, RADIUS_PX])


def _held(motion: Tensor, image: Tensor) -> Tensor:
    """No further than the shears reach: less of a motion that would take an edge's middle beyond."""
    rows, columns = _places(image)
    half = torch.maximum(rows[-1], columns[-1])
    reach = motion[:, :2].abs().amax(dim=1) + 1.1 * half * motion[:, 2].abs()
    return motion * (MAX_MOVE_PX / reach.clamp_min(MAX_MOVE_PX))[:, None]


def _solved(matrix: Tensor, right: Tensor) -> Tensor:
    """Of symmetric positive systems (B, 3, 3), (B, 3), by cofactors: no graph for export has a solver."""
    one, two, three = matrix.unbind(dim=2)
    cofactors = torch.stack(
        [torch.linalg.cross(two, three), torch.linalg.cross(three, one), torch.linalg.cross(one, two)], dim=1
    )
    determinant = (one * cofactors[:, 0]).sum(dim=1)
    return (cofactors @ right[:, :, None])[:, :, 0] / determinant[:, None]


def _smoothed(maps: Tensor, sigma: float) -> Tensor:
    taps = maps.new_tensor(_gaussian(sigma)[0])
    reach, n_maps = len(taps) // 2, maps.shape[1]
    padded = functional.pad(maps, (reach, reach, reach, reach), mode="replicate")
    down = functional.conv2d(padded, taps.view(1, 1, -1, 1).repeat(n_maps, 1, 1, 1), groups=n_maps)
    return functional.conv2d(down, taps.view(1, 1, 1, -1).repeat(n_maps, 1, 1, 1), groups=n_maps)


def _derivatives(sigma: float) -> Tensor:
    """Filters (2, 1, k, k) for the slopes along rows and columns of an image smoothed by a Gaussian."""
    smooth, slope = _gaussian(sigma)
    by_row = [[along * across for across in smooth] for along in slope]
    by_column = [[along * across for across in slope] for along in smooth]
    return torch.tensor([[by_row], [by_column]])


def _gaussian(sigma: float) -> tuple[list[float], list[float]]:
    """A Gaussian to three deviations, and its slope as correlation takes it."""
    reach = round(3 * sigma)
    bell = [math.exp(-(place**2) / (2 * sigma**2)) for place in range(-reach, reach + 1)]
    smooth = [height / sum(bell) for height in bell]
    return smooth, [
        place / sigma**2 * height for place, height in zip(range(-reach, reach + 1), smooth, strict=True)
    ]
