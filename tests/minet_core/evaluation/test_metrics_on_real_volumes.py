"""The figures of real volumes: ours, scikit-image's and those of the `fastmri` package's formulas."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from skimage import metrics as scikit_image

from minet_core.evaluation.metrics import nmse, psnr, ssim, volume_metrics
from minet_core.imaging.degradation import crop_to_multiple, low_resolution
from minet_core.imaging.interpolation import INTERPOLATIONS
from tests.oracles import fastmri_metrics
from tests.support.surrogates import surrogate_volume

SCIKIT_PSNR: Callable[..., float] = scikit_image.peak_signal_noise_ratio
SCIKIT_SSIM: Callable[..., float] = scikit_image.structural_similarity
SCIKIT_NRMSE: Callable[..., float] = scikit_image.normalized_root_mse

Array = NDArray[np.float64]

pytestmark = [
    pytest.mark.surrogate,
    pytest.mark.parametrize("scale", [2, 4]),
    pytest.mark.parametrize("name", list(INTERPOLATIONS)),
    pytest.mark.parametrize(
        "scan",
        [
            "clinical/patient01_study1/T2W",
            "clinical/patient04_study1/T2W",
            "clinical/patient12_study1/T2W",
            "brain_1mm/patient07/T2",
            "brain_1mm/patient19/T2",
        ],
    ),
]


def _restored(scan: str, name: str, scale: int) -> tuple[Array, Array]:
    """The truth and an interpolation of its low-resolution image, float64."""
    truth = crop_to_multiple(torch.tensor(surrogate_volume(scan, every=2)), scale)
    image = INTERPOLATIONS[name](low_resolution(truth, scale), scale, non_negative=True)
    return truth.double().numpy(), image.double().numpy()


def test_our_figures_are_those_of_scikit_image(scan: str, name: str, scale: int) -> None:
    truth, image = _restored(scan, name, scale)
    peak = truth.max()
    slices = zip(truth, image, strict=True)
    assert volume_metrics(truth, image) == pytest.approx(
        {
            "psnr_db": SCIKIT_PSNR(truth, image, data_range=peak),
            "ssim": np.mean([SCIKIT_SSIM(t, i, data_range=peak) for t, i in slices]),
            "nmse": SCIKIT_NRMSE(truth, image) ** 2,
        },
        rel=1e-6,
    )


def test_our_figures_are_the_formulas_of_the_fastmri_package(scan: str, name: str, scale: int) -> None:
    truth, image = _restored(scan, name, scale)
    assert psnr(truth, image) == pytest.approx(fastmri_metrics.psnr(truth, image), rel=1e-6)
    assert nmse(truth, image) == pytest.approx(fastmri_metrics.nmse(truth, image), rel=1e-6)
    some = np.s_[::5]  # whole slices; every window of the oracle takes its time
    expected = fastmri_metrics.ssim(truth[some], image[some])
    assert ssim(truth[some], image[some]) == pytest.approx(expected, rel=1e-6)
