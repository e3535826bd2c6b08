"""The policy's floors that a cohort alone is held to: how many patients and slices of each split.

An ingest that finds nothing new says them too, so nothing large is imported here.
"""

from __future__ import annotations

from sites.settings.site_settings import PolicySettings
from sites.store.cohort import Cohort


def below_floors(policy: PolicySettings, cohort: Cohort) -> list[str]:
    """What a cohort has less of than the policy asks for: every request to such a site is refused.

    Parameters
    ----------
    policy
        The site's.
    cohort
        What its store holds.

    Returns
    -------
    list[str]
        Such as "4 training patients, policy.min_patients 5"; empty where nothing stands against a federation.
    """
    return [f"{got} {of}, {key} {least}" for key, got, least, of in floors(policy, cohort) if got < least]


def floors(policy: PolicySettings, cohort: Cohort) -> list[tuple[str, int, int, str]]:
    """The floors that a cohort alone is held to.

    Parameters
    ----------
    policy
        The site's.
    cohort
        What its store holds.

    Returns
    -------
    list[tuple[str, int, int, str]]
        Key, what there is, the least, and of what.
    """
    training, validation, test = (cohort.counts[split] for split in ("training", "validation", "test"))
    return [
        ("policy.min_patients", training.patients, policy.min_patients, "training patients"),
        ("policy.min_slices", training.slices, policy.min_slices, "training slices"),
        (
            "policy.min_validation_slices",
            validation.slices,
            policy.min_validation_slices,
            "validation slices",
        ),
        ("policy.min_test_patients", test.patients, policy.min_test_patients, "test patients"),
    ]
