"""Images with error maps: for the report, one by one; for a README, all sites on one sheet.

Within a site one grey scale serves every image of the target's contrast and one colour scale every error map.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.patches import Rectangle
from PIL import Image

from minet_core.report.charts import data_uri
from minet_core.report.panel import FloatImage, Panel, display_ceiling
from minet_core.runtime.files import atomic_write

ERROR_COLOURS = "inferno"
README_TITLES = (
    "target",
    "reference",
    "low-res",
    "sinc",
    "global model",
    "target",
    "error, sinc",
    "error, global",
)
WINDOW_COLOUR = "#F0E442"
README_LIMIT_BYTES = 250_000


@dataclass(frozen=True)
class Tile:
    """One column of the report's sheet: the slice, its enlarged detail, and its error map where it has one.

    mean_error: mean absolute error over the slice, as a fraction of the target's maximum.
    """

    label: str
    image_uri: str
    detail_uri: str
    error_uri: str | None
    mean_error: float | None


@dataclass(frozen=True)
class Sheet:
    """What the report draws of one panel. `window` is left, top, width, height in percent of the image."""

    tiles: tuple[Tile, ...]
    window: tuple[float, float, float, float]
    error_ceiling: float
    aspect: float
    slice_number: int


def sheet_of(panel: Panel) -> Sheet:
    """What the report draws of a panel.

    Parameters
    ----------
    panel
        One slice of one patient.

    Returns
    -------
    Sheet
        Images as PNG addresses in the order reference, low-res, sinc, bicubic, global, target.
    """
    rows, columns = panel.detail_window()
    grey = display_ceiling(panel.target)
    ceiling = panel.error_ceiling()
    images = {
        "reference": (panel.reference, display_ceiling(panel.reference), None),
        "low resolution": (panel.low_res_shown(), grey, None),
        "sinc": (panel.sinc, grey, "sinc"),
        "bicubic": (panel.bicubic, grey, "bicubic"),
        "global model": (panel.output, grey, "output"),
        "target": (panel.target, grey, None),
    }
    tiles = []
    for label, (image, white, method) in images.items():
        error = None if method is None else panel.error(method)
        is_low = label == "low resolution"
        detail = panel.low_res_shown((rows, columns)) if is_low else image[rows, columns]
        tiles.append(
            Tile(
                label=label,
                image_uri=_png_uri(image, white, "gray"),
                detail_uri=_png_uri(detail, white, "gray"),
                error_uri=None if error is None else _png_uri(error, ceiling, ERROR_COLOURS),
                mean_error=None if error is None else float(error.mean()),
            )
        )
    height, width = panel.target.shape
    window = (
        100 * columns.start / width,
        100 * rows.start / height,
        100 * (columns.stop - columns.start) / width,
        100 * (rows.stop - rows.start) / height,
    )
    return Sheet(tuple(tiles), window, ceiling, width / height, panel.slice_number)


def colour_bar_uri() -> str:
    """The error maps' colours from 0 to their ceiling, left to right.

    Returns
    -------
    str
        A PNG address.
    """
    ramp = np.linspace(0, 1, 256, dtype=np.float32)[np.newaxis]
    return _png_uri(ramp, 1.0, ERROR_COLOURS)


def figure_for_readme(panels: dict[str, Panel], path: Path) -> None:
    """Write one PNG of all sites, a row per site.

    A row has the target with its detail framed, then the detail in the reference, the low-resolution image, sinc, the
    global model and the target, and two error maps.

    Parameters
    ----------
    panels
        By site, one slice of one patient; at least one.
    path
        Of the PNG, of at most `README_LIMIT_BYTES`.

    Raises
    ------
    DiskFull
        FM-S504, and the other failures of writing (`FileNotWritten`).
    """
    pixels_per_inch = 150.0
    content = _readme_png(panels, pixels_per_inch=pixels_per_inch)
    while len(content) > README_LIMIT_BYTES:  # bytes grow with the number of pixels
        pixels_per_inch *= 0.95 * (README_LIMIT_BYTES / len(content)) ** 0.5
        content = _readme_png(panels, pixels_per_inch=pixels_per_inch)
    with atomic_write.replacing(path) as temporary:
        temporary.write_bytes(content)


def _readme_png(panels: dict[str, Panel], *, pixels_per_inch: float) -> bytes:
    figure = Figure(figsize=(10.4, 1.2 * len(panels) + 0.26))  # square cells under one line of titles
    FigureCanvasAgg(figure)
    top = 1 - 0.24 / figure.get_figheight()
    grid = GridSpec(
        len(panels),
        len(README_TITLES) + 1,
        figure=figure,
        left=0.028,
        right=0.955,
        top=top,
        bottom=0.004,
        wspace=0.03,
        hspace=0.03,
        width_ratios=[1.0] * len(README_TITLES) + [0.06],
    )
    for row, (name, panel) in enumerate(panels.items()):
        for column, (image, white, colours) in enumerate(_readme_images(panel)):
            axes = figure.add_subplot(grid[row, column])
            axes.set_axis_off()
            axes.imshow(_shaded(image, white), cmap=colours, vmin=0, vmax=1, interpolation="nearest")
            if row == 0:
                axes.set_title(README_TITLES[column], fontsize=8.5, pad=3)
            if column == 0:
                _frame_detail(axes, panel)
                axes.text(
                    -0.04, 0.5, name, rotation=90, fontsize=9, va="center", ha="right",
                    transform=axes.transAxes, parse_math=False,
                )  # fmt: skip
        _readme_colour_bar(figure, grid, row, panel)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=pixels_per_inch, pil_kwargs={"optimize": True})
    return buffer.getvalue()


def _readme_images(panel: Panel) -> list[tuple[FloatImage, float, str]]:
    window = panel.detail_window()
    grey, ceiling = display_ceiling(panel.target), panel.error_ceiling()
    return [
        (panel.target, grey, "gray"),
        (panel.reference[window], display_ceiling(panel.reference), "gray"),
        (panel.low_res_shown(window), grey, "gray"),
        (panel.sinc[window], grey, "gray"),
        (panel.output[window], grey, "gray"),
        (panel.target[window], grey, "gray"),
        (panel.error("sinc")[window], ceiling, ERROR_COLOURS),
        (panel.error("output")[window], ceiling, ERROR_COLOURS),
    ]


def _frame_detail(axes: Axes, panel: Panel) -> None:
    rows, columns = panel.detail_window()
    edge = rows.stop - rows.start
    axes.add_patch(
        Rectangle((columns.start - 0.5, rows.start - 0.5), edge, edge, fill=False, edgecolor=WINDOW_COLOUR)
    )


def _readme_colour_bar(figure: Figure, grid: GridSpec, row: int, panel: Panel) -> None:
    scale = ScalarMappable(Normalize(0, 100 * panel.error_ceiling()), ERROR_COLOURS)
    bar = figure.colorbar(scale, cax=figure.add_subplot(grid[row, -1]))
    bar.ax.tick_params(labelsize=7, length=2, pad=1.5)
    bar.outline.set_linewidth(0.4)
    if row == 0:
        bar.ax.set_title("%", fontsize=8.5, pad=3)


def _png_uri(image: FloatImage, white: float, colours: str) -> str:
    """A PNG of one byte a pixel, which names one of 256 colours: a quarter of the bytes to write and to compress."""
    levels = np.minimum(_shaded(image, white) * np.float32(256), 255).astype(np.uint8)
    picture = Image.fromarray(levels)
    picture.putpalette(colormaps[colours](np.arange(256), bytes=True)[:, :3].tobytes())
    buffer = io.BytesIO()
    picture.save(buffer, format="png", optimize=True)
    return data_uri(buffer.getvalue(), "image/png")


def _shaded(image: FloatImage, white: float) -> FloatImage:
    """0 for black to 1 for white; clipped first, since a black target makes the quotient overflow."""
    return np.clip(image, 0, white) / np.float32(white)
