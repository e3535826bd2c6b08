"""The spin-echo signal equation, and a slice painted with its values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from minet_core.phantom.acquisition import Contrast
from minet_core.phantom.tissues import TISSUES, Tissue

Plane = NDArray[np.float32]


def spin_echo_signal(
    tissue: Tissue, *, contrast: Contrast, fat_residual: float = 0.06, texture: float = 0.0
) -> float:
    """Signal of a spin echo, S = PD (1 - exp(-TR/T1)) exp(-TE/T2).

    Parameters
    ----------
    tissue
        T1, T2 and PD.
    contrast
        TR, TE and whether fat is suppressed.
    fat_residual
        What fat suppression leaves of the fat's share of the signal, 0 to 1.
    texture
        Standard deviations of the fine texture at this point; it changes PD and T2 together, as a change of water
        content does.

    Returns
    -------
    float
        In units of fully relaxed water at TE = 0.
    """
    proton_density = tissue.proton_density * (1 + tissue.texture * texture)
    t2_ms = tissue.t2_ms * (1 + 2 * tissue.texture * texture)
    saturation = 1 - math.exp(-contrast.repetition_time_ms / tissue.t1_ms)
    signal = proton_density * saturation * math.exp(-contrast.echo_time_ms / t2_ms)
    kept = 1 - tissue.fat_fraction * (1 - fat_residual) if contrast.fat_suppressed else 1.0
    return signal * kept


class SignalTable:
    """What every tissue gives in every contrast: a value, and its slope with the fine texture.

    The slope is the signal equation linearised about no texture (the texture is a few per cent).

    Parameters
    ----------
    contrasts
        Of the acquisition, in the order of the planes.
    fat_residual
        What fat suppression leaves of the fat's share of the signal, 0 to 1.
    tissues
        By name: those of `TISSUES`, or a patient's own.
    """

    def __init__(
        self,
        contrasts: Sequence[Contrast],
        *,
        fat_residual: float,
        tissues: Mapping[str, Tissue] = TISSUES,
    ) -> None:
        self.n_contrasts = len(contrasts)
        self.values: dict[str, list[float]] = {}
        self.slopes: dict[str, list[float]] = {}
        for name, tissue in tissues.items():
            at = [
                [
                    spin_echo_signal(tissue, contrast=contrast, fat_residual=fat_residual, texture=step)
                    for contrast in contrasts
                ]
                for step in (-1.0, 0.0, 1.0)
            ]
            self.values[name] = at[1]
            self.slopes[name] = [(above - below) / 2 for below, above in zip(at[0], at[2], strict=True)]


class Canvas:
    """One slice in all contrasts, painted tissue over tissue.

    `planes` are (contrast, row, column) float32. Painting a tissue with coverage a leaves (1 - a) of what was there:
    a pixel on a boundary holds both tissues' signals by their share of it, which is the partial-volume effect.

    Parameters
    ----------
    table
        What each tissue gives.
    shape : (rows, columns)
        Of the slice, which begins without signal.
    """

    def __init__(self, table: SignalTable, shape: tuple[int, int]) -> None:
        self.table = table
        self.planes = np.zeros((table.n_contrasts, *shape), np.float32)

    def paint(self, tissue: str, coverage: Plane, *, texture: Plane | None = None) -> None:
        """Cover the slice with a tissue, in all contrasts.

        Parameters
        ----------
        tissue
            A name of `TISSUES`.
        coverage : (row, column) float32
            Share of each pixel, 0 to 1.
        texture : (row, column) float32
            Of unit variance; None for none.
        """
        values, slopes = self.table.values[tissue], self.table.slopes[tissue]
        for plane, value, slope in zip(self.planes, values, slopes, strict=True):
            change = np.float32(value) - plane
            if texture is not None and slope != 0.0:
                change += np.float32(slope) * texture
            change *= coverage
            plane += change
