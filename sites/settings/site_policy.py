"""The site's own policy held against what the coordinator asks for.

The policy is in site.yaml, which nobody but the hospital writes. A kit or a request may ask for less than it allows;
where it asks for more it is refused, and nothing in either can change the policy. Three checks, each before anything
that it bounds is made: the file before its model is built, the model before a scan is read, the cohort by its page.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from minet_core.algorithms.registry import ALGORITHMS
from minet_core.errors import PolicyRefused
from minet_core.settings.adaptation import ENSEMBLED, AdaptationSettings
from minet_core.settings.federation import FederationSettings, LocalWork
from sites.settings.cohort_floors import floors
from sites.settings.round_cost import CostOfRound, cost_of_round
from sites.settings.site_settings import Device, PolicySettings
from sites.store.cohort import Cohort

MAX_BLOCKS = 1024
"""Blocks of a model that is built at all, to count its weights: building one of a million takes minutes. The published
models have at most 36 (MINet, 6 x 6)."""

MAX_FEATURES = 4096
"""Feature channels likewise: the published models have 64 to 256."""

OTHER_BOUNDS: dict[str, tuple[float, float]] = {
    "training.warmup_steps": (0, 1000),
    "training.clip_norm": (1e-2, math.inf),
    "training.alpha + training.beta": (0.1, 10.0),
    "algorithm.proximal_mu": (0.0, 1.0),
    "model.residual_scale": (1e-3, 10.0),
}
"""Settings with which a step becomes a measurement: Adam divides a gradient by its own size plus 1e-8, so a loss or a
clip bound near that makes the change of the weights the gradient itself; a long warm-up is a learning rate near zero;
a strong proximal term holds the weights where they came from. The presets have 20 and 0, 1 and none, 1, 0.001, 1."""


def open_policy() -> PolicySettings:
    """The policy of a site whose scans are nobody's, or whose owner is the coordinator.

    Returns
    -------
    PolicySettings
        Floors of one and no limit.
    """
    ones = (
        *("min_patients", "min_slices", "min_validation_slices", "min_test_patients"),
        *("min_batch", "min_patch_px", "min_steps", "min_samples"),
    )
    most = [name for name in PolicySettings.model_fields if name.startswith("max_")]
    return PolicySettings.model_validate(
        {
            "algorithms": tuple(ALGORITHMS),
            "personal": None,
            "min_seconds": 1e-3,
            "min_learning_rate": 1e-12,
            **dict.fromkeys(ones, 1),
            **dict.fromkeys(most),
        }
    )


def require_bundle_allowed(policy: PolicySettings, *, digest: str) -> None:
    """Refuse an app bundle that is not on the site's list; an empty list holds the kit's.

    Parameters
    ----------
    policy
        The site's.
    digest
        SHA-256 of the bundle, hexadecimal.

    Raises
    ------
    PolicyRefused
        FM-F420.
    """
    if policy.bundles and digest not in policy.bundles:
        raise PolicyRefused(
            "the kit's app bundle is not on this site's list",
            got=digest,
            expected=", ".join(policy.bundles),
            action="Ask the coordinator what has changed before you add it to policy.bundles in site.yaml",
        )


def require_federation_allowed(policy: PolicySettings, federation: FederationSettings, *, site: str) -> None:
    """Refuse a federation file that lies outside the policy; no model is built for it.

    Parameters
    ----------
    policy
        The site's.
    federation
        The file that came.
    site
        The name whose local work counts.

    Raises
    ------
    PolicyRefused
        FM-F420, with the key of site.yaml, what is asked for and what is allowed.
    """
    _require_listed("federations", [federation.name], policy.federations or None)
    pinned = policy.federation_digest
    _require_listed("federation_digest", [federation.digest()], None if pinned is None else (pinned,))
    _require_listed("algorithms", [federation.algorithm.name], policy.algorithms)
    if federation.algorithm.name == "personal-head" and policy.personal is not None:
        inside = tuple(policy.personal)
        strange = [part for part in federation.algorithm.personal if not part.startswith(inside)]
        _require_listed("personal", strange, policy.personal)
    model, training = federation.model, federation.training
    _require("model.n_groups x model.n_blocks", model.n_groups * model.n_blocks, most=MAX_BLOCKS)
    _require("model.n_features", model.n_features, most=MAX_FEATURES)
    _require(
        "policy.max_passes",
        _passes_of_a_picture(federation),
        most=policy.max_passes,
        unit="passes for a picture",
    )
    _require("policy.max_rounds", federation.rounds, most=policy.max_rounds)
    _require("policy.min_batch", training.batch_size, least=policy.min_batch)
    _require("policy.max_batch", training.batch_size, most=policy.max_batch)
    if training.patch_px is not None:
        _require("policy.min_patch_px", training.patch_px, least=policy.min_patch_px)
    if training.validation_slices is not None:
        _require(
            "policy.min_validation_slices", training.validation_slices, least=policy.min_validation_slices
        )
    _require("policy.min_learning_rate", training.learning_rate, least=policy.min_learning_rate)
    _require("policy.max_learning_rate", training.learning_rate, most=policy.max_learning_rate)
    _require_other_bounds(federation)
    _require_work(policy, federation.work_of(site), batch_size=training.batch_size)
    if federation.adaptation is not None:
        require_adaptation_allowed(policy, federation.adaptation)


def require_adaptation_allowed(policy: PolicySettings, adaptation: AdaptationSettings) -> None:
    """Refuse an adaptation that is too long, or whose figures would be of a model that hardly trained.

    Parameters
    ----------
    policy
        The site's.
    adaptation
        Of the federation file that came.

    Raises
    ------
    PolicyRefused
        FM-F420.
    """
    n_steps = adaptation.n_steps * len(adaptation.tried_rates)
    _require("policy.max_adaptation_steps", n_steps, most=policy.max_adaptation_steps)
    _require("policy.min_steps", adaptation.steps, least=policy.min_steps)
    alone = () if adaptation.alone_learning_rate is None else (adaptation.alone_learning_rate,)
    for rate in (adaptation.head_learning_rate, *adaptation.tried_rates, *alone):
        _require("policy.min_learning_rate", rate, least=policy.min_learning_rate)
        _require("policy.max_learning_rate", rate, most=policy.max_learning_rate)


def require_model_allowed(
    policy: PolicySettings,
    federation: FederationSettings,
    *,
    site: str,
    n_parameters: int,
    device: Device = "auto",
    cohort: Cohort | None = None,
) -> CostOfRound:
    """Refuse a model, or a round's estimated memory or time, that is beyond the policy.

    Parameters
    ----------
    policy
        The site's.
    federation
        The file that came.
    site
        The name whose local work counts.
    n_parameters
        Learnable weights of the file's model.
    device
        As `compute.device` of site.yaml.
    cohort
        None where the store is not seen: then the least that a round can cost is held to the policy.

    Returns
    -------
    CostOfRound
        The estimate, which the policy allows.

    Raises
    ------
    PolicyRefused
        FM-F420.
    """
    _require("policy.max_parameters", n_parameters, most=policy.max_parameters)
    cost = cost_of_round(federation, site=site, n_parameters=n_parameters, device=device, cohort=cohort)
    _require("policy.max_memory_gb", cost.memory_gb, most=policy.max_memory_gb)
    _require("policy.max_seconds", cost.seconds, most=policy.max_seconds)
    return cost


def require_cohort_allowed(
    policy: PolicySettings, federation: FederationSettings, cohort: Cohort, *, site: str
) -> None:
    """Refuse a request whose figures would be of too few of this cohort; no scan is read for it.

    Parameters
    ----------
    policy
        The site's.
    federation
        The file that came.
    cohort
        What the site's store holds.
    site
        The name whose local work counts.

    Raises
    ------
    PolicyRefused
        FM-F420.
    """
    for key, got, least, of in floors(policy, cohort):
        _require(key, got, least=least, of=of)
    training = cohort.counts["training"]
    if federation.training.patch_px is None:
        edge = min((min(pair.shape[1:]) for pair, _ in cohort.pairs_of("training")), default=0)
        _require("policy.min_patch_px", edge, least=policy.min_patch_px)
    work, batch_size = federation.work_of(site), federation.training.batch_size
    if work.local_epochs is not None:
        n_steps = work.local_epochs * -(-training.slices // batch_size)
        require_steps_allowed(policy, n_steps=n_steps, n_samples=n_steps * batch_size)


def require_steps_allowed(policy: PolicySettings, *, n_steps: int, n_samples: int) -> None:
    """Refuse a round that has, or had, too few or too many steps for its figures to leave.

    Parameters
    ----------
    policy
        The site's.
    n_steps
        Optimizer steps of the round.
    n_samples
        Patches or slices in all of them.

    Raises
    ------
    PolicyRefused
        FM-F420.
    """
    _require("policy.min_steps", n_steps, least=policy.min_steps)
    _require("policy.max_steps", n_steps, most=policy.max_steps)
    _require("policy.min_samples", n_samples, least=policy.min_samples)


def require_budget_left(policy: PolicySettings, *, n_answered: int) -> None:
    """Refuse the request that would be one more than the study's budget.

    Parameters
    ----------
    policy
        The site's.
    n_answered
        Requests of the study that were answered before.

    Raises
    ------
    PolicyRefused
        FM-F420.
    """
    _require("policy.max_requests", n_answered + 1, most=policy.max_requests)


def _passes_of_a_picture(federation: FederationSettings) -> int:
    """Of one network for a slice, in the longest test that the file asks for: no step's bound sees it."""
    model, adaptation = federation.model, federation.adaptation
    together = adaptation is not None and adaptation.alone and adaptation.ensemble and model.members == 1
    return model.members * model.self_ensemble * (len(ENSEMBLED) if together else 1)


