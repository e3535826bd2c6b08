# mypy: disallow-untyped-calls=False
"""Bringing the reference onto the target's grid, and measuring how well that went.

Rigid, Mattes mutual information, coarse to fine, on one thread with fixed seeds: the same scans give the same bytes.
Every pair is registered twice, from two starts and with two sets of sample points. Two figures follow.

residual_mm: mean distance over the target's foreground, mm. For a reference that was resampled: between the two
registrations (what registration cannot decide, their disagreement). For a pair taken as it lies on one grid: between
the images' own position and the registered one (what is left uncorrected).

similarity: Studholme's normalised mutual information (H(a) + H(b)) / H(a, b) over the foreground after registration,
less what chance gives; 1 for unrelated images.

The similarity and the disagreement together tell a wrong patient's reference, which registers to some local optimum
all the same. The limits were set on these very pairs, so other scans may be nearer to them:

    pairs                          similarity        disagreement [mm]
    5 real, one patient            1.041 to 1.124    0.13 to 0.18
    8 real, two patients           1.009 to 1.024    1.57 to 5.08
    9 phantom, one patient         1.099 to 1.226    0.05 to 0.10
    18 phantom, two patients       1.021 to 1.080    0.63 to 6.22
    defaults                       at least 1.03     at most 0.4

The least similarity of one patient is that of the patient who moved. It is a guard against mistakes, no proof: of
very small phantoms (40 x 36 x 8 voxels of 3 x 3 x 4 mm) two strangers passed both limits in four of six pairs; from
56 x 52 x 12 on, in none of 12.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk  # noqa: N813 (the name its own manual uses)
from numpy.typing import NDArray
from scipy import ndimage

from minet_core.runtime.errors import RegistrationRefused
from minet_core.volume import Volume
from sites.quality import foreground

MAX_DISAGREEMENT_MM = 0.4
GRID_TOLERANCE_MM = 0.01
"""Two affines within this at every corner are one grid: headers round at the sixth digit."""
WORKING_SPACING_MM = 2.0
SMOOTHING_MM = 3.0
SAMPLES = (5_000, 20_000)
"""Sample points of the coarse and of the fine level."""
SEEDS = (11, 23)
SECOND_START_MM = (3.0, -3.0, 3.0)
SECOND_START_RAD = (0.05, -0.05, 0.05)
HISTOGRAM_BINS = 40
N_POINTS = 2000
MIN_SHARED = 0.5
"""Registration of unrelated images drifts apart until a few voxels agree by chance."""
OUTSIDE = -1.0
"""What no magnitude is."""


@dataclass(frozen=True)
class Registered:
    """A reference on the target's grid.

    reference: the volume. covered: (slice, row, column) where it has data; None: everywhere.
    resampled: whether its voxels were interpolated. moved_mm: mean displacement that registration found.
    """

    reference: Volume
    covered: NDArray[np.bool_] | None
    resampled: bool
    residual_mm: float
    moved_mm: float
    similarity: float


def same_grid(one: Volume, other: Volume) -> bool:
    """Whether two volumes' voxels lie at the same places."""
    if one.array.shape != other.array.shape:
        return False
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in one.array.shape])).reshape(3, -1)
    corners = np.vstack([corners, np.ones(corners.shape[1])])  # (4, 8)
    return bool(np.abs((one.affine - other.affine) @ corners).max() <= GRID_TOLERANCE_MM)


