# mypy: disallow-untyped-calls=False
"""The motion between two scans: a search from several starts, refined by what blocks' displacements have in common.

Everything runs on one thread with fixed seeds: the same scans give the same bytes. `sites.registration.register` says
in which order this is asked, and what comes of it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk  # noqa: N813 (the name its own manual uses)
from numpy.typing import NDArray
from scipy import ndimage

from minet_core.errors import RegistrationRefused
from minet_core.imaging.volume import Volume
from sites.quality.scan_quality import foreground
from sites.registration.block_matching import Matches, axes_of, compare_blocks, match_blocks
from sites.registration.motion_fit import MIN_BLOCKS, error_of, fit_motion
from sites.registration.resampling import as_sitk
from sites.settings.site_settings import RegistrationSettings

Floats = NDArray[np.float64]

MATCHING_SPACING_MM = 1.5
SEARCH_SPACING_MM = 2.0
SMOOTHING_MM = 3.0
SAMPLES = 5_000
SEED = 11
HISTOGRAM_BINS = 40
BOX_MARGIN_MM = 10.0
N_POINTS = 2000
NEAR_MM = 1.5
NEAR_STEPS = 0.75
"""A block counts as found within the larger of 1.5 mm and three quarters of a search step."""
CLEAR = 1.5
"""A start that agrees by this multiple of the least agreement needs no other beside it."""
THIN_MM = 2.0
"""Of thicker slices a pair that is clear needs no look between the wide and the final one: 22 phantom pairs come as
near to their true motion without it. On a real brain of 1 mm it takes the error from 0.036 to 0.030 mm."""
MIN_STRETCH = 1e-6
"""Below it a motion counts as rigid: what is left by rounding."""
MIN_OVERLAP_MM = 20.0
"""Of the two heads' boxes along every axis: with less the scanner's coordinates are no start."""


@dataclass(frozen=True)
class Look:
    """reach_mm: along (slice, row, column). pixel_mm: about a pixel's width. max_blocks: drawn where there are more."""

    reach_mm: tuple[float, float, float]
    pixel_mm: float
    max_blocks: int
    measures_error: bool = False


WIDE_LOOK = Look((6.0, 4.5, 4.5), 2.0, 300)
CLOSE_LOOK = Look((3.0, 2.5, 2.5), MATCHING_SPACING_MM, 400)
FINAL_LOOK = Look((2.0, 2.0, 2.0), MATCHING_SPACING_MM, 1600, measures_error=True)


@dataclass(frozen=True)
class Motion:
    """x -> matrix x + shift_mm from points of the target to points of the reference, and how good it is."""

    matrix: Floats
    shift_mm: Floats
    agreement: float = 0.0
    error_mm: float = float("inf")

    def as_sitk(self) -> sitk.AffineTransform:
        """The same motion for SimpleITK.

        Returns
        -------
        sitk.AffineTransform
            From points of the target to points of the reference, world mm.
        """
        transform = sitk.AffineTransform(3)
        transform.SetMatrix(self.matrix.ravel().tolist())
        transform.SetTranslation(self.shift_mm.tolist())
        return transform

    def stretch(self) -> float:
        """Largest relative change of a length."""
        return float(np.abs(np.linalg.svd(self.matrix, compute_uv=False) - 1).max())


IDENTITY = Motion(np.eye(3), np.zeros(3))


