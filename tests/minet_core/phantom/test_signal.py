"""Signal equation, partial volume, figures, random fields."""

from __future__ import annotations

import math

import numpy as np
import pytest

from minet_core.phantom.acquisition import FASTMRI, SMS, Contrast
from minet_core.phantom.shapes import coverage, ellipse, section, segment
from minet_core.phantom.signal import Canvas, SignalTable, spin_echo_signal
from minet_core.phantom.texture import fine_field, grid_of, smooth_field
from minet_core.phantom.tissues import TISSUES, Tissue


def test_spin_echo_signal_is_the_closed_form() -> None:
    tissue = Tissue(t1_ms=1000.0, t2_ms=50.0, proton_density=0.8)
    contrast = Contrast("T1", repetition_time_ms=1000.0 * math.log(2), echo_time_ms=50.0 * math.log(4))
    # TR = T1 ln 2 leaves half of the magnetisation, TE = T2 ln 4 a quarter of the transverse one.
    assert spin_echo_signal(tissue, contrast=contrast) == pytest.approx(0.8 * 0.5 * 0.25, rel=1e-12)


def test_fat_suppression_leaves_the_residual_of_the_fat_alone() -> None:
    mixture = Tissue(t1_ms=371.0, t2_ms=133.0, proton_density=0.9, fat_fraction=0.75)
    seen = Contrast("PD", repetition_time_ms=3000.0, echo_time_ms=30.0)
    suppressed = Contrast("FS-PD", repetition_time_ms=3000.0, echo_time_ms=30.0, fat_suppressed=True)
    ratio = spin_echo_signal(mixture, contrast=suppressed, fat_residual=0.04) / spin_echo_signal(
        mixture, contrast=seen, fat_residual=0.04
    )
    assert ratio == pytest.approx(0.25 + 0.75 * 0.04, rel=1e-12)


def test_brain_contrasts_order_the_tissues_as_radiologists_know_them() -> None:
    t1, t2 = (
        {name: spin_echo_signal(tissue, contrast=contrast) for name, tissue in TISSUES.items()}
        for contrast in SMS.contrasts
    )
    assert t2["csf"] > t2["grey_matter"] > t2["white_matter"]
    assert t1["fat"] > t1["white_matter"] > t1["grey_matter"] > t1["csf"]
    # At the printed TR of 2001 ms, without inversion, T1 contrast is mild.
    assert 1.02 < t1["white_matter"] / t1["grey_matter"] < 1.15


def test_knee_contrasts_order_the_tissues_as_radiologists_know_them() -> None:
    pd, fs = (
        {
            name: spin_echo_signal(tissue, contrast=contrast, fat_residual=FASTMRI.fat_residual)
            for name, tissue in TISSUES.items()
        }
        for contrast in FASTMRI.contrasts
    )
    assert pd["fat"] > pd["cartilage"] > pd["muscle"] > pd["meniscus"] > pd["cortical_bone"]
    assert fs["synovial_fluid"] > fs["cartilage"] > fs["muscle"] > fs["marrow"] > fs["fat"]


@pytest.mark.parametrize(
    ("lesion", "host", "acquisition", "seen_in"),
    [
        ("demyelination", "white_matter", SMS, 1),
        ("enhancement", "white_matter", SMS, 0),
        ("marrow_oedema", "marrow", FASTMRI, 1),
        ("fatty_focus", "marrow", FASTMRI, 0),
    ],
)
def test_lesion_shows_in_one_contrast(lesion, host, acquisition, seen_in) -> None:
    contrasts = [
        spin_echo_signal(TISSUES[lesion], contrast=one, fat_residual=0.06)
        - spin_echo_signal(TISSUES[host], contrast=one, fat_residual=0.06)
        for one in acquisition.contrasts
    ]
    # Ten times the noise in one, and there at least three times what the other shows.
    assert abs(contrasts[seen_in]) > 10 * acquisition.noise
    assert abs(contrasts[seen_in]) > 3 * abs(contrasts[1 - seen_in])


