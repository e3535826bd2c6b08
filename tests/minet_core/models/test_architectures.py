"""The settings of the methods, which are read without torch, and the classes that take them."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

from minet_core.models.architectures import SETTINGS_OF
from minet_core.models.registry import MODELS
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
