"""Error bars: factors in closed form, patients of one weight, and what n of them promise of the next."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from minet_core.errors import MetricInvalid
from minet_core.evaluation.error_bars import (
    FLOOR,
    N_QUANTILES,
    error_bars,
    error_quantiles,
    error_unit,
    inside_anatomy,
)

LEVELS = np.linspace(0, 1, N_QUANTILES)


def test_the_factors_of_gaussian_errors_are_those_of_the_normal_distribution() -> None:
    rng = np.random.default_rng(0)
    picture = np.full((4, 200, 200), 100.0, np.float32)
    unit = rng.uniform(0.5, 2, picture.shape).astype(np.float32)
    truth = (picture + 3 * unit * rng.standard_normal(picture.shape)).astype(np.float32)
    found = error_quantiles(truth, picture, unit)
    assert found is not None
    bars = error_bars({"one": [found]})
    # 160,000 draws: the standard error of these quantiles is 0.4% of them, and they are rounded up to three digits
    assert bars.factor_68 == pytest.approx(3 * norm.ppf(0.84), rel=0.02)
    assert bars.factor_95 == pytest.approx(3 * norm.ppf(0.975), rel=0.02)


def test_each_patient_has_one_weight_however_many_volumes_there_are() -> None:
    one, other = LEVELS, 10 + LEVELS
    assert error_bars({"a": [one], "b": [other]}) == error_bars({"a": [one] * 5, "b": [other]})
    assert error_bars({"a": [one], "b": [other]}).factor_68 == pytest.approx(10.36, abs=0.11)


@pytest.mark.parametrize("n_patients", [1, 2, 4])
def test_the_next_patient_is_covered_as_promised_even_where_patients_differ_much(n_patients: int) -> None:
    """Patients whose errors differ by a heavy-tailed factor; the mean over 2,000 draws of them and one more."""
    rng, covered = np.random.default_rng(n_patients), []
    for _ in range(2000):
        sizes = np.exp(2 * rng.standard_normal(n_patients + 1))
        bars = error_bars({str(n): [size * LEVELS] for n, size in enumerate(sizes[:-1])})
        covered.append([min(1.0, factor / sizes[-1]) for factor in (bars.factor_68, bars.factor_95)])
    held = np.mean(covered, axis=0)
    slack = 3 * np.std(covered, axis=0) / np.sqrt(len(covered))
    for level, of_level, more in zip((0.68, 0.95), held, slack, strict=True):
        assert of_level >= level * n_patients / (n_patients + 1) - more
    assert held[1] < 0.95  # and less than the level: what so few measured is no promise


def test_no_patient_and_one_without_a_volume_are_refused() -> None:
    for nobody in ({}, {"one": []}):
        with pytest.raises(MetricInvalid, match="FM-M304"):
            error_bars(nobody)


def test_a_place_where_nothing_moves_has_a_unit_and_it_follows_the_slices_scale() -> None:
    low_res = np.random.default_rng(0).random((2, 16, 16)).astype(np.float32)
    low_res[1] *= 7
    unit = error_unit(np.zeros((2, 32, 32), np.float32), low_res)
    np.testing.assert_allclose(unit[0], FLOOR * low_res[0].std(), rtol=1e-6)
    np.testing.assert_allclose(unit[1], 7 * FLOOR * (low_res[1] / 7).std(), rtol=1e-5)
    moved = error_unit(np.full((2, 32, 32), 100.0, np.float32), low_res)
    np.testing.assert_allclose(moved, 100.0, rtol=1e-4)


def test_air_is_no_anatomy_and_a_dark_place_within_is() -> None:
    row, column = np.meshgrid(np.arange(64) - 32, np.arange(64) - 32, indexing="ij")
    radius = np.hypot(row, column)
    picture = np.where((radius < 24) & (radius > 6), 100.0, 1.0).astype(np.float32)[None]
    shown = inside_anatomy(picture)[0]
    assert shown[32, 32]
    assert not shown[:4].any()
    assert shown.sum() == pytest.approx(np.pi * 25**2, rel=0.1)
    assert error_quantiles(picture, np.zeros_like(picture), np.ones_like(picture)) is None