def _require_work(policy: PolicySettings, work: LocalWork, *, batch_size: int) -> None:
    if work.local_steps is not None:
        require_steps_allowed(policy, n_steps=work.local_steps, n_samples=work.local_steps * batch_size)
    if work.local_epochs is not None:  # each has a step at the least; how many, the cohort says
        _require("policy.max_steps", work.local_epochs, most=policy.max_steps)
    if work.local_seconds is not None:
        _require("policy.min_seconds", work.local_seconds, least=policy.min_seconds)
        _require("policy.max_seconds", work.local_seconds, most=policy.max_seconds)


def _require_other_bounds(federation: FederationSettings) -> None:
    training, algorithm = federation.training, federation.algorithm
    clip = training.clip_norm
    found: dict[str, float] = {
        "training.warmup_steps": training.warmup_steps,
        "training.clip_norm": OTHER_BOUNDS["training.clip_norm"][0] if clip is None else clip,
        "training.alpha + training.beta": training.alpha + training.beta,
        "algorithm.proximal_mu": algorithm.proximal_mu if algorithm.name == "fedprox" else 0.0,
        "model.residual_scale": federation.model.residual_scale,
    }
    for key, value in found.items():
        low, high = OTHER_BOUNDS[key]
        if not low <= value <= high:  # so that NaN is refused too
            raise PolicyRefused(
                f"{key} of the federation file would make a training step a measurement",
                got=value,
                expected=f"{low:g} to {high:g}",
                action="Ask the coordinator what it is for",
            )