def register(
    target: Volume,
    reference: Volume,
    *,
    max_residual_mm: float,
    min_similarity: float,
    max_disagreement_mm: float = MAX_DISAGREEMENT_MM,
) -> Registered:
    """The reference on the target's grid; resampled only where it is on another grid or has moved.

    max_residual_mm: up to here a pair on one grid is left as it is. Raises RegistrationRefused (FM-D204) with the
    figure where one of the other two limits is not met.
    """
    fixed, moving = _working_image(target), _working_image(reference)
    points = _foreground_points(fixed)
    try:
        motion, disagreement, similarity = _solve(fixed, moving, start=_scanner_start(fixed), points=points)
        if similarity < min_similarity or disagreement > max_disagreement_mm:
            # The scanner's coordinates may have been lost.
            start = _centred_start(fixed, moving)
            motion, disagreement, similarity = _solve(fixed, moving, start=start, points=points)
    except RuntimeError as failure:
        reason = str(failure).strip().splitlines()[-1]
        raise RegistrationRefused("target and reference do not register", got=reason) from failure
    if similarity < min_similarity:
        raise RegistrationRefused(
            "target and reference do not show the same anatomy",
            got=f"normalised mutual information {similarity:.3f}",
            expected=f"at least {min_similarity}",
            action="See that both scans are of one patient",
        )
    if disagreement > max_disagreement_mm:
        raise RegistrationRefused(
            "two registrations of one pair disagree",
            got=f"{disagreement:.2f} mm",
            expected=f"at most {max_disagreement_mm} mm",
            action="See that both scans are of one patient, and that neither is disturbed by motion",
        )
    moved = _mean_distance(points, motion, sitk.Euler3DTransform())
    if same_grid(target, reference) and moved <= max_residual_mm:
        return Registered(reference, None, False, moved, moved, similarity)
    resampled, covered = resample(reference, target=target, transform=motion)
    return Registered(resampled, covered, True, disagreement, moved, similarity)


def resample(
    reference: Volume, *, target: Volume, transform: sitk.Transform
) -> tuple[Volume, NDArray[np.bool_]]:
    """The reference by cubic B-spline on the target's grid, held to its own range (no ringing beyond it)."""
    moving, fixed = as_sitk(reference), as_sitk(target)
    resampler = sitk.ResampleImageFilter()
    resampler.SetReferenceImage(fixed)
    resampler.SetTransform(transform)
    resampler.SetInterpolator(sitk.sitkBSpline)
    values = sitk.GetArrayFromImage(resampler.Execute(moving))
    resampler.SetInterpolator(sitk.sitkNearestNeighbor)
    view = sitk.Image(moving.GetSize(), sitk.sitkUInt8) + 1
    view.CopyInformation(moving)
    covered = sitk.GetArrayFromImage(resampler.Execute(view)).astype(bool)
    magnitude = reference.magnitude()
    array = np.where(covered, np.clip(values, magnitude.min(), magnitude.max()), 0).astype(np.float32)
    volume = Volume(
        array=array, spacing_mm=target.spacing_mm, affine=target.affine, contrast=reference.contrast
    )
    return volume, covered


def as_sitk(volume: Volume) -> sitk.Image:
    """The magnitude as a SimpleITK image whose world is RAS+ mm (SimpleITK does not care which)."""
    image = sitk.GetImageFromArray(volume.magnitude())
    matrix = volume.affine[:3, [2, 1, 0]]  # SimpleITK's index is (column, row, slice)
    spacing = np.linalg.norm(matrix, axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((matrix / spacing).ravel().tolist())
    image.SetOrigin(volume.affine[:3, 3].tolist())
    return image


def _working_image(volume: Volume) -> sitk.Image:
    image = as_sitk(volume)
    shrunk: sitk.Image = sitk.BinShrink(
        image, [max(1, round(WORKING_SPACING_MM / step)) for step in image.GetSpacing()]
    )
    return shrunk


def _scanner_start(fixed: sitk.Image) -> sitk.Euler3DTransform:
    start = sitk.Euler3DTransform()
    start.SetCenter(fixed.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in fixed.GetSize()]))
    return start


def _centred_start(fixed: sitk.Image, moving: sitk.Image) -> sitk.Euler3DTransform:
    moments = sitk.CenteredTransformInitializerFilter.MOMENTS
    start = sitk.CenteredTransformInitializer(fixed, moving, sitk.Euler3DTransform(), moments)
    return sitk.Euler3DTransform(start)


def _solve(
    fixed: sitk.Image, moving: sitk.Image, *, start: sitk.Euler3DTransform, points: list[tuple[float, ...]]
) -> tuple[sitk.Euler3DTransform, float, float]:
    """The motion; how far a second registration that shares nothing but the images is from it [mm]; similarity."""
    other = sitk.Euler3DTransform(start)
    other.SetTranslation((np.array(start.GetTranslation()) + SECOND_START_MM).tolist())
    other.SetRotation(*SECOND_START_RAD)
    first = _register_once(fixed, moving, start=start, seed=SEEDS[0])
    second = _register_once(fixed, moving, start=other, seed=SEEDS[1])
    return first, _mean_distance(points, first, second), _similarity(fixed, moving, first)


