"""What an experiment's tables say of its cells: means, intervals, differences, order; and the methods' sizes."""

from __future__ import annotations

import numpy as np
import pytest

from fedminet.experiment.analysis.statistics import estimate, holm, mean, paired_differences, paired_p
from fedminet.experiment.cells import Cell
from fedminet.experiment.methods import TABLE_1 as TABLE_1_METHODS
from fedminet.experiment.methods import is_learned, model_of, training_of
from fedminet.experiment.report.findings import left_out, order_found, worse_than_local
from fedminet.experiment.report.formats import Table, as_csv, as_latex, as_markdown, latex_remarks
from fedminet.experiment.report.published import TABLE_1, TABLE_2
from fedminet.experiment.report.results import Results, difference_texts
from fedminet.experiment.report.tables import main_tables, modes_tables, paired_tables
from fedminet.experiment.run import Clock
from fedminet.experiment.scores import PatientScores
from fedminet.experiment.study import CellKey
from minet_core.errors import ConfigurationError
from minet_core.models.registry import build_model


def scored(psnr_db: float) -> PatientScores:
    return PatientScores(psnr_db=psnr_db, ssim=0.9, nmse=0.01, conventions={}, faithfulness={})


def cell(method: str, mode: str, psnr_db: list[float], *, seed: int = 1) -> Cell:
    return Cell(
        method=method,
        mode=mode,  # type: ignore[arg-type]
        scale=2,
        seed=seed,
        member=None,
        settings=None,
        n_parameters=1,
        n_steps=1,
        train_seconds=1.0,
        seconds=1.0,
        machine="cpu",
        versions={},
        data={"sms": "00"},
        sites={"sms": tuple(map(scored, psnr_db))},
    )


def results(*cells: Cell) -> Results:
    methods = list(dict.fromkeys(one.method for one in cells))
    return Results(cells, sites=["sms"], methods=methods, same_patients=False)


def test_where_the_order_is_not_the_papers_it_is_said() -> None:
    as_expected = results(
        cell("sinc", "federated", [30.0]),
        cell("edsr", "federated", [31.0]),
        cell("lyu", "federated", [32.0]),
        cell("minet", "federated", [33.0]),
    )
    assert order_found(as_expected) == []
    found = order_found(
        results(
            cell("sinc", "federated", [30.0]),
            cell("edsr", "federated", [32.5]),
            cell("lyu", "federated", [32.0]),
            cell("minet", "federated", [31.0]),
        )
    )
    assert found == ["sms at 2x: not the paper's order: EDSR is 1.50 dB above MINet."]


def test_where_the_global_model_is_worse_than_the_sites_own_it_is_said() -> None:
    said = worse_than_local(
        results(cell("minet", "federated", [30.0, 31.0]), cell("minet", "local", [30.5, 31.1]))
    )
    assert said == [
        "The global model against each site's own: better or alike in PSNR in 0 of 1 pairs of a method and a site at a "
        "scale.",
        "MINet at 2x: on sms the global model has -0.30 dB and +0.0000 SSIM beside the site's own.",
    ]
    (better,) = worse_than_local(results(cell("minet", "federated", [30.0]), cell("minet", "local", [29.0])))
    assert "in 1 of 1 pairs" in better
    assert not worse_than_local(results(cell("minet", "federated", [30.0])))


def test_what_a_site_that_took_no_part_goes_without_is_said_of_the_seeds_that_have_it() -> None:
    some = results(
        cell("minet", "federated", [30.0, 31.0]),
        cell("minet", "federated", [40.0, 41.0], seed=2),
        cell("minet", "without", [29.0, 30.5]),
    )
    assert left_out(some) == [
        "MINet at 2x: on sms a federation of the others has -0.75 dB beside the one that it took part in."
    ]
    (table,) = modes_tables(some, scores=["psnr_db"])
    assert [row[3:] for row in table.rows] == [("35.50", "29.75 (of seeds 1 only)")]


def test_a_method_that_was_not_trained_at_every_site_says_so() -> None:
    def local(method: str, member: str, seed: int = 1) -> Cell:
        return cell(method, "local", [30.0], seed=seed).model_copy(update={"member": member})

    both = [local("edsr", "sms"), local("edsr", "umr"), local("edsr", "sms", 2), local("edsr", "umr", 2)]
    found = results(*both, local("minet", "sms"), local("minet", "umr"), local("minet", "sms", 2))
    assert found.label("edsr", scale=2, mode="local") == "EDSR"
    assert found.label("minet", scale=2, mode="local") == "MINet (of seeds 1 only)"
    half = results(*both, local("minet", "sms"), local("minet", "umr", 2))
    assert half.label("minet", scale=2, mode="local") == "MINet (not at every site)"