def _require_listed(key: str, asked: Iterable[str], allowed: tuple[str, ...] | None) -> None:
    if allowed is None:
        return
    strange = [name for name in asked if name not in allowed]
    if strange:
        raise PolicyRefused(
            f"the federation file asks for what policy.{key} of site.yaml does not list",
            got=", ".join(strange),
            expected=", ".join(allowed),
            action="Ask the coordinator why, and add it if the hospital agrees",
        )


def _require(
    key: str,
    got: float,
    *,
    least: float | None = None,
    most: float | None = None,
    of: str | None = None,
    unit: str | None = None,
) -> None:
    where = (
        f"{key} of site.yaml" if key.startswith("policy.") else f"{key}, of which a model is built at all,"
    )
    if least is not None and not got >= least:
        raise PolicyRefused(
            f"{'this site has' if of else 'what is asked for has'} less than {where} asks for",
            got=f"{got:.12g}{f' {of}' if of else ''}",
            expected=f"at least {least:.12g}",
            action="Lower the floor only if the hospital agrees: what leaves is then of less",
        )
    if most is not None and not got <= most:
        raise PolicyRefused(
            f"what is asked for is more than {where} allows",
            got=f"{got:.12g}{f' {unit}' if unit else ''}",
            expected=f"at most {most:.12g}",
            action="Raise the limit only if the hospital agrees",
        )
