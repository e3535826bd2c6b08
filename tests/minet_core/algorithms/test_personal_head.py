"""The personal head never travels; the body is averaged."""

from __future__ import annotations

import numpy as np
import pytest

from minet_core.algorithms.interface import Reply
from minet_core.algorithms.personal_head import check_personal
from minet_core.errors import InvalidSetting, WeightsRefused
from minet_core.models.minet.model import MINet
from minet_core.weights.manifest import learnable
from tests.support.least_squares import made

HEAD = ("target_reconstruction.", "reference_reconstruction.")
WEIGHTS = learnable(MINet(scale=2, n_groups=1, n_blocks=1, n_features=4, reduction=2))


def test_no_tensor_of_the_head_is_shared_and_every_other_is() -> None:
    algorithm = made("personal-head", personal=HEAD)
    state = algorithm.init(WEIGHTS)
    head = {name for name in WEIGHTS if name.startswith(HEAD)}
    assert head
    assert set(state.weights) == set(WEIGHTS) - head
    assert {name for name in WEIGHTS if algorithm.shared(name)} == set(state.weights)


def test_the_body_is_averaged_and_the_head_is_nowhere_in_the_new_state() -> None:
    algorithm = made("personal-head", personal=("head.",))
    body, head = np.zeros(2, np.float32), np.ones(2, np.float32)
    state = algorithm.init({"body.weight": body, "head.weight": head})
    new, _ = algorithm.apply(
        state, [Reply("sms", 1, {"body.weight": body + 1}), Reply("umr", 3, {"body.weight": body + 5})]
    )
    assert new.weights.keys() == {"body.weight"}
    assert new.weights["body.weight"].tolist() == [4, 4]


def test_a_reply_that_holds_the_head_is_refused() -> None:
    algorithm = made("personal-head", personal=HEAD)
    with pytest.raises(WeightsRefused, match="names"):
        algorithm.apply(algorithm.init(WEIGHTS), [Reply("sms", 5, WEIGHTS)])


def test_a_state_of_the_body_alone_is_the_same_state() -> None:
    algorithm = made("personal-head", personal=HEAD)
    whole = algorithm.init(WEIGHTS)
    assert algorithm.init(whole.weights).weights.keys() == whole.weights.keys()


@pytest.mark.parametrize("personal", [(), ("",), ("head.", "")])
def test_a_head_without_a_name_is_refused(personal: tuple[str, ...]) -> None:
    with pytest.raises(InvalidSetting, match="names no tensors"):
        made("personal-head", personal=personal)


def test_a_head_that_is_the_whole_model_is_refused() -> None:
    with pytest.raises(InvalidSetting, match="whole model"):
        made("personal-head", personal=("head.",)).init({"head.weight": np.ones(2, np.float32)})


def test_a_misspelt_prefix_is_refused() -> None:
    check_personal(WEIGHTS, personal=HEAD)
    with pytest.raises(InvalidSetting, match=r"target_reconstuction"):
        check_personal(WEIGHTS, personal=("target_reconstuction.", HEAD[1]))
