"""Whether a round meets the participation contract of the federation file, and what is missing where it does not."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping

from minet_core.errors import ConfigurationError
from minet_core.protocol.cohort_declaration import CohortDeclaration
from minet_core.settings.federation import FederationSettings, ParticipationSettings


def participation_violation(
    contract: ParticipationSettings, accepted: Mapping[str, int], *, declared: Mapping[str, CohortDeclaration]
) -> str | None:
    """What of the contract these replies do not meet; None where they meet it.

    accepted: by site, the training slices of its reply. declared: of every member that has declared any.
    """
    absent = [site for site in contract.required if site not in accepted]
    if absent:
        return f"without {', '.join(absent)}, which the contract requires"
    if len(accepted) < contract.quorum:
        return f"{len(accepted)} valid replies, quorum {contract.quorum}"
    whole = sum(cohort.n_training_slices for cohort in declared.values())
    if contract.min_share > 0 and sum(accepted.values()) < contract.min_share * whole:
        return f"{sum(accepted.values())} of {whole} training slices, least share {contract.min_share:g}"
    return None


SHORTFALL = re.compile(r"round ([0-9]+) (without .+)")


def in_short(shortfalls: Iterable[str]) -> list[str]:
    """`round N without SITES` of neighbouring rounds as one: a site that never came would fill a screen."""
    found: list[tuple[int, int, str]] = []
    others = []
    for text in shortfalls:
        known = SHORTFALL.fullmatch(text)
        if known is None:
            others.append(text)
        elif found and found[-1][1:] == (int(known[1]) - 1, known[2]):
            found[-1] = (found[-1][0], int(known[1]), known[2])
        else:
            found.append((int(known[1]), int(known[1]), known[2]))
    rounds = [
        f"round {first} {what}" if first == last else f"rounds {first} to {last} {what}"
        for first, last, what in found
    ]
    return [*rounds, *others]


def require_declarations(federation: FederationSettings, declared: Collection[str]) -> None:
    """Raise ConfigurationError (FM-C100) where the contract's share cannot be known for want of a declaration."""
    undeclared = [site for site in federation.sites if site not in declared]
    if federation.participation.min_share > 0 and undeclared:
        raise ConfigurationError(
            "participation.min_share needs the declaration of every site",
            got=f"none of {', '.join(undeclared)}",
            action="Admit the site with --declaration",
        )
