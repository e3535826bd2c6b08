"""Patients who differ as patients do: drawn from their seed alone, and nobody else's bytes change."""

from __future__ import annotations

import numpy as np
import pytest

from minet_core.phantom.acquisition import SITES, SMS
from minet_core.phantom.patient import make_patient, with_slices
from minet_core.phantom.scanner import acquire
from minet_core.phantom.tissues import TISSUES
from minet_core.phantom.variety import SHARE_AT_LOW_FIELD, SHARE_MOVED, draw_variety
from minet_core.seeds import numpy_generator

PATIENTS = range(200)

BEFORE = {
    "sms": (0.12089, 0.17005, 0.2361, 0.264658),
    "umr": (0.109739, 0.168916, 0.216719, 0.282079),
    "fastmri": (0.111971, 0.095207, 0.425016, 0.284215),
}
"""Mean and deviation of the target, then of the reference, in units of water, as seed 11 gave them before variety."""


@pytest.mark.parametrize("site", SITES)
def test_same_seed_gives_the_same_bytes_and_another_patient_than_without_variety(site: str) -> None:
    one = with_slices(SITES[site], 1)
    first, again = (make_patient(one, seed=11, varied=True) for _ in range(2))
    assert first.target.array.tobytes() == again.target.array.tobytes()
    alike = make_patient(one, seed=11)
    assert first.target.array.tobytes() != alike.target.array.tobytes()
    assert first.target.spacing_mm == alike.target.spacing_mm
    assert np.isfinite(first.target.array).all()


def test_what_is_drawn_does_not_depend_on_the_number_of_slices() -> None:
    assert draw_variety(with_slices(SMS, 3), seed=5).tissues == draw_variety(SMS, seed=5).tissues


def test_shares_and_ranges_are_those_that_are_said() -> None:
    drawn = [draw_variety(SMS, seed=seed) for seed in PATIENTS]
    assert 0.0 < min(one.ageing for one in drawn) < 0.05 < 0.95 < max(one.ageing for one in drawn) < 1.0
    echo = np.array([one.acquisition.target.echo_time_ms for one in drawn]) / SMS.target.echo_time_ms
    assert 0.9 <= echo.min() < 0.91 < 1.09 < echo.max() <= 1.1
    low = np.array([one.tissues["grey_matter"].t1_ms for one in drawn]) < 0.85 * TISSUES["grey_matter"].t1_ms
    assert low.mean() == pytest.approx(SHARE_AT_LOW_FIELD, abs=0.1)  # 3 standard errors
    moved = np.mean([len(one.movements) / 2 for one in drawn])
    assert moved == pytest.approx(SHARE_MOVED, abs=0.08)
    assert all(one.tissues[name].proton_density <= 1.0 for one in drawn for name in TISSUES)
    assert {one.acquisition.matrix for one in drawn} == {SMS.matrix}


def test_patients_have_contrasts_of_their_own() -> None:
    """Grey to white matter in the target: without variety it is one number for a site."""
    ratios = []
    for seed in PATIENTS:
        own = draw_variety(SMS, seed=seed)
        grey, white = (own.tissues[name] for name in ("grey_matter", "white_matter"))
        echo = own.acquisition.target.echo_time_ms
        ratios.append(
            grey.proton_density
            * np.exp(-echo / grey.t2_ms)
            / (white.proton_density * np.exp(-echo / white.t2_ms))
        )
    assert 0.05 < np.std(ratios) / np.mean(ratios) < 0.25


def test_a_movement_leaves_the_image_s_place_and_adds_ghosts() -> None:
    signal = np.zeros((1, 64, 64), np.float32)
    signal[:, 24:40, 24:40] = 1.0
    field = np.ones(signal.shape, np.complex64)

    def imaged(moved: tuple[float, float, float] | None) -> np.ndarray:
        made = acquire(
            signal,
            sensitivity=field,
            blur_px=0.0,
            noise=0.0,
            generator=numpy_generator(1, "noise"),
            moved_px=moved,
        )
        image: np.ndarray = np.abs(made[0])
        return image

    still = imaged(None)
    assert imaged((0.0, 0.0, 0.7)) == pytest.approx(still, abs=1e-5)
    moved = imaged((2.0, 0.0, 0.7))
    outside = signal[0] == 0
    assert np.abs(moved - still)[outside].max() > 0.03
    rows = np.arange(64)[:, None]
    assert (moved * rows).sum() / moved.sum() == pytest.approx((still * rows).sum() / still.sum(), abs=0.5)
    # All encodings after the movement: the whole image is at the second place.
    whole = imaged((2.0, 0.0, 0.0))
    assert whole == pytest.approx(np.roll(still, 2, axis=0), abs=1e-4)


@pytest.mark.parametrize("site", SITES)
def test_without_variety_patients_are_what_they_were(site: str) -> None:
    scan = make_patient(with_slices(SITES[site], 1), seed=11)
    images = [volume.magnitude() / SITES[site].units for volume in (scan.target, scan.reference)]
    found = [moment for image in images for moment in (image.mean(), image.std())]
    assert found == pytest.approx(BEFORE[site], rel=1e-4)
