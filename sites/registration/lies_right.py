"""Whether a reference on its target's grid lies right there, by the gate, where registration is not sure of a motion.

Blocks of a poor contrast are found here and there about their place, and a motion fitted to them may be wrong by a
pixel: that says nothing about where the patient lay. The gate (`minet_core.evaluation.reference_gate`) asks another
question, whether the reference would fit better elsewhere, and names one that is a pixel off.
"""

from __future__ import annotations

import numpy as np

from minet_core.evaluation.contours import TILE_PX
from minet_core.evaluation.reference_gate import ReferenceGate, judge_reference
from minet_core.imaging.degradation import crop_to_multiple, low_resolution
from minet_core.imaging.interpolation import sinc
from minet_core.imaging.volume import Volume
from minet_core.training.samples import as_tensor

MIN_AGREEMENT = 0.7
"""Agreement of the gate from which a reference that did not register is taken where the scanner put it. Right pairs of
open_ms_data have 0.76 to 0.84, of phantoms 0.80 and more. Another patient's may come near it at 4x, and is named by its
misplacement (docs/results/gate.md)."""
SCALE = 2
"""The target is judged at half its resolution: there the gate's limits are the surer ones."""


def found_right(gate: ReferenceGate | None) -> bool:
    """Whether the gate finds that a reference lies right.

    Parameters
    ----------
    gate
        What it found; None: nothing could be judged.

    Returns
    -------
    bool
        False where it names the reference, or the two agree by less than `MIN_AGREEMENT`.
    """
    return gate is not None and not gate.wrong and gate.agreement >= MIN_AGREEMENT


def lies_right(target: Volume, reference: Volume) -> bool:
    """Whether a reference lies right as it is.

    Parameters
    ----------
    target
        At its full resolution, (slice, row, column).
    reference
        On the same grid.

    Returns
    -------
    bool
        False for slices of less than two tiles of the gate, of which nothing can be told.
    """
    high_res, guide = (crop_to_multiple(as_tensor(one.array), SCALE) for one in (target, reference))
    if min(high_res.shape[1:]) < 2 * TILE_PX:
        return False
    upsampled = sinc(low_resolution(high_res, SCALE).abs(), SCALE, non_negative=True)
    gate = judge_reference(np.asarray(upsampled), np.asarray(guide.abs()), scale=SCALE)
    return found_right(gate)