def find_motion(
    fixed: sitk.Image, moving: sitk.Image, *, limits: RegistrationSettings, max_starts: int | None = None
) -> Motion:
    """The best motion of all starts, refined; its agreement says whether it is one.

    Parameters
    ----------
    fixed, moving
        Target and reference as `matching_image` makes them.
    limits
        `min_agreement` says when no other start is needed, `max_stretch` what the refinement may correct.
    max_starts
        No more starts, and one look alone at each; None: all of them.

    Returns
    -------
    Motion
        From points of `fixed` to points of `moving`. Where neither the scanner's coordinates nor a start agree anywhere
        it begins at the identity, and its agreement is low.
    """
    best = IDENTITY if max_starts is not None else _as_they_lie(fixed, moving, limits=limits)
    clear = CLEAR * limits.min_agreement
    starts = _starts(fixed, moving) if best.agreement < clear else ()
    for start in itertools.islice(starts, max_starts):
        try:
            searched = _search(fixed, moving, start=start)
        except RuntimeError:  # the images drifted apart: another start may hold them together
            continue
        found = refined(fixed, moving, searched, limits=limits, looks=(WIDE_LOOK,))
        if found.agreement > best.agreement:
            best = found
        if best.agreement >= clear:
            break
    if max_starts is not None:
        return best
    near = best.agreement >= clear and fixed.GetSpacing()[2] > THIN_MM
    looks = (FINAL_LOOK,) if near else (CLOSE_LOOK, FINAL_LOOK)
    return refined(fixed, moving, best, limits=limits, looks=looks)


def _as_they_lie(fixed: sitk.Image, moving: sitk.Image, *, limits: RegistrationSettings) -> Motion:
    """The motion from the scanner's coordinates, by one wide look, or by two where the first says that it leads there.

    A patient who moved by some millimetres is found so without a search: within 5 mm by one look, 8 by two.
    """
    found = refined(fixed, moving, IDENTITY, limits=limits, looks=(WIDE_LOOK,))
    if limits.min_agreement / 2 <= found.agreement < CLEAR * limits.min_agreement:
        again = refined(fixed, moving, found, limits=limits, looks=(WIDE_LOOK,))
        return max(found, again, key=lambda motion: motion.agreement)
    return found


def refined(
    fixed: sitk.Image,
    moving: sitk.Image,
    motion: Motion,
    *,
    limits: RegistrationSettings,
    looks: tuple[Look, ...],
) -> Motion:
    """The motion corrected by what blocks' displacements have in common, once for each look.

    Parameters
    ----------
    fixed, moving
        Target and reference as `matching_image` makes them.
    motion
        Where to begin.
    limits
        `max_stretch`: 0 holds the correction to a rigid one.
    looks
        In their order, the widest first.

    Returns
    -------
    Motion
        With the agreement of the last look, 0 to 1; `error_mm` is infinite unless that look measures it.
    """
    axes = axes_of(fixed)
    for look in looks:
        blocks = compare_blocks(
            _shrunk(fixed, look.pixel_mm),
            _shrunk(moving, look.pixel_mm),
            motion.as_sitk(),
            reach_mm=look.reach_mm,
            max_blocks=look.max_blocks,
            step_mm=look.pixel_mm,
        )
        matches = match_blocks(blocks)
        motion = _corrected(
            motion, matches, look=look, axes=axes, step_mm=blocks.step_mm, max_stretch=limits.max_stretch
        )
    return motion


def surer_without_stretch(
    fixed: sitk.Image, moving: sitk.Image, motion: Motion, *, limits: RegistrationSettings
) -> Motion:
    """The rigid motion next to one with a stretch where its error is no larger; else the same motion.

    The contours of two contrasts do not coincide: at the rim of the brain one sees fluid and the other the cortex. Of a
    whole scan that looks like a stretch of some thousandths, which puts a reference up to half a pixel beside its
    place. Two series of one scanner differ by none as a rule, and where they do a rigid motion fits one part of the
    scan worse than another, which its error says (docs/results/alignment.md).

    Parameters
    ----------
    fixed, moving
        Target and reference as `matching_image` makes them.
    motion
        As `refined` gives it, with its error.
    limits
        `max_stretch`: 0 has no stretch to begin with; `min_agreement`: a rigid motion below it is not taken in place of
        one above.

    Returns
    -------
    Motion
        With agreement and error.
    """
    if not np.isfinite(motion.error_mm) or motion.stretch() < MIN_STRETCH:
        return motion
    rotation = _nearest_rotation(motion.matrix)
    centre = np.array(fixed.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in fixed.GetSize()]))
    start = Motion(rotation, motion.matrix @ centre + motion.shift_mm - rotation @ centre)
    held = limits.model_copy(update={"max_stretch": 0.0})
    rigid = refined(fixed, moving, start, limits=held, looks=(FINAL_LOOK,))
    agrees = rigid.agreement >= min(motion.agreement, limits.min_agreement)
    return rigid if agrees and rigid.error_mm <= motion.error_mm else motion


