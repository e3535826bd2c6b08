"""The page and the ways of `experiment gate`; its trainings are the product's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.stats import norm

from fedminet.experiment.gate.error_bars import (
    ALL,
    QUARTERS,
    Measured,
    coverage_rows,
    draw_error_bars,
    measured,
)
from fedminet.experiment.gate.models import federation_for
from fedminet.experiment.gate.page import coverage, page
from fedminet.experiment.gate.phantoms import in_whole_numbers
from fedminet.experiment.gate.run import GatePlan
from fedminet.experiment.gate.wrong_references import WAYS
from minet_core.errors import ConfigurationError
from minet_core.evaluation.error_bars import N_QUANTILES
from minet_core.evaluation.volume_scores import degraded_volume
from minet_core.models.registry import build_model


def test_each_way_but_the_right_ones_changes_the_reference_and_keeps_its_grid() -> None:
    generator = np.random.default_rng(1)
    own, other = generator.random((2, 6, 32, 32)).astype(np.float32)
    for way in WAYS:
        made = way.make(own, other)
        assert made.shape == own.shape
        assert np.array_equal(made, own) == (way.name == "right")


def test_the_page_counts_what_was_named_and_leaves_out_what_is_neither() -> None:
    found = {"agreement": 0.9, "misplacement": 0.02, "trusted": 0.5}
    verdicts = [
        {"way": way, "wrong": wrong, "image": "patient", "named": named, **found}
        for way, wrong, named in (
            ("right", False, False),
            ("right", False, True),
            ("2 px off", True, True),
            ("noise of 10%", None, True),
        )
    ]
    pictures = [
        {"way": "right", "patient": number, "psnr_db": {"sinc": psnr, f"{name}, gate": psnr + 2}}
        for number, psnr in ((0, 30.0), (1, 31.0))
        for name in ("plain", "troubled")
    ]
    tried = [
        {"way": "zeros", "model": "plain", "patient": n, "sinc_db": 30.0, "alone_db": 29.0, "psnr_db": made}
        for n, made in ((0, None), (1, 31.5))
    ]
    inputs = [{**row, "way": "noise of 2%", "said": ["target-noisy"]} for row in tried]
    text = page(verdicts, pictures, tried, inputs, scale=2, steps=400)
    assert "| noise of 2% | 30.00 | 31.50, +1.50, 1 of 1, 1 refused |" in text
    assert "| zeros | 31.50 (31.50), 1 refused |" in text
    assert "sinc: 30.00. The models given no reference: plain 29.00." in text
    assert "| patient | 1 of 1 | 1 of 2 |" in text
    assert "| noise of 10% | 1 of 1 | 0 of 0 | 0.900 to 0.900 |" in text
    assert "mean and least over 2 patients" in text
    assert "| right | 30.50 (30.00) | 32.50 (32.00) | 32.50 (32.00) |" in text


def of_size(size: float) -> Measured:
    """A patient whose errors are Gaussian and of this size over their units, and twice that over the spread."""
    levels = np.linspace(0, 1, N_QUANTILES)
    errors = size * norm.ppf((1 + levels.clip(0, 1 - 1e-6)) / 2)
    empty = np.zeros((2, 16, 16), np.float32)
    return Measured(empty, empty, empty, empty, dict.fromkeys((ALL, *QUARTERS), errors), 2 * errors)


def test_a_patient_is_held_by_the_error_bars_of_the_others() -> None:
    rows = coverage_rows([of_size(1.0), of_size(1.0), of_size(2.0)])
    # Of sizes 1 and 2 a factor k holds the mean of the normal's two sides at k and at k / 2.
    factor = brentq(lambda k: norm.cdf(k) + norm.cdf(k / 2) - 1 - 0.68, 0.1, 10)
    assert rows[0]["factor_68"] == pytest.approx(factor, abs=0.01)  # rounded up to three digits
    assert rows[0]["held"]["0.68"] == pytest.approx(2 * norm.cdf(rows[0]["factor_68"]) - 1, abs=1e-3)
    assert rows[2]["held"]["0.95"] == pytest.approx(2 * norm.cdf(1.96 / 2) - 1, abs=5e-3)
    assert rows[0]["held_by_spread"]["0.95"] == pytest.approx(2 * norm.cdf(1.96 / 2) - 1, abs=1e-3)
    text = coverage([{"model": "plain", "guided": True, **row} for row in rows])
    assert "| plain | with the reference | 3 | 95% | " in text


def test_what_is_measured_of_a_model_is_drawn(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    model = build_model({"architecture": "minet", "n_groups": 1, "n_blocks": 1, "n_features": 4}, scale=2)
    volumes = [
        degraded_volume(*generator.random((2, 2, 48, 40)).astype(np.float32), scale=2) for _ in range(2)
    ]
    found = [measured(model, volume, guided=True) for volume in volumes]
    draw_error_bars(tmp_path / "bars.png", found)
    assert (tmp_path / "bars.png").read_bytes().startswith(b"\x89PNG")
    held = coverage_rows(found)[0]["held"]
    assert held["0.68"] < held["0.95"] <= 1


def test_models_of_two_sites_are_kept_apart() -> None:
    knee, brain = (GatePlan(out=Path("out"), site=site) for site in ("fastmri", "sms"))
    assert knee.kept("infer", knee.site, 0) != brain.kept("infer", brain.site, 0)
    digests = {federation_for("plain", scale=2, steps=1, site=one.site).digest() for one in (knee, brain)}
    assert len(digests) == 2


@pytest.mark.parametrize("asked", [{"site": "elsewhere"}, {"models": ("plain", "other")}])
def test_an_unknown_site_or_model_is_refused(asked: dict[str, str | tuple[str, ...]]) -> None:
    with pytest.raises(ConfigurationError, match=r"FM-C100.*is not understood"):
        GatePlan(out=Path("out"), **asked)  # type: ignore[arg-type]


def test_a_knee_is_written_to_a_file_of_whole_numbers() -> None:
    """Its raw data are of 1e-4, and were rounded to nothing."""
    knee = np.full((1, 2, 2), 3e-4, np.float32)
    assert np.rint(in_whole_numbers("fastmri", knee)).min() > 100
    assert in_whole_numbers("fastmri", knee.astype(np.complex64)).dtype == np.complex64
    assert in_whole_numbers("sms", knee) is knee
