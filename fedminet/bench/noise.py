"""A batch of noise, for steps that are timed."""

from __future__ import annotations

import torch

from minet_core.seeds import torch_generator
from minet_core.training.samples import Batch


def random_batch(patch_px: int, *, scale: int, batch_size: int) -> Batch:
    """A batch of noise: what a step takes does not depend on the values."""
    generator = torch_generator(0, "bench", "train")
    edge = patch_px // scale
    low_res = torch.randn(batch_size, 1, edge, edge, generator=generator)
    upsampled, reference, target = (
        torch.randn(batch_size, 1, edge * scale, edge * scale, generator=generator) for _ in range(3)
    )
    return Batch(low_res=low_res, upsampled=upsampled, reference=reference, target=target)
