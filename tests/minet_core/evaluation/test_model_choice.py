"""The choice among the global, the adapted and the lone model: cases whose answer can be worked out by hand."""

from __future__ import annotations

import itertools
import math

import pytest

from minet_core.errors import MetricInvalid
from minet_core.evaluation.model_choice import (
    ENSEMBLE_SPREAD_DB,
    MEMORY_DB,
    PATIENT_SPREAD_DB,
    SPREAD_WEIGHT,
    choose_ensembled,
    choose_model,
    choose_rate,
    choose_unjudged,
    keep_unjudged,
    standard_error,
)


def figures(*patients: float) -> dict[str, float]:
    return {f"{number:04x}": value for number, value in enumerate(patients)}


def test_one_patient_has_the_standard_error_that_is_known_of_patients() -> None:
    assert standard_error([0.7]) == pytest.approx(PATIENT_SPREAD_DB, rel=1e-12)


def test_the_error_of_many_patients_is_their_own() -> None:
    differences = [1.0, -1.0] * 5000  # of variance 1
    n = len(differences)
    expected = math.sqrt((SPREAD_WEIGHT * PATIENT_SPREAD_DB**2 + n) / (SPREAD_WEIGHT + n - 1) / n)
    assert standard_error(differences) == pytest.approx(expected, rel=1e-12)
    assert standard_error(differences) == pytest.approx(1 / math.sqrt(n), rel=1e-3)


def test_two_patients_that_agree_still_have_an_error() -> None:
    assert standard_error([0.5, 0.5]) == pytest.approx(
        math.sqrt(SPREAD_WEIGHT / (SPREAD_WEIGHT + 1) * PATIENT_SPREAD_DB**2 / 2), rel=1e-12
    )


@pytest.mark.parametrize(
    ("gain", "chosen"),
    [(PATIENT_SPREAD_DB - 1e-6, "global"), (PATIENT_SPREAD_DB + 1e-6, "adapted"), (-5.0, "global")],
)
def test_with_one_patient_a_gain_has_to_exceed_what_patients_differ_by(gain: float, chosen: str) -> None:
    choice = choose_model({"global": figures(30.0), "adapted": figures(30.0 + gain)})
    assert choice.chosen == chosen
    assert choice.n_patients == 1


def test_the_adapted_model_comes_before_the_one_alone_where_they_are_alike() -> None:
    candidates = {"global": figures(30.0), "adapted": figures(31.0), "alone": figures(31.1)}
    assert choose_model(candidates).chosen == "adapted"  # type: ignore[arg-type]
    candidates["alone"] = figures(31.5)
    assert choose_model(candidates).chosen == "alone"  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("behind", "chosen"), [(ENSEMBLE_SPREAD_DB - 1e-6, "ensemble"), (ENSEMBLE_SPREAD_DB + 1e-6, "alone")]
)
def test_the_ensemble_is_kept_unless_another_is_better_by_more_than_patients_differ(
    behind: float, chosen: str
) -> None:
    candidates = {
        "global": figures(28.0),
        "adapted": figures(29.0),
        "alone": figures(30.0 + behind),
        "ensemble": figures(30.0),
    }
    assert choose_model(candidates).chosen == chosen  # type: ignore[arg-type]


def test_many_patients_who_agree_leave_the_ensemble_for_less() -> None:
    """Ten of them: the error is a sixth of what one has."""
    gain = ENSEMBLE_SPREAD_DB / 4
    candidates = {
        "global": figures(*[28.0] * 10),
        "adapted": figures(*[30.0 + gain - PATIENT_SPREAD_DB / 20] * 10),
        "alone": figures(*[30.0 + gain] * 10),
        "ensemble": figures(*[30.0] * 10),
    }
    choice = choose_model(candidates)  # type: ignore[arg-type]
    assert choice.chosen == "adapted"  # of the others by their own error
    assert choice.behind["ensemble"].standard_error_db == pytest.approx(
        math.sqrt(SPREAD_WEIGHT / (SPREAD_WEIGHT + 9) / 10) * ENSEMBLE_SPREAD_DB
    )


@pytest.mark.parametrize(
    ("behind", "ensembled"),
    [
        (ENSEMBLE_SPREAD_DB - 1e-6, ("global", "adapted", "alone")),
        (ENSEMBLE_SPREAD_DB + 1e-6, ("adapted", "alone")),
    ],
)
def test_a_network_that_is_plainly_worse_is_left_out_of_the_ensemble(
    behind: float, ensembled: tuple[str, ...]
) -> None:
    candidates = {"global": figures(30.0 - behind), "adapted": figures(29.9), "alone": figures(30.0)}
    assert choose_ensembled(candidates) == ensembled  # type: ignore[arg-type]


def test_many_patients_who_agree_leave_a_network_out_for_less() -> None:
    candidates = {name: figures(*[30.0] * 10) for name in ("adapted", "alone")}
    candidates["global"] = figures(*[30.0 - ENSEMBLE_SPREAD_DB / 4] * 10)
    assert choose_ensembled(candidates) == ("adapted", "alone")  # type: ignore[arg-type]


def test_one_network_is_no_ensemble_and_neither_is_one_that_was_not_trained() -> None:
    far = 30.0 - 2 * ENSEMBLE_SPREAD_DB
    assert choose_ensembled({"global": figures(far), "adapted": figures(far), "alone": figures(30.0)}) == ()
    assert choose_ensembled({"global": figures(30.0), "adapted": figures(30.0)}) == ()