def test_painted_pixel_holds_both_tissues_by_their_share() -> None:
    table = SignalTable(SMS.contrasts, fat_residual=0.06)
    canvas = Canvas(table, (1, 2))
    canvas.paint("csf", np.ones((1, 2), np.float32))
    canvas.paint("white_matter", np.array([[0.25, 1.0]], np.float32))
    for plane, fluid, white in zip(
        canvas.planes, table.values["csf"], table.values["white_matter"], strict=True
    ):
        np.testing.assert_allclose(plane[0], [0.75 * fluid + 0.25 * white, white], rtol=1e-6)  # float32


def test_texture_changes_the_signal_as_the_equation_does() -> None:
    table = SignalTable(SMS.contrasts, fat_residual=0.06)
    canvas = Canvas(table, (1, 1))
    canvas.paint("muscle", np.ones((1, 1), np.float32), texture=np.ones((1, 1), np.float32))
    for plane, contrast in zip(canvas.planes, SMS.contrasts, strict=True):
        exact = spin_echo_signal(TISSUES["muscle"], contrast=contrast, texture=1.0)
        assert plane[0, 0] == pytest.approx(exact, rel=0.05)  # linearised: second order in 5%


def test_ellipse_is_a_signed_distance_at_its_boundary() -> None:
    angles = np.linspace(0, 2 * np.pi, 50, dtype=np.float32)
    normal_x, normal_y = np.cos(angles) / 3, np.sin(angles) / 2
    length = np.hypot(normal_x, normal_y)
    for step in (-0.01, 0.0, 0.01):
        x = (3 * np.cos(angles) + step * normal_x / length).astype(np.float32)
        y = (2 * np.sin(angles) + step * normal_y / length).astype(np.float32)
        distance = ellipse(x, y, centre=(0.0, 0.0), radii=(3.0, 2.0))
        np.testing.assert_allclose(distance, step, atol=2e-4)  # second order in the step over the radius


def test_covered_pixels_sum_to_the_figure_s_area() -> None:
    axis = np.arange(-20, 21, dtype=np.float32)
    x, y = np.meshgrid(axis, axis)
    share = coverage(ellipse(x, y, centre=(0.3, -0.2), radii=(9.0, 6.0)), edge_mm=1.0)
    assert share.sum() == pytest.approx(np.pi * 9 * 6, rel=0.01)


def test_segment_distance_at_known_points() -> None:
    x, y = np.array([0.0, 3.0, 6.0], np.float32), np.array([2.0, 0.0, 4.0], np.float32)
    np.testing.assert_allclose(segment(x, y, start=(-1.0, 0.0), end=(3.0, 0.0)), [2.0, 0.0, 5.0], atol=1e-6)


def test_section_of_an_ellipsoid() -> None:
    assert section(0.0, centre_mm=0.0, half_length_mm=5.0) == 1.0
    assert section(3.0, centre_mm=0.0, half_length_mm=5.0) == pytest.approx(0.8)
    assert section(6.0, centre_mm=0.0, half_length_mm=5.0) == 0.0


def test_smooth_field_gradient_is_its_derivative() -> None:
    grid = grid_of(SMS)
    field = smooth_field(grid, np.random.default_rng(0), scale_mm=12.0, slice_scale_mm=15.0)
    down, across = np.gradient(field.at(4), grid.rows_mm, grid.columns_mm)
    numerical = np.hypot(down, across)[2:-2, 2:-2]
    # Central differences of a cubic over 0.7 mm steps against a scale of 12 mm.
    np.testing.assert_allclose(field.steepness_at(4)[2:-2, 2:-2], numerical, atol=0.004)


def test_fields_have_unit_variance_and_follow_their_generator() -> None:
    grid = grid_of(SMS)
    one, same = (
        fine_field(grid, np.random.default_rng(4), width_px=0.7, along_rows_px=3.0) for _ in range(2)
    )
    np.testing.assert_array_equal(one, same)
    assert one.std() == pytest.approx(1.0, rel=1e-3)
    smooth = smooth_field(grid, np.random.default_rng(4), scale_mm=6.0, slice_scale_mm=6.0)
    spread = np.std([smooth.at(index) for index in range(grid.shape[0])])
    assert spread == pytest.approx(
        1.0, abs=0.15
    )  # about 20 000 control points, correlated with their neighbours
