"""What a round costs the coordinator grows with its sites, and no faster."""

from __future__ import annotations

import pytest

from minet_core.settings.federation import ModelSettings
from tests.faults.coordinator import Cost
from tests.faults.many_sites import ManySites, many_sites, many_sites_as_text, most_of_a_round

SMALL = ModelSettings(n_groups=2, n_blocks=2, n_features=16)


def test_the_slope_is_that_of_the_line() -> None:
    costs = {number: Cost(1.0, 0.5 + 0.02 * number, {"mean": 2.0, "end": 9.0}) for number in (3, 10, 30, 100)}
    result = ManySites(1_000_000, costs, read=0.001, checked=0.002)
    assert result.line == pytest.approx((0.02, 0.5))
    text = many_sites_as_text(result)
    assert "20.0 ms a site and 500 ms a round" in text
    assert "| 100 | 2.500 | 25.0 | 8.0 |" in text  # two models of 4 MB


@pytest.mark.long
def test_memory_does_not_grow_with_the_sites_and_time_no_faster_than_they_do() -> None:
    result = many_sites((3, 12), model=SMALL, rounds=2)
    few, many = result.costs.values()
    assert few.processor_seconds < many.processor_seconds < 8 * few.processor_seconds  # 4 times as many sites
    assert most_of_a_round(many) < most_of_a_round(few) + 4  # models; nine more if one were held a site
