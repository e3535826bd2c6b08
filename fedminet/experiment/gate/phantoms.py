"""The phantoms of `experiment gate`: of a seed that no table uses, for training, calibration and the figures."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from minet_core.imaging.degradation import crop_to_multiple
from minet_core.phantom.acquisition import SITES
from minet_core.phantom.patient import PhantomScan, make_patient
from minet_core.seeds import derived_seed
from minet_core.training.samples import as_tensor

SEED = 601
NIFTI_UNITS = 1500.0
Scalar = TypeVar("Scalar", np.complex64, np.float32)


@functools.lru_cache(maxsize=8)
def patient(site: str, role: str, number: int) -> PhantomScan:
    """A patient of a site. role: "training", "calibration" or "validation"; none of one is among those of another."""
    return make_patient(SITES[site], seed=derived_seed(SEED, "gate", role, number))


def magnitudes(scan: PhantomScan, *, scale: int) -> tuple[NDArray[np.complex64], NDArray[np.float32]]:
    """Target (complex) and reference (magnitude), (S, H, W), cropped to multiples of 2 * scale."""
    target = crop_to_multiple(as_tensor(scan.target.array), scale).numpy()
    reference = crop_to_multiple(as_tensor(scan.reference.array), scale).abs().numpy()
    return target, reference


def in_whole_numbers(site: str, volume: NDArray[Scalar]) -> NDArray[Scalar]:
    """A site's volume in units in which a NIfTI file of whole numbers can hold it: raw data of knees are of 1e-4."""
    units = SITES[site].units
    return volume if units >= 1 else volume * volume.dtype.type(NIFTI_UNITS / units)


class PatientSlices:
    """The slices of some patients after each other, as training takes them."""

    def __init__(self, scans: Sequence[PhantomScan]) -> None:
        self._pairs = [
            (target, reference)
            for scan in scans
            for target, reference in zip(scan.target.array, scan.reference.array, strict=True)
        ]

    @property
    def shapes(self) -> Sequence[tuple[int, int]]:
        """(H, W) of each."""
        return [(target.shape[0], target.shape[1]) for target, _ in self._pairs]

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, index: int) -> tuple[NDArray[Any], NDArray[Any]]:
        return self._pairs[index]
