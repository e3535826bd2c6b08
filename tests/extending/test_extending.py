"""The page docs/extending.md, run: its model and its aggregation are registered by its lines and trained."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.site_home import SiteHome
from fedminet.simulation.simulate import federate
from minet_core.algorithms.registry import ALGORITHMS
from minet_core.checkpoint import load_checkpoint
from minet_core.errors import InvalidSetting
from minet_core.models.architectures import SETTINGS_OF
from minet_core.models.registry import MODELS
from minet_core.protocol.exchange_plan import initial_weights
from minet_core.settings.federation import FederationSettings
from tests.faults.tiny_sites import make_tiny_sites, tiny_federation
from tests.support.repository import ROOT

PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
BLOCKS = dict(re.findall(r"```python (\S+)\n(.*?)```", PAGE, re.DOTALL))
BRIEF = {"rounds": 2, "training": {"local_steps": 2, "patch_px": 16, "batch_size": 2, "validation_slices": 1}}


@pytest.fixture(scope="module")
def homes(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, SiteHome]:
    return make_tiny_sites(tmp_path_factory.mktemp("extending"))


def registered(what: str) -> dict[str, Any]:
    """What the page's line adds to the dict, of what the page's file defines."""
    namespace: dict[str, Any] = {"__name__": f"extending.{what}"}
    exec(compile(BLOCKS[what], f"docs/extending.md:{what}", "exec"), namespace)
    return entries(f"{what}-line", namespace)


def entries(line: str, namespace: dict[str, Any]) -> dict[str, Any]:
    """What a line of the page adds to its dict."""
    return dict(eval("{" + BLOCKS[line] + "}", namespace))


def trained(folder: Path, federation: FederationSettings, homes: Mapping[str, SiteHome]) -> Mapping[str, Any]:
    run = federate(folder, federation, homes, lambda *_: None)
    assert run.state.status == "completed"
    weights = load_checkpoint(run.global_model)[0]
    return {name: tensor.numpy() for name, tensor in weights.items()}


def test_the_pages_model_is_trained_by_a_federation(
    tmp_path: Path, homes: Mapping[str, SiteHome], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = {"architecture": "shallow", "n_features": 4}
    with pytest.raises(InvalidSetting, match="there is no model shallow"):
        tiny_federation(model=model)
    for name, made in registered("model").items():
        monkeypatch.setitem(MODELS, name, made)
    for name, settings in entries("model-settings-line", {}).items():
        monkeypatch.setitem(SETTINGS_OF, name, settings)
    federation = tiny_federation(model=model, **BRIEF)
    weights = trained(tmp_path / "run", federation, homes)
    before = initial_weights(federation)[1]
    assert set(weights) == set(before)
    assert all((weights[name] != before[name]).any() for name in before)
    with pytest.raises(InvalidSetting, match="n_blocks is no setting"):
        tiny_federation(model={**model, "n_blocks": 3})


def test_the_pages_aggregation_is_the_median_of_the_replies(
    tmp_path: Path, homes: Mapping[str, SiteHome], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InvalidSetting, match="there is no federated algorithm fedmedian"):
        tiny_federation(algorithm={"name": "fedmedian"})
    for name, made in registered("aggregation").items():
        monkeypatch.setitem(ALGORITHMS, name, made)
    ours = trained(tmp_path / "run", tiny_federation(algorithm={"name": "fedmedian"}, **BRIEF), homes)
    rule = {"name": "fedavg", "rule": "median"}
    built_in = trained(tmp_path / "median", tiny_federation(algorithm=rule, **BRIEF), homes)
    for name, array in ours.items():
        # Two rounds of the same medians, each rounded once to float32.
        np.testing.assert_allclose(array, built_in[name], rtol=1e-5, atol=1e-6)
