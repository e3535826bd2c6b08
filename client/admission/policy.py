"""The site's policy held to a federation file: at accept, at each start, at each request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from minet_core.settings.federation import FederationSettings
from sites.settings.site_policy import (
    require_cohort_allowed,
    require_federation_allowed,
    require_model_allowed,
)
from sites.settings.site_settings import SiteSettings
from sites.store.cohort import Cohort

if TYPE_CHECKING:
    from minet_core.protocol.exchange_plan import ExchangePlan


def require_policy(
    settings: SiteSettings, federation: FederationSettings, *, cohort: Cohort | None = None
) -> ExchangePlan:
    """The agreement of a federation file that lies inside the policy; the file first, before its model is counted.

    cohort: None where the store is not seen. Raises PolicyRefused (FM-F420).
    """
    from minet_core.protocol.exchange_plan import (
        exchange_plan_of,
    )  # builds the model, for which torch is loaded

    require_federation_allowed(settings.policy, federation, site=settings.name)
    agreement = exchange_plan_of(federation)
    _require_size_allowed(settings, federation, n_parameters=agreement.n_parameters, cohort=cohort)
    return agreement


def require_policy_of_size(
    settings: SiteSettings, federation: FederationSettings, *, n_parameters: int, cohort: Cohort | None = None
) -> None:
    """`require_policy` of a model whose weights were counted before: to tell how a site stands, and to start nothing.

    Raises PolicyRefused (FM-F420).
    """
    require_federation_allowed(settings.policy, federation, site=settings.name)
    _require_size_allowed(settings, federation, n_parameters=n_parameters, cohort=cohort)


def _require_size_allowed(
    settings: SiteSettings, federation: FederationSettings, *, n_parameters: int, cohort: Cohort | None
) -> None:
    policy, site = settings.policy, settings.name
    require_model_allowed(
        policy,
        federation,
        site=site,
        n_parameters=n_parameters,
        device=settings.compute.device,
        cohort=cohort,
    )
    if cohort is not None:
        require_cohort_allowed(policy, federation, cohort, site=site)
