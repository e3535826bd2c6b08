"""What a site's model is trained on, measured from its store: see `minet_core.training_domain`.

Of every pair of the training split, or of `MAX_PAIRS` evenly spread ones, a few slices are read.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from minet_core.errors import NoScansFound
from minet_core.imaging.degradation import crop_to_multiple, low_resolution
from minet_core.imaging.scan_figures import ScanFigures, scan_figures
from minet_core.training.samples import as_tensor
from minet_core.training_domain import (
    MM_STEP,
    NOISE_STEP,
    RATIO_STEP,
    SLOPE_STEP,
    TrainingDomain,
    rounded_span,
)
from sites.store.cohort import PairRecord
from sites.store.pair_file import ROLES, open_pair
from sites.store.store import Store

MAX_PAIRS = 24
SLICES_OF_A_PAIR = 8
MAX_STORES = 16


@dataclass(frozen=True)
class _OneCohort:
    """A store by the cohort that was read of it."""

    path: Path
    digest: str
    store: Store = field(compare=False)


@dataclass(frozen=True, eq=False)
class PairSlices:
    """A few slices of a pair as it trains: target and reference (S, H, W). spacing_mm: (slice, row, column)."""

    target: NDArray[np.generic]
    reference: NDArray[np.generic]
    spacing_mm: tuple[float, float, float]


@dataclass(frozen=True)
class _OfPair:
    spacing_mm: tuple[float, float, float]
    target: ScanFigures
    reference: ScanFigures


def measured_domain(store: Store, *, scale: int) -> TrainingDomain | None:
    """The domain of the training split at one scale, measured once for each cohort.

    Parameters
    ----------
    store
        The site's; up to `MAX_PAIRS` pairs of it are read, `SLICES_OF_A_PAIR` slices of each.
    scale
        Super-resolution factor.

    Returns
    -------
    TrainingDomain | None
        Spans over the pairs, their ends rounded; None where no slice shows enough to be measured.

    Raises
    ------
    NoScansFound
        FM-D205: no pair to train on.
    StoreDamaged, FileNotWritten
        As `sites.store.pair_file.open_pair`.
    """
    return _measured(_OneCohort(store.path, store.cohort.digest, store), scale)


@functools.lru_cache(maxsize=MAX_STORES)
def _measured(cohort: _OneCohort, scale: int) -> TrainingDomain | None:
    store = cohort.store
    pairs = store.cohort.pairs_of("training")
    if not pairs:
        raise NoScansFound("there is nothing to train on", got="0 pairs", expected="at least one")
    return domain_of_pairs(
        (_slices(store, *pairs[index]) for index in _spread(len(pairs), MAX_PAIRS)),
        contrasts=(store.cohort.target, store.cohort.reference),
        data_kind=store.cohort.data_kind,
        scale=scale,
    )


def domain_of_pairs(
    pairs: Iterable[PairSlices], *, contrasts: tuple[str, str], data_kind: str, scale: int
) -> TrainingDomain | None:
    """The domain of some pairs.

    Parameters
    ----------
    pairs
        One at a time is held.
    contrasts
        Of the target and of the reference.
    data_kind
        "real", "surrogate" or "phantom".
    scale
        Super-resolution factor.

    Returns
    -------
    TrainingDomain | None
        Spans over the pairs, their ends rounded; None where no slice shows enough to be measured.
    """
    known = [one for pair in pairs if (one := _of_pair(pair, scale=scale)) is not None]
    if not known:
        return None
    ratios = {
        f"{role}_{figure}": rounded_span([float(getattr(getattr(one, role), figure)) for one in known], step)
        for role in ROLES
        for figure, step in (("middle", RATIO_STEP), ("rim", RATIO_STEP), ("noise", NOISE_STEP))
    }
    slopes = [one.target.slope for one in known if one.target.slope is not None]
    return TrainingDomain(
        target=(contrasts[0],),
        reference=(contrasts[1],),
        data_kind=(data_kind,),
        pixel_mm=rounded_span([step for one in known for step in one.spacing_mm[1:]], MM_STEP),
        slice_mm=rounded_span([one.spacing_mm[0] for one in known], MM_STEP),
        band=rounded_span([one.target.band for one in known], RATIO_STEP),
        target_slope=rounded_span(slopes, SLOPE_STEP) if slopes else None,
        **ratios,
    )


def _slices(store: Store, pair: PairRecord, indices: list[int]) -> PairSlices:
    chosen = [indices[index] for index in _spread(len(indices), SLICES_OF_A_PAIR)]
    with open_pair(store.path / pair.file, shape=pair.shape) as file:
        target, reference = (np.stack([file[role][index] for index in chosen]) for role in ROLES)
        through, down, across = (float(file.attrs["spacing_mm"][axis]) for axis in range(3))
    return PairSlices(target, reference, (through, down, across))


def _of_pair(pair: PairSlices, *, scale: int) -> _OfPair | None:
    low_res = _degraded(pair.target, scale)
    _, down, across = pair.spacing_mm
    pixel_mm = (down + across) / 2
    of_target = scan_figures(low_res, pixel_mm=pixel_mm * scale)
    of_reference = scan_figures(np.abs(pair.reference).astype(np.float32), pixel_mm=pixel_mm)
    if of_target is None or of_reference is None:
        return None
    return _OfPair(pair.spacing_mm, of_target, of_reference)


def _degraded(target: NDArray[np.generic], scale: int) -> NDArray[np.float32]:
    image = torch.stack([crop_to_multiple(as_tensor(of_slice), scale) for of_slice in target])
    low_res: NDArray[np.float32] = low_resolution(image, scale).numpy().astype(np.float32)
    return low_res


def _spread(n: int, most: int) -> list[int]:
    """At most `most` of n indices, evenly spread."""
    return [int(index) for index in np.unique(np.linspace(0, n - 1, min(n, most)).round())]