def test_methods_are_compared_over_the_seeds_that_all_of_them_have() -> None:
    """EDSR's second seed is an easy one; MINet has not been trained with it yet."""
    unfinished = results(
        cell("edsr", "federated", [30.0]),
        cell("edsr", "federated", [40.0], seed=2),
        cell("minet", "federated", [32.0]),
    )
    assert order_found(unfinished) == []
    (table,) = main_tables(unfinished, scores=["psnr_db"])
    assert [row[0] for row in table.rows] == ["EDSR", "MINet (of seeds 1 only)"]


def test_a_score_that_one_patient_lacks_leaves_the_others_in_their_places() -> None:
    scores = {1: [30.0, float("nan"), 31.0], 2: [32.0, 33.0, 34.0]}
    assert mean(scores) == 32.0
    assert estimate(scores, same_patients=True).n == 3
    assert estimate(scores, same_patients=False).n == 5
    ahead = {1: [31.0, 32.0, 32.0], 2: [33.0, 34.0, 35.0]}
    assert paired_differences(ahead, scores, same_patients=True).tolist() == [1.0, 1.0]
    assert paired_differences(ahead, scores, same_patients=False).tolist() == [1.0] * 5
    many = {1: [30.0, float("nan"), *[31.0] * 6], 2: [float("nan"), float("nan"), *[33.0] * 6]}
    for same_patients, n in ((True, 7), (False, 13)):
        found = estimate(many, same_patients=same_patients)
        assert found.n == n
        assert found.low is not None
        assert found.low <= found.mean <= found.high  # type: ignore[operator]


def test_the_time_left_is_that_of_the_cells_most_like_those_that_are_done() -> None:
    clock = Clock()
    sinc, edsr, other_scale, smore = (
        CellKey(1, scale, "federated", None, method)
        for method, scale in (("sinc", 2), ("edsr", 2), ("edsr", 4), ("smore", 2))
    )
    assert clock.left_s([edsr]) is None
    assert clock.text([edsr]) == ""
    clock.add(sinc, 1.0)  # interpolation takes no time worth a word
    assert clock.left_s([edsr]) is None
    clock.add(edsr, 100.0)
    clock.add(smore, 300.0)
    assert clock.left_s([sinc, edsr]) == 100.0
    assert clock.left_s([other_scale]) == 100.0
    assert clock.left_s([CellKey(1, 2, "federated", None, "minet")]) == 200.0
    assert clock.text([edsr] * 72) == ", about 2.0 h left"
    assert clock.text([edsr] * 3) == ", about 5 min left"


def test_differences_are_taken_patient_by_patient() -> None:
    first, second = {1: [30.0, 40.0], 2: [35.0, 37.0]}, {1: [29.0, 38.0], 2: [30.0, 30.0], 3: [1.0, 1.0]}
    assert paired_differences(first, second, same_patients=False).tolist() == [1.0, 2.0, 5.0, 7.0]
    assert paired_differences(first, second, same_patients=True).tolist() == [3.0, 4.5]
    assert not len(paired_differences({1: [1.0]}, {2: [1.0]}, same_patients=True))


def test_the_paired_test_is_exact_for_few_pairs() -> None:
    assert paired_p(np.ones(5)) is None  # no p can be below 0.05
    assert paired_p(np.arange(1.0, 7.0)) == pytest.approx(2 / 2**6)  # all of one sign
    assert paired_p(np.array([1.0, -1.0] * 3)) == pytest.approx(1.0)


def test_p_is_corrected_as_by_holm() -> None:
    """0.005, 0.01, 0.03 and 0.04: 4 x 0.005, 3 x 0.01, 2 x 0.03, and 0.04 x 1, which is raised to the one before."""
    corrected = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005})
    assert corrected == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06, "d": 0.02})
    assert holm({"a": 0.9, "b": 0.8}) == {"a": 1.0, "b": 1.0}
    assert holm({}) == {}


def test_a_difference_has_its_star_after_the_correction_for_all_of_the_table() -> None:
    clear = np.arange(1.0, 7.0)  # p = 2 / 64
    assert difference_texts({"edsr": clear}) == {"edsr": "+3.50 (p 0.031)*"}
    two = difference_texts({"edsr": clear, "smore": clear, "few": clear[:5], "none": clear[:0]}, decimals=1)
    assert two == {"edsr": "+3.5 (p 0.031)", "smore": "+3.5 (p 0.031)", "few": "+3.0", "none": ""}


def test_minet_is_compared_with_every_other_method_patient_by_patient() -> None:
    (table,) = paired_tables(
        results(
            cell("sinc", "federated", [30.0, 31.0]),
            cell("minet", "federated", [33.0, 33.0]),
            cell("minet", "local", [40.0, 40.0]),
            cell("edsr", "federated", [33.5, 33.0]),
        ),
        scores=["psnr_db"],
    )
    assert table.rows == (("Zero-filled sinc", "+2.50"), ("EDSR", "-0.25"))


