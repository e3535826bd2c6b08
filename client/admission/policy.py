"""The site's policy held to a federation file: at accept, at each start, at each request."""

from __future__ import annotations

from minet_core.protocol.exchange_plan import ExchangePlan, exchange_plan_of
from minet_core.settings.federation import FederationSettings
from sites.settings.site_policy import (
    require_cohort_allowed,
    require_federation_allowed,
    require_model_allowed,
)
from sites.settings.site_settings import SiteSettings
from sites.store.cohort import Cohort


def require_policy(
    settings: SiteSettings, federation: FederationSettings, *, cohort: Cohort | None = None
) -> ExchangePlan:
    """The agreement of a federation file that lies inside the policy; the file first, before its model is counted.

    cohort: None where the store is not seen. Raises PolicyRefused (FM-F420).
    """
    policy, site = settings.policy, settings.name
    require_federation_allowed(policy, federation, site=site)
    agreement = exchange_plan_of(federation)
    require_model_allowed(
        policy,
        federation,
        site=site,
        n_parameters=agreement.n_parameters,
        device=settings.compute.device,
        cohort=cohort,
    )
    if cohort is not None:
        require_cohort_allowed(policy, federation, cohort, site=site)
    return agreement
