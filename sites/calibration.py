"""A model's error bars, measured on a site's validation patients (`minet_core.evaluation.error_bars`).

The truth is degraded as in training, the picture made with the reference and without, as `fedminet infer` makes it; how
far both are off is compared with how far they move when the scans are mirrored. Nothing of it leaves the site: the
figures go into the model's file and its card, which stay there.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from minet_core.calibration import Calibration
from minet_core.evaluation.error_bars import error_bars, error_quantiles, error_unit
from minet_core.evaluation.inference import super_resolve_frame
from minet_core.evaluation.volume_scores import degraded_volume, interpolated_volume
from sites.store.store import Store
from sites.super_resolution.flip_spread import flipped, spread_over_flips

N_SLICES = 12
"""Of each volume, evenly spread: a hundred thousand voxels of a head, at eight passes of the model a slice."""
Array = NDArray[np.float32]


@dataclass
class Errors:
    """What was measured so far. guided, alone: by patient, the error quantiles of each volume."""

    guided: dict[str, list[NDArray[np.float64]]] = field(default_factory=dict)
    alone: dict[str, list[NDArray[np.float64]]] = field(default_factory=dict)
    n_slices: int = 0


def calibrate(
    model: nn.Module, stores: Iterable[Store], *, scale: int, knows_absence: bool, n_slices: int | None = None
) -> Calibration | None:
    """Measure a model's error bars on the validation patients of some sites.

    Parameters
    ----------
    model
        On its device; `self_ensemble` says over how many poses its picture is averaged.
    stores
        The sites'; one volume at a time is in memory.
    scale
        Of the model.
    knows_absence
        Whether it was trained on absent references too: else sinc stands in for one.
    n_slices
        Of each volume at most, evenly spread; never more than `N_SLICES`.

    Returns
    -------
    Calibration or None
        None where no patient judges but those that the site trains on.

    Raises
    ------
    StoreDamaged, FileNotWritten
        As `sites.store.pair_file.open_pair`.
    """
    errors, poses = Errors(), int(getattr(model, "self_ensemble", 1))
    for number, store in enumerate(stores):
        trained_on = {pair.patient for pair, _ in store.cohort.pairs_of("training")}
        patient_of = {pair.name: pair.patient for pair, _ in store.cohort.pairs_of("validation")}
        for name, target, reference in store.volumes("validation"):
            if patient_of[name] in trained_on:
                continue
            most = min(N_SLICES, n_slices or N_SLICES)
            chosen = np.unique(np.linspace(0, len(target) - 1, min(most, len(target))).round().astype(int))
            _measure(
                errors,
                f"{number} {patient_of[name]}",
                model,
                degraded_volume(target[chosen], reference[chosen], scale=scale),
                knows_absence=knows_absence,
            )
    if not errors.guided or errors.guided.keys() != errors.alone.keys():
        return None
    return Calibration(
        patients=len(errors.guided),
        slices=errors.n_slices,
        poses=poses,
        guided=error_bars(errors.guided),
        alone=error_bars(errors.alone),
        stand_in="model" if knows_absence else "sinc",
    )


def _measure(
    errors: Errors,
    patient: str,
    model: nn.Module,
    volume: tuple[Array, Array, Array],
    *,
    knows_absence: bool,
) -> None:
    """Add the errors of one volume (truth, low resolution, reference)."""
    truth, low_res, reference = volume
    scale = truth.shape[1] // low_res.shape[1]
    guided = picture_and_spread(model, low_res, reference, scale=scale)
    if knows_absence:
        alone = picture_and_spread(model, low_res, np.zeros_like(reference), scale=scale)
    else:
        alone = interpolated_volume(low_res, "sinc", scale=scale), np.zeros_like(truth)
    for by_patient, (picture, spread) in ((errors.guided, guided), (errors.alone, alone)):
        found = error_quantiles(truth, picture, error_unit(spread, low_res))
        if found is not None:
            by_patient.setdefault(patient, []).append(found)
    errors.n_slices += len(truth)


def picture_and_spread(
    model: nn.Module, low_res: Array, reference: Array, *, scale: int
) -> tuple[Array, Array]:
    """The picture as the model makes it, and how far that of one pose moves when the scans are mirrored.

    Parameters
    ----------
    model
        As `minet_core.evaluation.inference.super_resolve` takes it.
    low_res : (S, h, w) float32
        Magnitude.
    reference : (S, scale h, scale w) float32
        Magnitude; zeros for none.
    scale
        Of the model.

    Returns
    -------
    (S, scale h, scale w) float32, twice
        In the units of `low_res`.
    """
    spare = scale - 1
    frame = np.pad(reference, ((0, 0), (spare, 0), (spare, 0)), mode="edge")

    def made(axes: tuple[int, ...], **options: Any) -> Array:
        """On the frame: symmetric, so that a mirrored scan has its samples where they were."""
        picture = super_resolve_frame(
            model,
            flipped(low_res, axes),
            flipped(frame, axes),
            covered=np.ones(frame.shape, dtype=np.bool_),
            scale=scale,
            **options,
        )
        return np.flip(picture, axes)

    first = made((), n_poses=1)
    spread = spread_over_flips(first, lambda axes: made(axes, n_poses=1))
    picture = first if getattr(model, "self_ensemble", 1) == 1 else made(())
    return picture[:, spare:, spare:], spread[:, spare:, spare:]