def test_the_interval_grows_with_the_spread_and_is_none_for_fewer_than_six_patients() -> None:
    assert estimate({1: [30.0, 31.0, 32.0, 33.0, 34.0]}, same_patients=False).low is None
    narrow = estimate({1: [30.0, 30.1, 30.2], 2: [30.0, 30.1, 30.2]}, same_patients=False)
    wide = estimate({1: [25.0, 30.0, 35.0] * 2}, same_patients=False)
    assert narrow.low is not None
    assert wide.low is not None
    assert narrow.low <= narrow.mean <= narrow.high  # type: ignore[operator]
    assert wide.high - wide.low > 10 * (narrow.high - narrow.low)  # type: ignore[operator]


def test_a_patient_who_is_tested_with_every_seed_is_one_patient() -> None:
    """An interval over patients is as wide for three seeds as for one, and none is drawn from one patient's seeds."""
    patients = [float(value) for value in np.random.default_rng(1).normal(30, 1, 20)]
    one, three = (estimate(dict.fromkeys(range(n), patients), same_patients=True) for n in (1, 3))
    assert one.n == three.n == 20
    width, wide = (found.high - found.low for found in (one, three))  # type: ignore[operator]
    assert wide == pytest.approx(width, rel=0.1)
    alone = estimate({1: [30.0], 2: [31.0], 3: [32.0]}, same_patients=True)
    assert (alone.mean, alone.low, alone.high) == (31.0, None, None)
    differences = paired_differences(
        {seed: [31.0, 32.0] for seed in range(3)},
        {seed: [30.0, 30.0] for seed in range(3)},
        same_patients=True,
    )
    assert paired_p(differences) is None


def test_tables_are_written_in_three_forms() -> None:
    table = Table("A & B", ("method", "50%"), (("w/o F_Aux", "1.0"),), note="Note.")
    assert as_markdown(table).splitlines()[2:5] == ["| method | 50% |", "|---|---|", "| w/o F_Aux | 1.0 |"]
    assert as_csv([table]) == "table,method,50%\nA & B,w/o F_Aux,1.0\nA & B,note,Note.\n"
    assert latex_remarks(["Phantoms.", "One seed."]) == "% Phantoms.\n% One seed.\n"
    assert r"w/o F\_Aux & 1.0 \\" in as_latex(table)
    assert r"0.5 $\pm$ 0.1 \\" in as_latex(Table("A", ("method", "x"), (("a", "0.5 ± 0.1"),)))
    assert r"\caption{A \& B. Note.}" in as_latex(table)


def test_the_papers_tables_are_whole() -> None:
    assert set(TABLE_1) == {"bicubic", "edsr", "smore", "zeng", "lyu", "minet"}
    assert all(len(columns) == 6 for columns in TABLE_1.values())
    assert TABLE_1["minet"][("fastmri", 4)] == (30.425, 0.621)
    assert TABLE_1["bicubic"][("umr", 2)] == (21.107, 0.730)
    assert TABLE_2["minet"] == ("0.0018 ± 0.004", "40.5491 ± 0.014", "0.9830 ± 0.009")


@pytest.mark.parametrize("scale", [2, 4])
def test_quick_models_have_about_as_many_parameters_as_minets(scale: int) -> None:
    sizes = {
        method: sum(
            p.numel()
            for p in build_model(
                model_of(method, preset="quick", scale=scale).model_dump(), scale=scale
            ).parameters()
        )
        for method in TABLE_1_METHODS
        if is_learned(method)
    }
    assert all(0.75 < size / sizes["minet"] < 1.1 for size in sizes.values()), sizes


def test_after_as_many_steps_every_method_has_minets_and_a_method_without_a_time_has_no_equal_time() -> None:
    assert training_of("edsr", preset="quick", scale=4, local_steps=10, equal="steps").local_steps == 10
    with pytest.raises(ConfigurationError, match="expected --equal steps"):
        training_of("minet-4x32", preset="quick", scale=2, local_steps=10)


def test_methods_are_trained_for_about_the_same_time_in_the_quick_preset_and_alike_in_the_papers() -> None:
    assert training_of("minet", preset="quick", scale=2, local_steps=10).local_steps == 10
    assert training_of("edsr", preset="quick", scale=2, local_steps=1).local_steps == 4  # 4.2 at equal time
    assert training_of("edsr", preset="quick", scale=4, local_steps=10).local_steps == 62
    assert training_of("edsr", preset="paper", scale=4, local_steps=None).local_epochs == 1
