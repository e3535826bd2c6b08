"""What a site's model is trained on, measured from its store: see `minet_core.training_domain`.

Of every pair of the training split, or of `MAX_PAIRS` evenly spread ones, a few slices are read.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from minet_core.errors import NoScansFound
from minet_core.imaging.degradation import crop_to_multiple, low_resolution
from minet_core.imaging.scan_figures import ScanFigures, scan_figures
from minet_core.training.samples import as_tensor
from minet_core.training_domain import MM_STEP, NOISE_STEP, RATIO_STEP, TrainingDomain, rounded_span
from sites.store.cohort import PairRecord
from sites.store.store import ROLES, Store, open_pair

MAX_PAIRS = 24
SLICES_OF_A_PAIR = 8
MAX_STORES = 16


@dataclass(frozen=True)
class _OneCohort:
    """A store by the cohort that was read of it."""

    path: Path
    digest: str
    store: Store = field(compare=False)


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
        As `sites.store.store.open_pair`.
    """
    return _measured(_OneCohort(store.path, store.cohort.digest, store), scale)


@functools.lru_cache(maxsize=MAX_STORES)
def _measured(cohort: _OneCohort, scale: int) -> TrainingDomain | None:
    store = cohort.store
    pairs = store.cohort.pairs_of("training")
    if not pairs:
        raise NoScansFound("there is nothing to train on", got="0 pairs", expected="at least one")
    found = [_of_pair(store, *pairs[index], scale=scale) for index in _spread(len(pairs), MAX_PAIRS)]
    known = [one for one in found if one is not None]
    if not known:
        return None
    ratios = {
        f"{role}_{figure}": rounded_span([float(getattr(getattr(one, role), figure)) for one in known], step)
        for role in ROLES
        for figure, step in (("middle", RATIO_STEP), ("rim", RATIO_STEP), ("noise", NOISE_STEP))
    }
    return TrainingDomain(
        target=(store.cohort.target,),
        reference=(store.cohort.reference,),
        data_kind=(store.cohort.data_kind,),
        pixel_mm=rounded_span([step for one in known for step in one.spacing_mm[1:]], MM_STEP),
        slice_mm=rounded_span([one.spacing_mm[0] for one in known], MM_STEP),
        band=rounded_span([one.target.band for one in known], RATIO_STEP),
        **ratios,
    )


def _of_pair(store: Store, pair: PairRecord, indices: list[int], *, scale: int) -> _OfPair | None:
    chosen = [indices[index] for index in _spread(len(indices), SLICES_OF_A_PAIR)]
    with open_pair(store.path / pair.file, shape=pair.shape) as file:
        target, reference = (np.stack([file[role][index] for index in chosen]) for role in ROLES)
        down, through = (float(file.attrs["spacing_mm"][axis]) for axis in (1, 0))
        across = float(file.attrs["spacing_mm"][2])
    low_res = _degraded(target, scale)
    pixel_mm = (down + across) / 2
    of_target = scan_figures(low_res, pixel_mm=pixel_mm * scale)
    of_reference = scan_figures(np.abs(reference).astype(np.float32), pixel_mm=pixel_mm)
    if of_target is None or of_reference is None:
        return None
    return _OfPair((through, down, across), of_target, of_reference)


def _degraded(target: NDArray[np.generic], scale: int) -> NDArray[np.float32]:
    image = torch.stack([crop_to_multiple(as_tensor(of_slice), scale) for of_slice in target])
    low_res: NDArray[np.float32] = low_resolution(image, scale).numpy().astype(np.float32)
    return low_res


def _spread(n: int, most: int) -> list[int]:
    """At most `most` of n indices, evenly spread."""
    return [int(index) for index in np.unique(np.linspace(0, n - 1, min(n, most)).round())]
