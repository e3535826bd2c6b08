"""The figures of an adaptation: differences that can be worked out by hand, paired by patient."""

from __future__ import annotations

import pytest

from minet_core.protocol import messages
from minet_core.protocol.figures import adaptation_figures

PATIENTS = {"a": 30.0, "b": 34.0}
"""The PSNR of the global model, dB."""


def scores(gain_db: dict[str, float]) -> dict[str, dict[str, dict[str, float]]]:
    """By patient: a model that much above the global one, and sinc 3 dB below that."""
    return {
        patient: {
            "global": {"psnr_db": psnr + gain_db[patient], "ssim": 0.9, "nmse": 0.01},
            "sinc": {"psnr_db": psnr - 3.0, "ssim": 0.8, "nmse": 0.02},
        }
        for patient, psnr in PATIENTS.items()
    }


MODELS = {
    "global": scores({"a": 0.0, "b": 0.0}),
    "adapted": scores({"b": 1.0, "a": 0.5}),
    "alone": scores({"a": -1.0, "b": 1.5}),
}


def test_differences_are_means_over_patients_of_the_first_less_the_second() -> None:
    figures = adaptation_figures(MODELS, chosen="adapted", seed=1, intervals=False)  # type: ignore[arg-type]
    expected = {
        **{"chosen": 1, "adapted_psnr_db": 32.75, "alone_psnr_db": 32.25},
        **{"global_less_sinc_db": 3.0, "adapted_less_sinc_db": 3.75, "alone_less_sinc_db": 3.25},
        **{"chosen_less_sinc_db": 3.75, "chosen_less_global_db": 0.75, "chosen_less_alone_db": 0.5},
    }
    assert {name: figures[name] for name in expected} == pytest.approx(expected)
    assert not [name for name in figures if name.endswith(("_low", "_high"))]
    assert messages.ADAPTATION_FIGURES.keys() >= figures.keys()


def test_an_interval_is_that_of_the_paired_differences() -> None:
    """Of two patients the interval ends at their own differences, far narrower than what the patients differ by."""
    figures = adaptation_figures(MODELS, chosen="adapted", seed=1)  # type: ignore[arg-type]
    assert (figures["chosen_less_global_db_low"], figures["chosen_less_global_db_high"]) == (0.5, 1.0)
    assert figures["adapted_psnr_db_high"] - figures["adapted_psnr_db_low"] == 4.5
    assert (figures["global_less_sinc_db_low"], figures["global_less_sinc_db_high"]) == (3.0, 3.0)


def test_a_model_that_was_not_trained_has_no_figure() -> None:
    models = {name: MODELS[name] for name in ("global", "adapted")}
    figures = adaptation_figures(models, chosen="global", seed=1)  # type: ignore[arg-type]
    assert not [name for name in figures if "alone" in name]
    assert figures["chosen_less_global_db"] == 0.0
