"""What a step of the `quick` preset costs, counted: a guard that does not depend on how busy the machine is.

A change that needs more says so here. FLOPs as torch counts them; saved: bytes kept for the backward pass, each storage
once; operations: calls of torch's library, each some microseconds whatever its size.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from fedminet.bench.side import counted, infer, train

QUICK: dict[str, Any] = {"preset": "quick", "edge": 48, "batch": 8}


@pytest.fixture(autouse=True)
def _in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """On every processor: one that has bfloat16 converts besides, which is more operations."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)


def test_a_step_takes_no_more_work_than_it_did() -> None:
    taken = counted(train(QUICK), backward=True)
    assert taken["flops"] <= 7.08e9
    assert taken["saved_bytes"] <= 88e6
    assert taken["operations"] <= 830


def test_inference_takes_no_more_work_than_it_did() -> None:
    taken = counted(infer({"preset": "quick", "edge": 48, "batch": 1}), backward=False)
    assert taken["flops"] <= 0.3e9
    assert taken["operations"] <= 250


def test_work_that_is_added_is_seen() -> None:
    weight = torch.ones(1, 1, 3, 3, requires_grad=True)
    image = torch.ones(1, 1, 8, 8)

    def work() -> None:
        torch.nn.functional.conv2d(image.clone(), weight).sigmoid().sum().backward()

    taken = counted(work, backward=True)
    # One product and one sum a tap: 6 x 6 x 9 forward, and as many for the weight's gradient.
    assert taken["flops"] == 2 * 2 * 36 * 9
    # The input's 64 numbers and the sigmoid's 36.
    assert taken["saved_bytes"] == 4 * (64 + 36)
    assert 5 <= taken["operations"] <= 20
