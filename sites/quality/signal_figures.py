"""How good a scan's signal is: noise, ghosts, saturation, anatomy that is cut off, and motion between its slices.

Each figure has a limit in site.yaml and a code. As they come, the limits refuse what is surely bad: whoever wants more
sets them. A figure that a scan does not allow (its air was set to zero, its anatomy fills the picture) is none, and
refuses nothing.

    (S, H, W): slice, row, column
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from minet_core.errors import (
    AnatomyCutOff,
    FedminetError,
    ImageGhosted,
    ImageSaturated,
    MotionBetweenSlices,
    SignalTooWeak,
)
from minet_core.imaging.block_means import block_means
from sites.quality.scan_quality import foreground
from sites.settings.site_settings import QualitySettings

Image = NDArray[np.float32]
Mask = NDArray[np.bool_]

RAYLEIGH_MEDIAN = 1.17741
"""Median of the magnitude of noise of standard deviation 1 in each channel: sqrt(2 ln 2)."""
MIN_AIR = 0.02
"""Share of a volume that must be air with noise in it, for noise to be measured."""
MARGIN = 4
"""Pixels between the anatomy and the air that is looked at: edges ring."""
BRIGHT_LEVEL = 0.6
"""Of the 95th percentile of the smoothed picture: what is brighter is anatomy, and neither noise nor a ghost."""
MIN_STRIP = 4
"""Pixels across a strip of air."""
MIN_SLICES = 6
SMOOTH_PX = 2.0
HALVED_FROM = 128
"""Pixels of the shorter edge: from here on anatomy is told from air at half the resolution, in a third of the time."""
MAX_AIR = 100_000
"""Pixels of air, evenly taken, whose median is the noise: it is known to half a percent."""
ANATOMY_SHARE = 0.1
"""Of the largest slice's foreground: a slice that shows anatomy."""


@dataclass(frozen=True)
class SignalFigures:
    """snr: mean of the anatomy over the noise in one channel. ghosting: difference of the air beside the anatomy along
    rows and along columns, over twice the anatomy (the American College of Radiology's percent signal ghosting).
    saturated: share of the anatomy within 0.1% of the maximum. cut_off: share of the picture's edge with anatomy on it.
    shift_px: how far every other slice lies from its neighbours.
    """

    snr: float | None
    ghosting: float | None
    saturated: float
    cut_off: float
    shift_px: float | None

    def rounded(self) -> dict[str, float | None]:
        """The figures as a cohort keeps them, by their names.

        Returns
        -------
        dict[str, float | None]
            Three digits behind the point, the signal-to-noise ratio one.
        """
        snr = None if self.snr is None else round(self.snr, 1)
        others = {name: getattr(self, name) for name in ("ghosting", "saturated", "cut_off", "shift_px")}
        return {"snr": snr, **{name: None if one is None else round(one, 3) for name, one in others.items()}}


