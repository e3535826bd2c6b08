"""How many steps a site trains in a round."""

from __future__ import annotations

from minet_core.settings.federation import LocalWork

TIMED_STEPS = 1000
"""Steps that a round of declared seconds counts for in the schedule of the learning rate, and the most it takes."""


def steps_per_round(work: LocalWork, *, n_slices: int, batch_size: int) -> int:
    """Optimizer steps of one round: as declared, as many as local_epochs passes take, or the most of a timed round."""
    if work.local_seconds is not None:
        return TIMED_STEPS
    if work.local_epochs is not None:
        return work.local_epochs * -(-n_slices // batch_size)
    assert work.local_steps is not None  # the federation file declares one of the three
    return work.local_steps
