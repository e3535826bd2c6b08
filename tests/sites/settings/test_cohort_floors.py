"""What an ingest says of a cohort that the site's own policy lets take part in nothing."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

from sites.settings.cohort_floors import below_floors
from sites.settings.site_settings import PolicySettings
from sites.store.cohort import Cohort


def cohort(training: int, test: int) -> Cohort:
    counts = {
        "training": SimpleNamespace(patients=training, slices=200),
        "validation": SimpleNamespace(patients=1, slices=200),
        "test": SimpleNamespace(patients=test, slices=200),
    }
    return cast(Cohort, SimpleNamespace(counts=counts))


def test_every_floor_that_a_cohort_is_below_is_named_at_once() -> None:
    policy = PolicySettings()
    assert below_floors(policy, cohort(4, 1)) == [
        f"4 training patients, policy.min_patients {policy.min_patients}",
        f"1 test patients, policy.min_test_patients {policy.min_test_patients}",
    ]
    assert below_floors(policy, cohort(policy.min_patients, policy.min_test_patients)) == []
