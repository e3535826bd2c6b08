"""The site's own policy held against what the coordinator asks for.

The policy is in site.yaml, which nobody but the hospital writes. A kit or a request may ask for less than it allows;
where it asks for more it is refused, and nothing in either can change the policy.
"""

from __future__ import annotations

from minet_core.federation import FederationSettings
from minet_core.runtime.errors import PolicyRefused
from sites.site_settings import PolicySettings


def require_bundle_allowed(policy: PolicySettings, *, digest: str) -> None:
    """Raise PolicyRefused (FM-F420) for an app bundle that is not on the site's list; an empty list holds the kit's."""
    if policy.bundles and digest not in policy.bundles:
        raise PolicyRefused(
            "the kit's app bundle is not on this site's list",
            got=digest,
            expected=", ".join(policy.bundles),
            action="Ask the coordinator what has changed before you add it to policy.bundles in site.yaml",
        )


def require_federation_allowed(
    policy: PolicySettings, federation: FederationSettings, *, n_parameters: int
) -> None:
    """Raise PolicyRefused (FM-F420) for a federation file that lies outside the policy.

    n_parameters: the learnable weights of its model.
    """
    if policy.federations and federation.name not in policy.federations:
        raise PolicyRefused(
            "this site does not train for the kit's federation",
            got=federation.name,
            expected=", ".join(policy.federations),
            action="Add it to policy.federations in site.yaml if the hospital agrees",
        )
    for key, got, most in (
        ("most_rounds", federation.rounds, policy.most_rounds),
        ("most_parameters", n_parameters, policy.most_parameters),
    ):
        if most is not None and got > most:
            raise PolicyRefused(
                f"the federation file asks for more than policy.{key} of site.yaml allows",
                got=got,
                expected=f"at most {most}",
                action="Raise the limit if the hospital agrees",
            )