def _nearest_rotation(matrix: Floats) -> Floats:
    """Of a motion's matrix, whose determinant is near 1."""
    left, _, right = np.linalg.svd(matrix)
    rotation: Floats = left @ right
    return rotation


def _corrected(
    motion: Motion, matches: Matches, *, look: Look, axes: Floats, step_mm: Floats, max_stretch: float
) -> Motion:
    found = ~matches.at_limit
    if found.sum() < MIN_BLOCKS:
        return Motion(motion.matrix, motion.shift_mm)
    places, seen = matches.centres_mm @ axes, matches.displacements_mm
    fit = fit_motion(places[found], seen[found], max_stretch=max_stretch)
    distance = np.linalg.norm(seen - fit.displacements_at(places), axis=1)
    near = found & (distance < max(NEAR_MM, NEAR_STEPS * float(step_mm.max())))
    error = float("inf")
    if look.measures_error:
        error = error_of(
            fit, places[found], seen[found], step_mm=float(step_mm.mean()), max_stretch=max_stretch
        )
    turn = axes @ fit.matrix @ axes.T
    shift, centre = axes @ fit.shift_mm, axes @ fit.centre_mm
    # The correction comes first: a block at x was found at x + displacement, seen through the former motion.
    return Motion(
        matrix=motion.matrix @ (np.eye(3) + turn),
        shift_mm=motion.matrix @ (shift - turn @ centre) + motion.shift_mm,
        agreement=float(near.mean()),
        error_mm=error,
    )


def matching_image(volume: Volume) -> sitk.Image:
    """The foreground's box of a volume, its pixels averaged to about `MATCHING_SPACING_MM`.

    Parameters
    ----------
    volume
        Either scan of a pair.

    Returns
    -------
    sitk.Image
        Magnitude, its world RAS+ mm, with a margin of `BOX_MARGIN_MM` where the scan has it.

    Raises
    ------
    RegistrationRefused
        FM-D204: there is no foreground.
    """
    image = as_sitk(volume)
    anatomy = foreground(sitk.GetArrayViewFromImage(image))
    if not anatomy.any():
        raise RegistrationRefused(
            "a scan shows no foreground", got="0 voxels", action="See that the scan is no empty one"
        )
    index, size = [], []
    for axis, spacing in zip((2, 1, 0), image.GetSpacing(), strict=True):  # SimpleITK's axes are reversed
        occupied = np.flatnonzero(anatomy.any(axis=tuple(other for other in range(3) if other != axis)))
        margin = round(BOX_MARGIN_MM / spacing)
        first = max(0, int(occupied[0]) - margin)
        stop = min(anatomy.shape[axis], int(occupied[-1]) + 1 + margin)
        index.append(first)
        size.append(stop - first)
    box = sitk.RegionOfInterest(image, size, index)
    return _shrunk(box, MATCHING_SPACING_MM)


def _shrunk(image: sitk.Image, spacing_mm: float) -> sitk.Image:
    factors = [max(1, int(spacing_mm / step + 0.25)) for step in image.GetSpacing()]
    if max(factors) == 1:
        return image
    shrunk: sitk.Image = sitk.BinShrink(image, factors)
    return shrunk


def _starts(fixed: sitk.Image, moving: sitk.Image) -> Iterator[sitk.Euler3DTransform]:
    """Where the search may begin, the likeliest first."""
    centres = [_box_centre(image) for image in (fixed, moving)]
    overlap = np.minimum(*(centre + half for centre, half in centres)) - np.maximum(
        *(centre - half for centre, half in centres)
    )
    if overlap.min() >= MIN_OVERLAP_MM:
        yield _translation(centres[0][0], np.zeros(3))
    yield _translation(centres[0][0], centres[1][0] - centres[0][0])
    masses = [foreground_points(image, n=N_POINTS).mean(axis=0) for image in (fixed, moving)]
    yield _translation(masses[0], masses[1] - masses[0])


