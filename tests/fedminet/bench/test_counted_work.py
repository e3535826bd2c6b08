"""What a step of the `quick` preset and a round's messages cost, counted: a guard that no busy machine disturbs.

A change that needs more says so here. FLOPs as torch counts them; saved: bytes kept for the backward pass, each storage
once; operations: calls of torch's library, each some microseconds whatever its size.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import Message

from client.flower import timeouts
from fedminet.bench.side import counted, infer, train
from fedminet.simulation.in_process_grid import server_identity
from server.flower.held_answers import APPLICATION_ASKS, HOLD_S, NODE_ASKS
from server.flower.private_names import get_all_nested_objects
from server.rounds.exchange import HELD_LOOK_SPAN_S, request

QUICK: dict[str, Any] = {"preset": "quick", "edge": 48, "batch": 8}


@pytest.fixture(autouse=True)
def _in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """On every processor: one that has bfloat16 converts besides, which is more operations."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)


def test_a_step_takes_no_more_work_than_it_did() -> None:
    taken = counted(train(QUICK), backward=True)
    assert taken["flops"] <= 7.08e9
    assert taken["saved_bytes"] <= 74e6
    # Some 45 are views, by which joined maps and sub-pixels keep their channels beside each other.
    assert taken["operations"] <= 850


def test_inference_takes_no_more_work_than_it_did() -> None:
    taken = counted(infer({"preset": "quick", "edge": 48, "batch": 1}), backward=False)
    assert taken["flops"] <= 0.3e9
    assert taken["operations"] <= 290  # 24 of them ask a tensor for the dtype that it has, 40 are views


def test_inference_in_bfloat16_takes_no_more_work_than_it_did(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    taken = counted(infer({"preset": "quick", "edge": 48, "batch": 1}), backward=False)
    assert taken["operations"] <= 440  # a hundred of them convert weights and biases


def test_a_message_has_no_more_parts_than_it_had() -> None:
    """Each part is a call of its own to the SuperLink, to the node and to the task: 10 ms of a processor a round.

    Message, records, weights, array and chunk, and the record of values; of what goes to several sites, all but the
    first are the same, and are sent once.
    """
    weights = {"w": np.ones(3, np.float32)}
    content = request(weights, round_number=1, run="run", digest="0" * 64)
    with server_identity():
        to_sites = [Message(content, node, "train", group_id="1") for node in (1, 2, 3)]
        parts = [set(get_all_nested_objects(message)) for message in to_sites]
    assert [len(of) for of in parts] == [6, 6, 6]
    assert len(set.union(*parts)) == 8


def test_questions_wait_for_their_answers() -> None:
    """An idle node asks once in two seconds, and an application once in one: not several times a second."""
    assert HOLD_S == {NODE_ASKS: 2.0, APPLICATION_ASKS: 1.0}
    assert HELD_LOOK_SPAN_S[0] < HOLD_S[APPLICATION_ASKS] < HELD_LOOK_SPAN_S[1]
    assert HOLD_S[NODE_ASKS] > timeouts.HELD_LOOK_S


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
