"""What a site tells of the scans that it trains on is measured once for a run and a cohort."""

from __future__ import annotations

from pathlib import Path

import pytest

from client.rounds.round import domain_figures
from client.rounds.round_cache import CachedRound, RoundCache
from minet_core.protocol.cohort_declaration import cohort_number
from sites.store.store import Store
from tests.faults.tiny_sites import make_tiny_sites

RUN = 7
TOLD = {"domain_band_low": 0.25, "domain_band_high": 0.5}
"""No measurement of the tiny site's: where these come back, they were not measured again."""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(make_tiny_sites(tmp_path_factory.mktemp("sites"), names=("sms",))["sms"].store)


def kept(tmp_path: Path, **figures: float) -> CachedRound:
    """A round as it is read back from the disk."""
    RoundCache(tmp_path, "study").put(CachedRound(1, "abc", figures))
    found = RoundCache(tmp_path, "study").last()
    assert found is not None
    return found


def test_the_second_round_tells_what_the_first_measured(store: Store, tmp_path: Path) -> None:
    cohort = cohort_number(store.cohort.digest)
    former = kept(tmp_path, run=RUN, cohort=cohort, train_loss=0.5, **TOLD)
    assert domain_figures(store, scale=2, run=RUN, former=former) == TOLD


def test_a_first_round_another_run_and_another_cohort_are_measured(store: Store, tmp_path: Path) -> None:
    cohort = cohort_number(store.cohort.digest)
    measured = domain_figures(store, scale=2, run=RUN, former=None)
    assert measured
    assert measured != TOLD
    for change in ({"run": RUN + 1}, {"cohort": cohort + 1}):
        former = kept(tmp_path, **{"run": RUN, "cohort": cohort, **change}, **TOLD)
        assert domain_figures(store, scale=2, run=RUN, former=former) == measured
    without = kept(tmp_path, run=RUN, cohort=cohort, train_loss=0.5)
    assert domain_figures(store, scale=2, run=RUN, former=without) == measured
