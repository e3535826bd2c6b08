"""The paper's Fig. 3: input, each method and the target of one slice, and below each method its error map.

A figure holds pixels. It is drawn where the scans are: phantoms anywhere, a patient's slice at the site that owns it.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from client.site_home import SiteHome
from fedminet.experiment.analysis.image_shift import shift_px
from fedminet.experiment.cells import model_of_cell
from fedminet.experiment.methods import METHODS, is_learned
from fedminet.experiment.scores import restored
from fedminet.experiment.study import CellKey, Mode, Study
from minet_core.evaluation.volume_scores import degraded_volume
from minet_core.report.panel import ERROR_PERCENTILE, GREY_PERCENTILE, on_half_pixels
from minet_core.runtime.files.atomic_write import replacing
from sites.store.store import Store

Image = NDArray[np.float32]
ERROR_COLOURS = "inferno"
PIXELS_PER_INCH = 110


@dataclass(frozen=True)
class Panels:
    """One slice of one test patient: the low-resolution image (h, w), the target (H, W), and what each method made."""

    site: str
    scale: int
    low_res: Image
    target: Image
    methods: Mapping[str, Image]

    def error(self, method: str) -> Image:
        """Absolute error as a fraction of the target's maximum."""
        return np.asarray(np.abs(self.methods[method] - self.target) / self.target.max(), dtype=np.float32)

    def shifts_px(self) -> dict[str, float]:
        """By method, how far its image is from the target, in pixels (phase correlation)."""
        return {
            method: float(np.hypot(*shift_px(image, self.target))) for method, image in self.methods.items()
        }


def panels_of(study: Study, *, mode: Mode, seed: int) -> list[Panels]:
    """The slice with most detail of each site's first test patient, at every scale, by every method that is
    done."""
    found = []
    for scale in study.scales:
        for site, home in study.homes(seed).items():
            methods = {}
            low_res, target, reference = _slice_of(home, scale=scale)
            for method in study.methods:
                image = _image(
                    study, method, (low_res, reference), mode=mode, seed=seed, scale=scale, site=site
                )
                if image is not None:
                    methods[method] = image
            found.append(Panels(site, scale, low_res[0], target[0], methods))
    return found


def draw(panels: list[Panels], path: Path) -> None:
    """The figure of all panels as one PNG."""
    with replacing(path) as temporary:
        temporary.write_bytes(_png(figure_of(panels)))


def figure_of(panels: list[Panels]) -> Figure:
    """Two rows a site and scale, images above and error maps below, one error scale a site, at 2x and 4x alike."""
    n_columns = 2 + max(len(one.methods) for one in panels)
    figure = Figure(figsize=(1.8 * n_columns, 3.85 * len(panels)), layout="constrained")
    axes = figure.subplots(2 * len(panels), n_columns, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    ceilings = {
        site: _ceiling([one for one in panels if one.site == site]) for site in {p.site for p in panels}
    }
    for number, one in enumerate(panels):
        upper, lower = axes[2 * number], axes[2 * number + 1]
        white = float(np.percentile(one.target, GREY_PERCENTILE))
        ceiling, shown = ceilings[one.site], None
        images = {"input": on_half_pixels(one.low_res, one.scale), **one.methods, "target": one.target}
        for column, (name, image) in enumerate(images.items()):
            upper[column].imshow(image, cmap="gray", vmin=0, vmax=white, interpolation="none")
            title = METHODS[name].label if name in METHODS else name
            upper[column].set_title(f"{one.site} {one.scale}x: input" if column == 0 else title, fontsize=8)
            if name in one.methods:
                shown = lower[column].imshow(
                    one.error(name), cmap=ERROR_COLOURS, vmin=0, vmax=ceiling, interpolation="none"
                )
        if shown is None:
            continue
        bar = figure.colorbar(shown, cax=lower[0].inset_axes((0.75, 0.1, 0.08, 0.8)), location="left")
        bar.ax.tick_params(labelsize=6)
        bar.set_label("error / target's maximum", fontsize=6)
    return figure


def _ceiling(panels: list[Panels]) -> float:
    """The top of the error scale of a site's panels."""
    return max(
        (float(np.percentile(one.error(m), ERROR_PERCENTILE)) for one in panels for m in one.methods),
        default=1.0,
    )


def _png(figure: Figure) -> bytes:
    FigureCanvasAgg(figure)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=PIXELS_PER_INCH)
    return content.getvalue()


def _slice_of(home: SiteHome, *, scale: int) -> tuple[Image, Image, Image]:
    """(1, h, w), (1, H, W), (1, H, W): low-resolution image, target and reference of the slice of most detail."""
    _, target, reference = next(iter(Store(home.store).volumes("test")))
    detail = [float(np.hypot(*np.gradient(np.abs(image))).sum()) for image in target]
    chosen = slice(int(np.argmax(detail)), int(np.argmax(detail)) + 1)
    truth, low_res, guide = degraded_volume(target[chosen], reference[chosen], scale=scale)
    return low_res, truth, guide


def _image(
    study: Study,
    method: str,
    inputs: tuple[Image, Image],
    *,
    mode: Mode,
    seed: int,
    scale: int,
    site: str,
) -> Image | None:
    """What a method makes of one slice; None where its model is not there yet."""
    if not is_learned(method):
        return np.asarray(restored(method, *inputs, scale=scale)[0])
    member = site if mode in ("local", "without") else None
    model = model_of_cell(study, CellKey(seed, scale, mode, member, method))
    return None if model is None else np.asarray(restored(model, *inputs, scale=scale)[0])
