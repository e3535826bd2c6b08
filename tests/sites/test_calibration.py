"""Error bars are measured on validation patients alone, and travel in the model's file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from minet_core.calibration import Calibration, ErrorBars
from minet_core.checkpoint import load_checkpoint, read_manifest, save_checkpoint
from minet_core.checkpoint_manifest import describe
from minet_core.evaluation.error_bars import error_unit, inside_anatomy
from minet_core.evaluation.inference import super_resolve
from minet_core.evaluation.volume_scores import degraded_volume
from minet_core.models.base import SuperResolver
from minet_core.models.registry import build_model
from minet_core.settings.federation import ModelSettings
from sites.calibration import calibrate, picture_and_spread
from sites.store.store import Store
from tests.faults.tiny_sites import make_tiny_sites
from tests.support.own_validation_site import own_validation_site

SMALL = {"architecture": "minet", "n_groups": 1, "n_blocks": 1, "n_features": 4, "reduction": 2}
BARS = Calibration(
    patients=3,
    slices=36,
    poses=1,
    guided=ErrorBars(factor_68=2.0, factor_95=5.0),
    alone=ErrorBars(factor_68=4.0, factor_95=9.0),
    stand_in="sinc",
)


def guessing(**changes: object) -> SuperResolver:
    """Before any training."""
    torch.manual_seed(0)
    return build_model({**SMALL, **changes}, scale=2).eval()


@pytest.mark.parametrize("knows_absence", [False, True])
def test_no_file_but_the_validation_patients_is_opened_and_their_errors_lie_within(
    tmp_path: Path, knows_absence: bool
) -> None:
    home = own_validation_site(tmp_path / "site")
    store = Store(home.store)
    validation = {pair.file for pair, _ in store.cohort.pairs_of("validation")}
    for scan in home.store.glob("*.h5"):
        if scan.name not in validation:
            scan.unlink()
    model = guessing()
    bars = calibrate(model, [store], scale=2, knows_absence=knows_absence)
    assert bars is not None
    assert (bars.patients, bars.poses, bars.stand_in) == (1, 1, "model" if knows_absence else "sinc")
    ((_, target, reference),) = store.volumes("validation")
    assert bars.slices == len(target)
    truth, low_res, guide = degraded_volume(target, reference, scale=2)
    picture, spread = picture_and_spread(model, low_res, guide, scale=2)
    off = (np.abs(picture - truth) / error_unit(spread, low_res))[inside_anatomy(picture)]
    for factor, level in ((bars.guided.factor_68, 0.68), (bars.guided.factor_95, 0.95)):
        assert (off <= factor).mean() == pytest.approx(level, abs=0.01)


def test_a_site_without_validation_patients_of_its_own_measures_nothing(tmp_path: Path) -> None:
    home = make_tiny_sites(tmp_path, names=("sms",))["sms"]
    assert calibrate(guessing(), [Store(home.store)], scale=2, knows_absence=True) is None


@pytest.mark.parametrize("poses", [1, 4])
def test_the_picture_is_the_models_own_and_its_spread_that_of_one_pose(poses: int) -> None:
    rng = np.random.default_rng(0)
    low_res, reference = (
        rng.random((2, 24, 20)).astype(np.float32),
        rng.random((2, 48, 40)).astype(np.float32),
    )
    model = guessing(self_ensemble=poses)
    picture, spread = picture_and_spread(model, low_res, reference, scale=2)
    usual = super_resolve(model, low_res, reference, scale=2)
    # On the frame the slice is continued by its edges: away from them the picture is the same.
    np.testing.assert_allclose(picture[:, 16:-16, 16:-16], usual[:, 16:-16, 16:-16], rtol=0.02)
    np.testing.assert_array_equal(spread, picture_and_spread(guessing(), low_res, reference, scale=2)[1])
    assert spread.max() > 0


def test_a_model_carries_its_error_bars_and_a_file_without_them_is_what_it_was(tmp_path: Path) -> None:
    weights = {"w": np.ones(3, np.float32)}
    facts = {"model": ModelSettings(), "scale": 2, "round_number": 1, "provenance": {}}
    save_checkpoint(tmp_path / "new.safetensors", weights, describe(weights, **facts, calibration=BARS))
    assert read_manifest(tmp_path / "new.safetensors").calibration == BARS
    save_checkpoint(tmp_path / "old.safetensors", weights, describe(weights, **facts))
    assert b"calibration" not in (tmp_path / "old.safetensors").read_bytes()
    assert load_checkpoint(tmp_path / "old.safetensors")[1].calibration is None


def test_what_few_patients_promise_is_less_than_what_they_measured() -> None:
    assert BARS.promised(0.95) == pytest.approx(0.95 * 3 / 4)
    assert BARS.as_card()["promised"] == {"0.68": 0.51, "0.95": 0.7125}
    with pytest.raises(ValidationError):
        ErrorBars(factor_68=0.0, factor_95=1.0)
    with pytest.raises(ValidationError):
        Calibration.model_validate({**BARS.model_dump(), "patients": 0})
