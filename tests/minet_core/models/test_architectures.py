"""The settings of the methods, which are read without torch, and the classes that take them."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest
from torch import Tensor, nn

from minet_core.errors import ModelError
from minet_core.models.architectures import SETTINGS_OF
from minet_core.models.base import SuperResolver, conv3x3
from minet_core.models.registry import MODELS, build_model
from minet_core.settings.federation import ModelSettings
from tests.support.repository import ROOT


def test_the_same_methods_are_in_both() -> None:
    assert list(SETTINGS_OF) == list(MODELS)


@pytest.mark.parametrize("name", MODELS)
def test_a_methods_settings_are_the_arguments_of_its_class_that_a_federation_file_sets(name: str) -> None:
    arguments = set(inspect.signature(MODELS[name]).parameters)
    assert SETTINGS_OF[name] == arguments & set(ModelSettings.model_fields)
    assert "scale" in arguments


def test_a_federation_file_is_read_without_torch() -> None:
    code = (
        "import sys\nfrom minet_core.settings.federation import FederationSettings as F\n"
        "content = {'name': 'x', 'sites': ['a'], 'participation': {'quorum': 1}}\n"
        "F.model_validate({**content, 'model': {'architecture': 'lyu'}})\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


class Stateful(SuperResolver):
    """A network with a layer of the caller's choice."""

    def __init__(self, *, scale: int) -> None:
        super().__init__()
        self.scale, self.bicubic_skip, self.uses_reference = scale, True, False
        self.layers = nn.Sequential(conv3x3(1, 4), self.extra(), conv3x3(4, 1))

    def extra(self) -> nn.Module:
        return nn.GroupNorm(2, 4)

    def forward(
        self, low_res: Tensor, reference: Tensor | None = None, upsampled: Tensor | None = None
    ) -> tuple[Tensor, None]:
        return self.layers(self._with_skip(low_res.new_zeros(()), low_res, upsampled)), None


class WithRunningMeans(Stateful):
    def extra(self) -> nn.Module:
        return nn.BatchNorm2d(4)


class WithFrozenWeights(Stateful):
    def extra(self) -> nn.Module:
        return conv3x3(4, 4).requires_grad_(False)


@pytest.mark.parametrize(
    ("kind", "left_behind"),
    [(WithRunningMeans, "num_batches_tracked, .*running_mean"), (WithFrozenWeights, "layers.1.weight")],
)
@pytest.mark.parametrize("members", [1, 2])
def test_a_model_whose_state_would_stay_at_a_site_is_refused(
    kind: type[SuperResolver], left_behind: str, members: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(MODELS, "lyu", kind)
    monkeypatch.setitem(SETTINGS_OF, "lyu", frozenset())
    with pytest.raises(ModelError, match=left_behind):
        build_model({"architecture": "lyu", "members": members}, scale=2)


def test_a_norm_without_running_means_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MODELS, "lyu", Stateful)
    monkeypatch.setitem(SETTINGS_OF, "lyu", frozenset())
    assert build_model({"architecture": "lyu"}, scale=2).scale == 2
