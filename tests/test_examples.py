"""The examples in the docstrings of the functions that a researcher calls first run as they are printed."""

from __future__ import annotations

import ast
import doctest
import importlib
from pathlib import Path

import pytest
import torch

from tests.support.repository import ROOT

ROOMS = ("minet_core", "sites")

EXAMPLES = (
    "minet_core.algorithms.fedavg:average",
    "minet_core.checkpoint:load_model",
    "minet_core.evaluation.error_bars:error_bars",
    "minet_core.evaluation.inference:super_resolve",
    "minet_core.evaluation.metrics:psnr",
    "minet_core.evaluation.metrics:ssim",
    "minet_core.evaluation.reference_gate:judge_reference",
    "minet_core.evaluation.self_ensemble:mean_over_poses",
    "minet_core.imaging.data_consistency:impose_measured",
    "minet_core.imaging.degradation:low_resolution",
    "minet_core.imaging.fourier:centre_crop",
    "minet_core.imaging.reference_trouble:apply_reference_trouble",
    "minet_core.models.registry:build_model",
    "minet_core.phantom.patient:make_patient",
    "minet_core.phantom.variety:draw_variety",
    "minet_core.protocol.flat_form:flat_values",
    "minet_core.protocol.flat_form:records_of",
    "minet_core.settings.yaml_file:read_settings",
    "minet_core.runtime.said_elsewhere:said_elsewhere",
    "minet_core.training.local_update:local_update",
    "sites.super_resolution.super_resolve:super_resolve_file",
)


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_gives_what_it_prints(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    module, _, function = name.partition(":")
    told = getattr(importlib.import_module(module), function)
    (example,) = doctest.DocTestFinder(recurse=False).find(told, name, globs={})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        outcome = doctest.DocTestRunner().run(example)
    assert outcome.attempted > 0
    assert outcome.failed == 0, capsys.readouterr().out


def test_every_example_is_run() -> None:
    found = {
        f"{'.'.join(path.relative_to(ROOT).with_suffix('').parts)}:{node.name}"
        for room in ROOMS
        for path in (ROOT / room).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and ">>>" in (ast.get_docstring(node) or "")
    }
    assert found == set(EXAMPLES)