def test_networks_of_other_patients_or_without_a_number_make_no_ensemble() -> None:
    three = {"global": figures(30.0), "adapted": figures(30.0), "alone": figures(30.0, 31.0)}
    with pytest.raises(MetricInvalid):
        choose_ensembled(three)  # type: ignore[arg-type]
    with pytest.raises(MetricInvalid):
        choose_ensembled({**three, "alone": figures(math.nan)})  # type: ignore[dict-item]


def test_a_gain_of_one_patient_alone_is_not_believed() -> None:
    """Four patients, of whom one gains 1 dB and three lose 0.1: 0.175 in the mean, with an error of 0.207."""
    choice = choose_model({"global": figures(*[30.0] * 4), "adapted": figures(31.0, 29.9, 29.9, 29.9)})
    assert choice.means_db["adapted"] > choice.means_db["global"]
    assert choice.chosen == "global"
    assert (
        choose_model({"global": figures(*[30.0] * 4), "adapted": figures(*[30.175] * 4)}).chosen == "adapted"
    )


def test_the_differences_are_paired_by_patient_and_not_by_place() -> None:
    one = {"a": 20.0, "b": 40.0}
    other = {"b": 40.3, "a": 20.3}
    choice = choose_model({"global": one, "adapted": other})
    assert choice.chosen == "adapted"
    assert choice.behind["global"].mean_db == pytest.approx(0.3)
    assert choice.behind["adapted"].mean_db == 0.0


def test_the_order_in_which_models_and_patients_are_given_changes_nothing() -> None:
    models = {
        "global": figures(30, 31, 29),
        "adapted": figures(30.4, 31.5, 29.1),
        "alone": figures(31, 31, 29),
    }
    choices = {choose_model(dict(order)).chosen for order in itertools.permutations(models.items())}  # type: ignore[arg-type]
    turned = {name: dict(reversed(found.items())) for name, found in models.items()}
    assert choices == {choose_model(turned).chosen}  # type: ignore[arg-type]


def test_without_a_patient_that_judges_the_ensemble_is_kept_and_else_what_rests_on_most_patients() -> None:
    remembered = {"global": 30.0, "adapted": 31.0, "alone": 31.5}
    kept = keep_unjudged(remembered, ensembled=True)
    assert (kept.chosen, kept.n_patients) == ("ensemble", 0)
    assert keep_unjudged(remembered, ensembled=False).chosen == "global"
    behind = {**remembered, "adapted": 30.0 + MEMORY_DB + 0.1}
    assert keep_unjudged(behind, ensembled=False).chosen == "adapted"
    assert keep_unjudged({"global": 30.0, "adapted": 20.0}, ensembled=False).chosen == "global"
    with pytest.raises(MetricInvalid, match="no patient"):
        choose_model({"global": {}, "adapted": {}})


def test_without_a_patient_that_judges_what_is_plainly_worse_is_left_out_and_memory_is_no_merit() -> None:
    remembered = {"global": 30.0, "adapted": 31.0, "alone": 31.9}
    assert choose_unjudged(remembered) == ("global", "adapted", "alone")  # as much as memory explains
    assert choose_unjudged({**remembered, "alone": 30.0 - ENSEMBLE_SPREAD_DB}) == ("global", "adapted")
    of_another_kind = {**remembered, "alone": 30.0 + ENSEMBLE_SPREAD_DB + MEMORY_DB}
    assert choose_unjudged(of_another_kind) == ("adapted", "alone")
    assert choose_unjudged({"global": 30.0, "adapted": 20.0, "alone": 20.0}) == ("global",)
    assert choose_unjudged({"global": 30.0, "adapted": 33.0}) == ("adapted",)
    assert choose_unjudged({"global": 30.0, "adapted": 31.0}) == ("global", "adapted")
    for wrong in ({**remembered, "alone": math.nan}, {"adapted": 30.0}):
        with pytest.raises(MetricInvalid):
            choose_unjudged(wrong)


@pytest.mark.parametrize(
    "candidates",
    [
        {"adapted": {"a": 1.0}},
        {"global": {"a": 1.0}, "adapted": {"b": 1.0}},
        {"global": {"a": 1.0}, "adapted": {"a": 1.0, "b": 1.0}},
        {"global": {"a": math.inf}, "adapted": {"a": 1.0}},
    ],
)
def test_what_cannot_be_compared_is_refused(candidates: dict[str, dict[str, float]]) -> None:
    with pytest.raises(MetricInvalid):
        choose_model(candidates)  # type: ignore[arg-type]


def test_the_rate_of_the_best_mean_is_taken_and_of_equals_the_lowest() -> None:
    assert (
        choose_rate({1e-3: figures(30.0, 32.0), 3e-4: figures(31.0, 30.8), 2e-3: figures(20.0, 20.0)}) == 1e-3
    )
    assert choose_rate({1e-3: figures(30.0, 32.0), 3e-4: figures(31.0, 31.0)}) == 3e-4
    assert choose_rate({2e-3: {}, 3e-4: {}}) == 3e-4  # nobody judges


@pytest.mark.parametrize(
    "psnr_db",
    [{}, {1e-3: figures(30.0), 2e-3: figures(30.0, 31.0)}, {1e-3: figures(math.nan), 2e-3: figures(30.0)}],
)
def test_rates_that_cannot_be_compared_are_refused(psnr_db: dict[float, dict[str, float]]) -> None:
    with pytest.raises(MetricInvalid):
        choose_rate(psnr_db)
