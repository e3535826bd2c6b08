"""A volume's magnitude: the array itself where it is one, and else a new one."""

from __future__ import annotations

import numpy as np

from minet_core.imaging.volume import Image, Volume


def volume_of(array: Image) -> Volume:
    return Volume(array=array, spacing_mm=(1.0, 1.0, 1.0), affine=np.eye(4), contrast="T1")


def test_a_magnitude_image_is_not_copied() -> None:
    array = np.random.default_rng(71).random((3, 4, 5), np.float32)
    assert volume_of(array).magnitude() is array


def test_of_complex_and_of_negative_values_the_magnitude_is_a_new_array() -> None:
    generator = np.random.default_rng(71)
    signed = generator.normal(size=(2, 3, 4, 5)).astype(np.float32)
    turned = (signed[0] + 1j * signed[1]).astype(np.complex64)
    before = signed.copy()
    np.testing.assert_array_equal(volume_of(signed[0]).magnitude(), np.abs(before[0]))
    np.testing.assert_array_equal(signed, before)
    found = volume_of(turned).magnitude()
    np.testing.assert_allclose(found, np.hypot(before[0], before[1]), rtol=1e-6)
    assert found.dtype == np.float32


def test_a_value_that_is_no_number_stays_one() -> None:
    array = np.ones((2, 2, 2), np.float32)
    array[0, 0, 0] = np.nan
    assert np.isnan(volume_of(array).magnitude()[0, 0, 0])
