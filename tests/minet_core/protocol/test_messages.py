"""What may cross between a site and the server, and what is stopped."""

from __future__ import annotations

import math

import pytest

from minet_core.errors import ReplyRefused
from minet_core.protocol import messages

GOOD = {
    "round": 3,
    "run": 2**52,
    "cohort": 2**47,
    "n_training_slices": 140,
    "train_loss": 0.25,
    "seconds": 12.5,
    "validation_psnr_db": 31.0,
    "validation_ssim": 0.9,
    "validation_nmse": 0.01,
}


def test_agreed_figures_pass_as_floats() -> None:
    assert messages.checked_figures(GOOD, agreed=messages.TRAIN_FIGURES) == {
        k: float(v) for k, v in GOOD.items()
    }


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n_training_slices", 0),
        ("n_training_slices", -9),
        ("n_training_slices", 10**12),
        ("n_training_slices", 140.0),
        ("n_training_slices", True),
        ("train_loss", math.nan),
        ("train_loss", math.inf),
        ("train_loss", "0.25"),
        ("train_loss", [0.25]),
        ("validation_ssim", 1.5),
    ],
)
def test_a_figure_out_of_its_type_or_range_is_refused(name: str, value: object) -> None:
    with pytest.raises(ReplyRefused, match=name):
        messages.checked_figures({**GOOD, name: value}, agreed=messages.TRAIN_FIGURES)


def test_a_missing_figure_is_refused() -> None:
    with pytest.raises(ReplyRefused, match="lacks the figure train_loss"):
        messages.checked_figures(
            {k: v for k, v in GOOD.items() if k != "train_loss"}, agreed=messages.TRAIN_FIGURES
        )


def test_an_extra_figure_is_refused_without_repeating_its_name() -> None:
    smuggled = "/data/DOE^JOHN/1961-02-03"
    with pytest.raises(ReplyRefused) as refusal:
        messages.checked_figures({**GOOD, smuggled: 1.0}, agreed=messages.TRAIN_FIGURES)
    assert "DOE" not in str(refusal.value)


def test_the_interval_of_a_single_test_volume_may_be_left_out() -> None:
    figures = {
        name: 1 if figure.whole else 0.5 for name, figure in messages.TEST_FIGURES.items() if figure.required
    }
    assert set(messages.checked_figures(figures, agreed=messages.TEST_FIGURES)) == set(figures)


@pytest.mark.parametrize("received", ["FM-D201", "FM-S900"])
def test_a_code_is_kept(received: str) -> None:
    assert messages.checked_code(received) == received


@pytest.mark.parametrize(
    "received", [None, 7, "", "FM-D201: /data/DOE^JOHN", "FM-D2011", "fm-d201", "FM-D20\n"]
)
def test_anything_else_than_a_code_becomes_the_internal_code(received: object) -> None:
    assert messages.checked_code(received) == "FM-S900"
