"""What a round of a federation file costs a site, estimated from its settings: nothing is built and nothing is run.

The estimate is held against the site's policy, so it is to be of the right size, not exact.
"""

from __future__ import annotations

from dataclasses import dataclass

from minet_core.settings.federation import FederationSettings
from sites.settings.site_settings import Device
from sites.store.cohort import Cohort

FLOPS_OF_A_WEIGHT = 24
"""Operations of a training step for each weight and low-resolution pixel: three passes of 8. Counted by torch's counter
for the forward pass: MINet 7.6 to 7.9, EDSR 2.0, Zeng et al. 3.6, Lyu et al. 5.9, SMORE 15.9, late
fusion 5.6 to 6.4; all at 2x. At 4x MINet has 24 for each of its pixels, which are four times as large."""

FLOATS_OF_A_CHANNEL = 32
"""Floats kept for the backward pass, for each feature channel, block and low-resolution pixel. Counted by torch's
hooks: 30 for MINet at the paper's size (bytes: docs/results/gpu.md), 46 for the small one, 35 to 52 for the others,
27 to 33 for late fusion; all at 2x."""

BYTES_OF_A_WEIGHT = 16
"""A weight, its gradient and Adam's two moments, float32."""

FLOPS_PER_SECOND: dict[Device, float] = {"auto": 1e13, "cuda": 1e13, "cpu": 5e10}
"""A tenth of what an H200 reaches with MINet at the paper's size (9e13; docs/results/gpu.md), and what a few processor
cores reach. By compute.device, so that every part of a site comes to the same estimate."""

MIN_SLICE_PX = 64
"""Edge of a whole slice where the store is not seen: few scans are smaller."""


@dataclass(frozen=True)
class CostOfRound:
    """Estimates. memory_gb: of a training step, GB of 1e9 bytes. seconds: of a round, declared where it is declared."""

    memory_gb: float
    seconds: float


def cost_of_round(
    federation: FederationSettings, *, site: str, n_parameters: int, device: Device, cohort: Cohort | None
) -> CostOfRound:
    """What a round costs a site, estimated.

    Parameters
    ----------
    federation
        Says the model's size, the patch or slice, the batch and the local work.
    site
        The name whose local work counts.
    n_parameters
        Learnable weights of the model.
    device
        By which the operations per second are taken.
    cohort
        Whose largest training slice and number of training slices count; None: one slice of `MIN_SLICE_PX`.

    Returns
    -------
    CostOfRound
        GB of 1e9 bytes, and seconds.
    """
    model, training = federation.model, federation.training
    # Most layers lie at the high resolution: a low-resolution pixel of 2x, on which the figures were counted, is a
    # quarter of what it is there, whatever the scale.
    n_pixels = _pixels_of_a_sample(federation, cohort) / 4
    n_slices = 1 if cohort is None else cohort.counts["training"].slices
    work = federation.work_of(site)
    n_steps = work.local_steps or (work.local_epochs or 0) * -(-n_slices // training.batch_size)
    n_blocks = model.n_blocks * (model.n_groups if model.architecture == "minet" else 1)
    kept = 4 * FLOATS_OF_A_CHANNEL * n_blocks * model.n_features * n_pixels * training.batch_size
    flops = FLOPS_OF_A_WEIGHT * n_parameters * n_pixels * training.batch_size * n_steps
    return CostOfRound(
        memory_gb=(kept + BYTES_OF_A_WEIGHT * n_parameters) / 1e9,
        seconds=work.local_seconds or flops / FLOPS_PER_SECOND[device],
    )


def _pixels_of_a_sample(federation: FederationSettings, cohort: Cohort | None) -> int:
    if federation.training.patch_px is not None:
        return federation.training.patch_px**2
    if cohort is None:
        return MIN_SLICE_PX**2
    return max((pair.shape[1] * pair.shape[2] for pair, _ in cohort.pairs_of("training")), default=0)
