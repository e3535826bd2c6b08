"""What the reference adds, against its resolution and against how far it lies from the target.

Each model that looks at a reference gets it low-passed or moved, and is scored as before. The models were trained with
references as they are: the figure is of a model that meets a worse reference than it knows.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from fedminet.experiment.cells import model_of_cell
from fedminet.experiment.formats import Table
from fedminet.experiment.methods import METHODS, is_learned
from fedminet.experiment.scores import restored
from fedminet.experiment.study import CellKey, Mode, Study
from minet_core.evaluation import degraded_volume
from minet_core.fourier import centre_crop, centre_pad, fft2c, ifft2c
from minet_core.metrics import psnr
from minet_core.models.super_resolver import SuperResolver
from minet_core.runtime.durable import replacing
from sites.store import Store

Volume = NDArray[np.float32]

FRACTIONS = (1.0, 0.75, 0.5, 0.375, 0.25)
"""Of the reference's k-space in both directions that is kept."""

SHIFTS_PX = (0.0, 0.5, 1.0, 2.0, 4.0)
"""How far the reference is moved along the rows."""


@dataclass(frozen=True)
class Sensitivity:
    """Mean PSNR [dB] of one method at one site and scale, by the fraction of k-space and by the shift in pixels.

    A method that looks at no reference has one value for all.
    """

    method: str
    site: str
    scale: int
    by_fraction: Mapping[float, float]
    by_shift: Mapping[float, float]


def low_passed(reference: Volume, fraction: float) -> Volume:
    """(S, H, W) magnitude with the central `fraction` of k-space in both directions, on the same grid, not negative."""
    kspace = fft2c(torch.from_numpy(np.ascontiguousarray(reference)))
    # An odd number of lines: the band is symmetric, and the image stays real.
    rows, columns = (n if fraction == 1 else round(fraction * n) // 2 * 2 - 1 for n in reference.shape[-2:])
    kept = centre_pad(centre_crop(kspace, (rows, columns)), tuple(reference.shape[-2:]))
    return np.asarray(ifft2c(kept).real.clamp_min(0).numpy(), dtype=np.float32)


def moved(reference: Volume, shift_px: float) -> Volume:
    """(S, H, W) magnitude moved by `shift_px` towards larger rows, by the phase of its k-space; around the frame."""
    n = reference.shape[-2]
    frequency = (torch.arange(n, dtype=torch.float32) - n // 2) / n
    phase = torch.exp(-2j * torch.pi * frequency * shift_px)[:, None]
    image = ifft2c(fft2c(torch.from_numpy(np.ascontiguousarray(reference))) * phase)
    return np.asarray(image.real.clamp_min(0).numpy(), dtype=np.float32)


def sensitivities(study: Study, *, mode: Mode, seed: int) -> list[Sensitivity]:
    """Of every learned method whose model of this seed and mode is done."""
    found = []
    for scale in study.scales:
        for site, home in study.homes(seed).items():
            tests = [degraded_volume(t, r, scale=scale) for _, t, r in Store(home.store).volumes("test")]
            member = site if mode in ("local", "without") else None
            for method in filter(is_learned, study.methods):
                model = model_of_cell(study, CellKey(seed, scale, mode, member, method))
                if model is not None:
                    found.append(_sensitivity(method, model, site, tests, scale=scale))
    return found


Test = tuple[Volume, Volume, Volume]
"""Truth, low-resolution volume and reference."""


def _sensitivity(
    method: str, model: SuperResolver, site: str, tests: Sequence[Test], *, scale: int
) -> Sensitivity:
    if not model.uses_reference:
        alone = _mean_psnr(model, tests, scale=scale)
        return Sensitivity(
            method, site, scale, dict.fromkeys(FRACTIONS, alone), dict.fromkeys(SHIFTS_PX, alone)
        )
    return Sensitivity(
        method,
        site,
        scale,
        by_fraction={
            fraction: _mean_psnr(
                model, [(t, low, low_passed(r, fraction)) for t, low, r in tests], scale=scale
            )
            for fraction in FRACTIONS
        },
        by_shift={
            shift: _mean_psnr(model, [(t, low, moved(r, shift)) for t, low, r in tests], scale=scale)
            for shift in SHIFTS_PX
        },
    )


def _mean_psnr(model: SuperResolver, tests: Sequence[Test], *, scale: int) -> float:
    return float(np.mean([psnr(truth, restored(model, low, r, scale=scale)) for truth, low, r in tests]))


def sensitivity_tables(found: Sequence[Sensitivity]) -> list[Table]:
    """PSNR by the reference's resolution, and by its shift."""

    def table(title: str, names: Sequence[str], of: Callable[[Sensitivity], Mapping[float, float]]) -> Table:
        return Table(
            title=title,
            header=("method", "scale", "site", *names),
            rows=tuple(
                (
                    METHODS[one.method].label,
                    f"{one.scale}x",
                    one.site,
                    *(f"{v:.2f}" for v in of(one).values()),
                )
                for one in found
            ),
            note="Mean PSNR [dB] over the test patients of the first seed. The models were trained with references as "
            "they are; single-contrast methods have one value.",
        )

    return [
        table(
            "By the part of the reference's k-space that is kept",
            [f"{f:g}" for f in FRACTIONS],
            lambda s: s.by_fraction,
        ),
        table(
            "By how far the reference is moved, pixels", [f"{d:g}" for d in SHIFTS_PX], lambda s: s.by_shift
        ),
    ]


def draw_sensitivities(found: Sequence[Sensitivity], path: Path) -> None:
    """One PNG: a row a site and scale, resolution left and misregistration right."""
    places = list(dict.fromkeys((one.site, one.scale) for one in found))
    figure = Figure(figsize=(10, 2.6 * len(places)), layout="constrained")
    axes = figure.subplots(len(places), 2, squeeze=False, sharey="row")
    for row, (site, scale) in enumerate(places):
        for one in (one for one in found if (one.site, one.scale) == (site, scale)):
            style = "-o" if len(set(one.by_shift.values())) > 1 else "--"
            label = METHODS[one.method].label
            axes[row][0].plot(list(one.by_fraction), list(one.by_fraction.values()), style, label=label, ms=4)
            axes[row][1].plot(list(one.by_shift), list(one.by_shift.values()), style, label=label, ms=4)
        axes[row][0].set_ylabel(f"{site} {scale}x\nPSNR [dB]")
        axes[row][0].invert_xaxis()
        axes[row][0].axvline(1 / scale, color="0.7", lw=1)
        for axis in axes[row]:
            axis.grid(alpha=0.3)
    axes[-1][0].set_xlabel("part of the reference's k-space; grey: what the low-resolution target has")
    axes[-1][1].set_xlabel("reference moved by, pixels")
    axes[0][1].legend(fontsize=8)
    FigureCanvasAgg(figure)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=100)
    with replacing(path) as temporary:
        temporary.write_bytes(content.getvalue())
