"""How a scan's power falls with spatial frequency: what tells a scan that is less sharp from another of its kind.

Over the frequencies that a scan resolves its power falls about as a power of the frequency. A patient who moved, a
scanner's window or a softer protocol makes it fall faster, whatever the contrast.

S slice, H row, W column.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

INNER, OUTER = 0.3, 0.95
"""The frequencies that are looked at, of the highest that was measured: beyond the anatomy's outline, and short of what
a filter does at the edge."""
N_RINGS = 14
MIN_RINGS = 6


def spectral_slope(volume: NDArray[np.float32], *, band: float = 1.0) -> float | None:
    """The exponent by which the power of a scan falls with spatial frequency.

    Parameters
    ----------
    volume : (S, H, W) float32
        Magnitude in any unit.
    band
        Part of k-space that was measured (`minet_core.imaging.scan_figures.occupied_band`).

    Returns
    -------
    float or None
        Below 0 where it falls: -2 to -4 for anatomy. None for slices too small, or without power, to tell.
    """
    n_rows, n_columns = volume.shape[1:]
    window = np.hanning(n_rows)[:, None] * np.hanning(n_columns)  # else the frame's own edges are looked at
    power = np.zeros((n_rows, n_columns // 2 + 1))
    for one in volume:
        power += np.abs(np.fft.rfft2(one * window)) ** 2
    frequency = 2 * np.hypot(np.fft.fftfreq(n_rows)[:, None], np.fft.rfftfreq(n_columns)[None]) / band
    edges = np.linspace(INNER, OUTER, N_RINGS + 1)
    ring = np.digitize(frequency, edges) - 1
    inside = (ring >= 0) & (ring < N_RINGS)
    n_values = np.bincount(ring[inside], minlength=N_RINGS)
    total = np.bincount(ring[inside], weights=power[inside], minlength=N_RINGS)
    known = (n_values > 0) & (total > 0)
    if known.sum() < MIN_RINGS:
        return None
    middle = (edges[:-1] + edges[1:])[known] / 2
    slope, _ = np.polyfit(np.log(middle), np.log(total[known] / n_values[known]), 1)
    return float(slope)