def signal_figures(magnitude: Image) -> SignalFigures:
    """Measure one scan.

    Parameters
    ----------
    magnitude
        (S, H, W), not constant.

    Returns
    -------
    SignalFigures
        What the scan does not allow to be measured is None.

    References
    ----------
    NEMA MS 1 (signal-to-noise ratio of magnitude images); American College of Radiology, Phantom Test Guidance for the
    ACR MRI Accreditation Program (percent signal ghosting).
    """
    shown = np.count_nonzero(foreground(magnitude), axis=(1, 2))
    chosen = shown >= max(ANATOMY_SHARE * float(shown.max()), 1)
    image = magnitude[chosen]
    factor = 2 if min(image.shape[1:]) >= HALVED_FROM else 1
    halved = block_means(image, (1, factor, factor))
    # The mean of pixels has smoothed by itself.
    sigma = float(np.sqrt(SMOOTH_PX**2 - (factor**2 - 1) / 12)) / factor
    smooth = ndimage.gaussian_filter(halved, (0, sigma, sigma))
    mask = np.asarray(smooth > BRIGHT_LEVEL * np.percentile(smooth.max(axis=0), 95))
    if not mask.any():
        return SignalFigures(None, None, 0.0, 0.0, None)
    near = ndimage.binary_dilation(ndimage.binary_fill_holes(mask.any(axis=0)), iterations=MARGIN // factor)
    near = _refined(near, factor, shape=image.shape[1:])
    level = float(halved[mask].mean())
    edge = np.concatenate([mask[:, 0], mask[:, -1], mask[:, :, 0], mask[:, :, -1]], axis=1)
    shift = _shift(smooth, mask)
    return SignalFigures(
        snr=_snr(image, near, level=level),
        ghosting=_ghosting(image, near, level=level),
        saturated=_saturated(image, mask, factor, top=float(magnitude.max())),
        cut_off=float(edge.mean()),
        shift_px=None if shift is None else shift * factor,
    )


def _saturated(image: Image, mask: Mask, factor: int, *, top: float) -> float:
    """The share of the mask's pixels within 0.1% of the top; they are few, and are looked up one by one."""
    index, row, column = np.unravel_index(np.flatnonzero(image >= 0.999 * top), image.shape)
    whole = (row < mask.shape[1] * factor) & (column < mask.shape[2] * factor)
    inside = mask[index[whole], row[whole] // factor, column[whole] // factor]
    return float(np.count_nonzero(inside)) / (factor**2 * np.count_nonzero(mask))


def _refined(mask: Mask, factor: int, *, shape: tuple[int, ...]) -> Mask:
    """A mask of blocks of pixels as one of pixels; what fills no block at an end is as the last block is."""
    pixels = mask.repeat(factor, axis=0).repeat(factor, axis=1)
    missing = [(0, edge - had) for edge, had in zip(shape, pixels.shape, strict=True)]
    return np.pad(pixels, missing, mode="edge")


def require_signal(figures: SignalFigures, limits: QualitySettings, *, role: str) -> None:
    """Refuse a scan by its figures.

    Parameters
    ----------
    figures
        Of the scan.
    limits
        The site's; a limit that is null refuses nothing.
    role
        "target" or "reference", for the message.

    Raises
    ------
    SignalTooWeak, ImageGhosted, ImageSaturated, AnatomyCutOff, MotionBetweenSlices
        FM-D215 to FM-D219, with the figure and the limit.
    """
    if figures.snr is not None and limits.min_snr is not None and figures.snr < limits.min_snr:
        raise SignalTooWeak(
            f"the {role} is mostly noise",
            got=f"a signal-to-noise ratio of {figures.snr:.1f}",
            expected=f"at least {limits.min_snr:g}",
            action="Leave the scan out, or lower quality.min_snr in site.yaml",
        )
    kinds: tuple[tuple[type[FedminetError], str, float | None, float | None, str], ...] = (
        (ImageGhosted, "has ghosts", figures.ghosting, limits.max_ghosting, "max_ghosting"),
        (ImageSaturated, "is saturated", figures.saturated, limits.max_saturated, "max_saturated"),
        (AnatomyCutOff, "cuts its anatomy off", figures.cut_off, limits.max_cut_off, "max_cut_off"),
        (
            MotionBetweenSlices,
            "moved between its slices",
            figures.shift_px,
            limits.max_shift_px,
            "max_shift_px",
        ),
    )
    for kind, what, figure, limit, name in kinds:
        if figure is not None and limit is not None and figure > limit:
            raise kind(
                f"the {role} {what}",
                got=f"{figure:.3g} ({_MEANING[name]})",
                expected=f"at most {limit:g}",
                action=f"Leave the scan out, or raise quality.{name} in site.yaml",
            )


_MEANING = {
    "max_ghosting": "air beside the anatomy, over twice the anatomy",
    "max_saturated": "share of the anatomy at the maximum",
    "max_cut_off": "share of the picture's edge with anatomy on it",
    "max_shift_px": "pixels between every other slice and its neighbours",
}


def _snr(image: Image, near: Mask, *, level: float) -> float | None:
    pixels = np.flatnonzero(~near)
    step = max(1, len(pixels) * len(image) // MAX_AIR)
    air = image.reshape(len(image), -1)[:, pixels[::step]]
    noisy = air[air > 0]
    if noisy.size * step < MIN_AIR * image.size or noisy.size < air.size / 2:
        return None
    sigma = float(np.median(noisy)) / RAYLEIGH_MEDIAN
    return level / sigma if sigma > 0 else None


def _ghosting(image: Image, near: Mask, *, level: float) -> float | None:
    """Ghosts lie along the phase encoding alone, noise everywhere: the difference of the two directions is theirs."""
    rows, columns = np.flatnonzero(near.any(axis=1)), np.flatnonzero(near.any(axis=0))
    if not rows.size or not level:
        return None
    down, across = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    strips = (
        (image[:, : rows[0], across], image[:, rows[-1] + 1 :, across]),
        (image[:, down, : columns[0]], image[:, down, columns[-1] + 1 :]),
    )
    means = []
    for axis, pair in zip((1, 2), strips, strict=True):
        parts = [one for one in pair if one.shape[axis] >= MIN_STRIP]
        if not parts:
            return None
        means.append(float(np.mean([part.mean() for part in parts])))
    return abs(means[0] - means[1]) / (2 * level)


def _shift(smooth: Image, mask: Mask) -> float | None:
    """Of interleaved slices the one half moves against the other. One linear step from the mean of both neighbours,
    which is right for shifts up to about `SMOOTH_PX`, and too small beyond. In pixels of `smooth`.
    """
    if len(smooth) < MIN_SLICES:
        return None
    steps = []
    for index in range(1, len(smooth) - 1):
        between = (smooth[index - 1] + smooth[index + 1]) / 2
        inside = mask[index]
        slopes = np.stack([slope[inside] for slope in np.gradient(between)]).astype(np.float64)
        wanted = slopes @ (between - smooth[index])[inside].astype(np.float64)
        steps.append(np.linalg.lstsq(slopes @ slopes.T, wanted, rcond=None)[0] * (-1) ** index)
    return float(np.linalg.norm(np.median(steps, axis=0)))