def _translation(centre: Floats, shift: Floats) -> sitk.Euler3DTransform:
    return sitk.Euler3DTransform(centre.tolist(), 0.0, 0.0, 0.0, shift.tolist())


def _box_centre(image: sitk.Image) -> tuple[Floats, Floats]:
    """Centre of an image's box, and half its extent along the world's axes."""
    size = np.array(image.GetSize(), dtype=np.float64)
    centre = np.array(image.TransformContinuousIndexToPhysicalPoint(((size - 1) / 2).tolist()))
    direction = np.abs(np.array(image.GetDirection()).reshape(3, 3))
    return centre, direction @ (size * image.GetSpacing()) / 2


def _search(fixed: sitk.Image, moving: sitk.Image, *, start: sitk.Euler3DTransform) -> Motion:
    """A rigid motion by Mattes mutual information of the smoothed images, from one start."""
    # The method's own number of threads does not reach its metric; sums in another order are other bytes.
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    transform = sitk.Euler3DTransform(start)
    still, moved = (_smoothed(_shrunk(image, SEARCH_SPACING_MM)) for image in (fixed, moving))
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(HISTOGRAM_BINS)
    method.SetMetricSamplingStrategy(method.RANDOM)
    method.SetMetricSamplingPercentage(min(1.0, SAMPLES / still.GetNumberOfPixels()), SEED)
    method.SetInterpolator(sitk.sitkLinear)
    # The filter would smooth by the largest spacing of any axis: on slices of 5 mm its gradient is so far from the
    # metric's own that the descent stops half a millimetre beside the optimum.
    method.SetMetricUseFixedImageGradientFilter(False)
    method.SetMetricUseMovingImageGradientFilter(False)
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=1.0,  # mm, by the scales below
        minStep=1e-2,
        numberOfIterations=150,
        relaxationFactor=0.8,
        gradientMagnitudeTolerance=1e-6,
    )
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetInitialTransform(transform, inPlace=True)
    method.Execute(still, moved)
    matrix = np.array(transform.GetMatrix()).reshape(3, 3)
    centre = np.array(transform.GetCenter())
    return Motion(matrix, np.array(transform.GetTranslation()) + centre - matrix @ centre)


def _smoothed(image: sitk.Image) -> sitk.Image:
    sigma = [SMOOTHING_MM / step for step in reversed(image.GetSpacing())]  # (slice, row, column)
    smooth = sitk.GetImageFromArray(ndimage.gaussian_filter(sitk.GetArrayViewFromImage(image), sigma))
    smooth.CopyInformation(image)
    return smooth


def foreground_points(image: sitk.Image, *, n: int) -> Floats:
    """Points of the foreground, drawn with a fixed seed.

    Parameters
    ----------
    image
        A magnitude image with a foreground.
    n
        How many; one voxel may be drawn twice.

    Returns
    -------
    NDArray[np.float64]
        (n, 3) world, mm.
    """
    indices = np.argwhere(foreground(sitk.GetArrayViewFromImage(image)))  # (m, 3): slice, row, column
    drawn = np.random.default_rng(0).choice(len(indices), n)
    step = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
    points: Floats = indices[drawn][:, ::-1] @ step.T + np.array(image.GetOrigin())
    return points


def moved_by(fixed: sitk.Image, motion: Motion) -> float:
    """Mean displacement of the target's foreground.

    Parameters
    ----------
    fixed
        The target as `matching_image` makes it.
    motion
        From its points to those of the reference.

    Returns
    -------
    float
        mm.
    """
    points = foreground_points(fixed, n=N_POINTS)
    moved = points @ motion.matrix.T + motion.shift_mm
    return float(np.linalg.norm(moved - points, axis=1).mean())
