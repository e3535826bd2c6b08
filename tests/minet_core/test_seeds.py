"""Generators derived from what they are for."""

from __future__ import annotations

import torch

from minet_core.seeds import derived_seed, numpy_generator, torch_generator


def test_the_same_purpose_gives_the_same_numbers() -> None:
    first = torch.rand(4, generator=torch_generator(1, 3, "sms", "batches"))
    again = torch.rand(4, generator=torch_generator(1, 3, "sms", "batches"))
    assert torch.equal(first, again)
    assert numpy_generator(1, "x").random() == numpy_generator(1, "x").random()


def test_every_part_of_the_purpose_matters() -> None:
    seeds = {
        derived_seed(1, 3, "sms", "batches"),
        derived_seed(2, 3, "sms", "batches"),
        derived_seed(1, 4, "sms", "batches"),
        derived_seed(1, 3, "umr", "batches"),
        derived_seed(1, 3, "sms", "noise"),
        derived_seed(1, "3", "sms", "batches"),
        derived_seed(1, "3sms", "batches"),
    }
    assert len(seeds) == 7