def _register_once(
    fixed: sitk.Image, moving: sitk.Image, *, start: sitk.Euler3DTransform, seed: int
) -> sitk.Euler3DTransform:
    # The method's own number of threads does not reach its metric; sums in another order are other bytes.
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    transform = sitk.Euler3DTransform(start)
    levels = [(_smoothed(fixed), _smoothed(moving)), (fixed, moving)]
    for (still, moved), n_samples in zip(levels, SAMPLES, strict=True):
        method = sitk.ImageRegistrationMethod()
        method.SetMetricAsMattesMutualInformation(HISTOGRAM_BINS)
        method.SetMetricSamplingStrategy(method.RANDOM)
        method.SetMetricSamplingPercentage(min(1.0, n_samples / still.GetNumberOfPixels()), seed)
        method.SetInterpolator(sitk.sitkLinear)
        # The filter would smooth by the largest spacing of any axis: on slices of 5 mm its gradient is so far from the
        # metric's own that the descent stops half a millimetre beside the optimum.
        method.SetMetricUseFixedImageGradientFilter(False)
        method.SetMetricUseMovingImageGradientFilter(False)
        method.SetOptimizerAsRegularStepGradientDescent(
            learningRate=1.0,  # mm, by the scales below
            minStep=1e-3,
            numberOfIterations=150,
            relaxationFactor=0.8,
            gradientMagnitudeTolerance=1e-6,
        )
        method.SetOptimizerScalesFromPhysicalShift()
        method.SetInitialTransform(transform, inPlace=True)
        method.Execute(still, moved)
    return transform


def _smoothed(image: sitk.Image) -> sitk.Image:
    sigma = [SMOOTHING_MM / step for step in reversed(image.GetSpacing())]  # (slice, row, column)
    smooth = sitk.GetImageFromArray(ndimage.gaussian_filter(sitk.GetArrayViewFromImage(image), sigma))
    smooth.CopyInformation(image)
    return smooth


def _foreground_points(image: sitk.Image) -> list[tuple[float, ...]]:
    """Points of the foreground in mm, drawn with a fixed seed."""
    indices = np.argwhere(foreground(sitk.GetArrayViewFromImage(image)))  # (n, 3): slice, row, column
    if len(indices) == 0:
        raise RegistrationRefused("the target shows no foreground", got="0 voxels")
    drawn = np.random.default_rng(0).choice(len(indices), N_POINTS)
    return [image.TransformIndexToPhysicalPoint([int(i) for i in row[::-1]]) for row in indices[drawn]]


def _mean_distance(points: list[tuple[float, ...]], one: sitk.Transform, other: sitk.Transform) -> float:
    shifts = [np.subtract(one.TransformPoint(point), other.TransformPoint(point)) for point in points]
    return float(np.linalg.norm(shifts, axis=1).mean())


def _similarity(fixed: sitk.Image, moving: sitk.Image, transform: sitk.Transform) -> float:
    """Normalised mutual information over the foreground; 1 where less than half of it is shared.

    The outline of the head is left out: any two heads share it. A finite sample of unrelated values has more than 1;
    that excess, measured on the same values in random order, is taken off.
    """
    moved = sitk.Resample(moving, fixed, transform, sitk.sitkLinear, OUTSIDE)
    a, b = sitk.GetArrayFromImage(fixed), sitk.GetArrayFromImage(moved)
    anatomy = foreground(a)
    shared = anatomy & (b != OUTSIDE)
    if shared.sum() < MIN_SHARED * anatomy.sum():
        return 1.0
    still, other = _clipped(a[shared]), _clipped(b[shared])
    by_chance = _mutual_information(still, np.random.default_rng(0).permutation(other))
    return 1.0 + _mutual_information(still, other) - by_chance


def _clipped(values: NDArray[np.float32]) -> NDArray[np.float32]:
    low, high = np.percentile(values, [0.5, 99.5])
    return np.clip(values, low, high)


def _mutual_information(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Normalised: (H(one) + H(other)) / H(one, other)."""
    joint, _, _ = np.histogram2d(one, other, bins=HISTOGRAM_BINS)
    together = _entropy(joint)
    return (_entropy(joint.sum(1)) + _entropy(joint.sum(0))) / together if together > 0 else 1.0


def _entropy(counts: NDArray[np.float64]) -> float:
    """Shannon entropy [nat]."""
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum())
