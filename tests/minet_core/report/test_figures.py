"""Panels, the sheet of images in the report, and the picture for a README."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from matplotlib import colormaps
from matplotlib.image import imread
from numpy.typing import NDArray

from minet_core.errors import ScanInvalid
from minet_core.report.figures import README_LIMIT_BYTES, figure_for_readme, sheet_of
from minet_core.report.panel import Panel, display_ceiling, on_half_pixels

ROWS, COLUMNS = 48, 64


def panel(**changes: NDArray[np.float32]) -> Panel:
    """A slice with fine texture in one square of its middle; every method errs by a known amount."""
    generator = np.random.default_rng(3)
    target = np.full((ROWS, COLUMNS), 0.5, dtype=np.float32)
    target[20:32, 28:44] += generator.uniform(0, 0.5, (12, 16)).astype(np.float32)
    images = {
        "low_res": target[::2, ::2],
        "reference": target[::-1].copy(),
        "sinc": target + np.float32(0.04),
        "bicubic": target - np.float32(0.06),
        "output": target + np.float32(0.01),
        "target": target,
    }
    return Panel(**(images | changes), slice_number=7)


def decoded(uri: str) -> NDArray[np.float32]:
    return np.asarray(imread(io.BytesIO(base64.b64decode(uri.split(",")[1])), format="png"))


def test_the_error_is_a_fraction_of_the_targets_maximum() -> None:
    made = panel()
    np.testing.assert_allclose(made.error("sinc"), 0.04 / made.target.max(), rtol=1e-4)


def test_one_error_scale_reaches_the_largest_error_of_all_methods() -> None:
    made = panel()
    assert made.error_ceiling() == pytest.approx(0.06 / made.target.max(), rel=1e-4)


def test_the_detail_is_where_the_target_is_finest_and_on_low_resolution_pixels() -> None:
    rows, columns = panel().detail_window()
    assert rows.stop - rows.start == columns.stop - columns.start == 12
    assert rows.start % 2 == columns.start % 2 == 0
    assert 16 <= rows.start <= 24
    assert 26 <= columns.start <= 36


@pytest.mark.parametrize("scale", [2, 4])
def test_a_low_resolution_image_is_shown_where_it_lies(scale: int) -> None:
    """Repeating its pixels would show it moved by (scale - 1) / 2: half a pixel at 2x, one and a half at 4x."""
    row, column = np.meshgrid(np.arange(128.0), np.arange(128.0), indexing="ij")
    disc = (1 / (1 + np.exp((np.hypot(row - 60, column - 66) - 32) / 3))).astype(np.float32)
    low = disc[::scale, ::scale]

    def middle(image: NDArray[np.float32]) -> tuple[float, float]:
        """Centre of mass of an image on half pixels, in pixels of the high-resolution grid."""
        rows, columns = np.indices(image.shape) / 2 - 0.25
        return float((rows * image).sum() / image.sum()), float((columns * image).sum() / image.sum())

    assert middle(np.repeat(np.repeat(disc, 2, axis=0), 2, axis=1)) == pytest.approx((60, 66), abs=0.01)
    assert middle(on_half_pixels(low, scale)) == pytest.approx((60, 66), abs=0.05)
    late = (scale - 1) / 2
    repeated = np.repeat(np.repeat(low, 2 * scale, axis=0), 2 * scale, axis=1)
    assert middle(repeated) == pytest.approx((60 + late, 66 + late), abs=0.05)


def test_the_detail_of_the_low_resolution_image_is_of_the_same_place() -> None:
    made = panel()
    rows, columns = made.detail_window()
    whole, detail = made.low_res_shown(), made.low_res_shown((rows, columns))
    assert whole.shape == (2 * ROWS, 2 * COLUMNS)
    np.testing.assert_array_equal(
        detail, whole[2 * rows.start : 2 * rows.stop, 2 * columns.start : 2 * columns.stop]
    )


def test_the_detail_does_not_depend_on_any_method() -> None:
    noise = np.random.default_rng(1).normal(size=(ROWS, COLUMNS)).astype(np.float32)
    assert panel(output=noise, sinc=noise).detail_window() == panel().detail_window()


def test_a_bright_rim_is_not_taken_for_the_detail() -> None:
    target = panel().target.copy()
    target[:3] = 50
    rows, _ = panel(target=target).detail_window()
    assert rows.start >= ROWS // 6 // 2 * 2


def test_equal_values_are_drawn_equally_in_every_image_of_the_targets_contrast() -> None:
    tiles = {tile.label: tile for tile in sheet_of(panel(output=panel().target)).tiles}
    assert list(tiles) == ["reference", "low resolution", "sinc", "bicubic", "global model", "target"]
    np.testing.assert_array_equal(
        decoded(tiles["global model"].image_uri), decoded(tiles["target"].image_uri)
    )
    assert decoded(tiles["target"].image_uri).shape[:2] == (ROWS, COLUMNS)
    assert decoded(tiles["target"].detail_uri).shape[:2] == (12, 12)


def test_a_perfect_output_has_the_darkest_error_map() -> None:
    tiles = {tile.label: tile for tile in sheet_of(panel(output=panel().target)).tiles}
    assert tiles["global model"].mean_error == 0
    perfect, sinc = (decoded(tiles[label].error_uri or "") for label in ("global model", "sinc"))
    assert perfect[..., :3].max() < 0.05 < sinc[..., :3].max()
    assert tiles["target"].error_uri is None


def test_a_constant_black_slice_is_drawn() -> None:
    black = np.zeros((ROWS, COLUMNS), dtype=np.float32)
    made = panel(**dict.fromkeys(("reference", "sinc", "bicubic", "output", "target"), black))
    assert len(sheet_of(made).tiles) == 6


@pytest.mark.parametrize(
    "changes",
    [
        {"sinc": np.zeros((ROWS, COLUMNS - 1), dtype=np.float32)},
        {"low_res": np.zeros((ROWS // 2 + 1, COLUMNS // 2), dtype=np.float32)},
        {"low_res": np.zeros((ROWS // 2, COLUMNS // 4), dtype=np.float32)},
        {"target": np.zeros((ROWS, COLUMNS, 1), dtype=np.float32)},
        {"output": np.full((ROWS, COLUMNS), np.nan, dtype=np.float32)},
    ],
)
def test_images_that_do_not_belong_together_are_refused(changes: dict[str, NDArray[np.float32]]) -> None:
    with pytest.raises(ScanInvalid, match="panel"):
        panel(**changes)


def test_the_readme_picture_stays_small(tmp_path: Path) -> None:
    generator = np.random.default_rng(2)
    noise = generator.uniform(size=(320, 320)).astype(np.float32)  # noise does not compress: the worst case
    noisy = Panel(noise[::2, ::2], noise, noise * 0.9, noise * 0.8, noise * 0.95, noise, slice_number=0)
    figure_for_readme({"sms": noisy, "umr": noisy, "fastmri": noisy}, tmp_path / "picture.png")
    size = (tmp_path / "picture.png").stat().st_size
    assert 10_000 < size <= README_LIMIT_BYTES
    assert imread(tmp_path / "picture.png").shape[1] >= 300


@pytest.mark.parametrize(("place", "colours"), [("image_uri", "gray"), ("error_uri", "inferno")])
def test_a_pixel_has_the_colour_that_matplotlib_gives_its_value(place: str, colours: str) -> None:
    made = panel()
    tile = next(one for one in sheet_of(made).tiles if one.label == "sinc")
    shown = (
        np.clip(made.sinc / display_ceiling(made.target), 0, 1)
        if place == "image_uri"
        else made.error("sinc") / made.error_ceiling()
    )
    expected = colormaps[colours](shown, bytes=True)[..., :3]
    found = np.round(255 * decoded(getattr(tile, place))).astype(np.uint8)
    np.testing.assert_array_equal(found[..., :3] if found.ndim == 3 else found[..., np.newaxis], expected)
