"""What a site adapts, where and how: the model to begin with, and each candidate's network, phases and cost."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from client.site_home import SiteHome
from minet_core.checkpoint_manifest import CheckpointManifest
from minet_core.models.base import SuperResolver
from minet_core.models.registry import build_model
from minet_core.settings.adaptation import AdaptationSettings, Candidate
from minet_core.settings.federation import FederationSettings, ModelSettings
from minet_core.training.device import preferred_device
from minet_core.training.phases import KEEP_EVERY, Phase, adaptation_phases
from minet_core.weights.manifest import Arrays

ADAPTATION = "adaptation"
"""The folder in the site's results."""


@dataclass(frozen=True)
class SiteAdaptation:
    """What is to be adapted, where, and how.

    federation: its model, scale, seed and recipe of training. weights: all that learn in the model to begin with.
    n_alone_steps: of a model that is trained alone; 0: none. origin: of the file that the weights are from; None: they
    came from the server after the federation's last round. keep_every: steps after which a training is kept. stand: the
    name of the file of where the adaptation stands.
    """

    home: SiteHome
    federation: FederationSettings
    adaptation: AdaptationSettings
    weights: Arrays
    n_alone_steps: int
    origin: CheckpointManifest | None = None
    keep_every: int = KEEP_EVERY
    stand: str = "adapted"

    @property
    def rungs(self) -> dict[float, SiteAdaptation]:
        """By learning rate, the adaptation at this one rate; its bytes do not depend on what else is tried."""
        if not self.adaptation.rates:
            return {self.adaptation.learning_rate: self}
        return {rate: self._at_rate(rate) for rate in self.adaptation.rates}

    def _at_rate(self, rate: float) -> SiteAdaptation:
        adaptation, federation = self.adaptation.with_rate(rate), self.federation
        if federation.adaptation is not None:
            own = federation.adaptation.with_rate(rate)
            federation = federation.model_copy(update={"adaptation": own})
        return replace(self, adaptation=adaptation, federation=federation, stand=f"adapted-{rate:g}")

    @property
    def folder(self) -> Path:
        return self.home.results / ADAPTATION

    def phases(self, candidate: Candidate) -> tuple[Phase, ...]:
        """What is trained for a candidate: nothing for the global model, or for one that is not asked for."""
        training = self.federation.training
        if candidate == "adapted":
            return adaptation_phases(self.adaptation, training)
        if candidate == "alone" and self.n_alone_steps:
            rate = self.adaptation.alone_learning_rate or training.learning_rate
            alone = training.model_copy(update={"learning_rate": rate})
            return (Phase(settings=alone, n_steps=self.n_alone_steps),)
        return ()

    def steps_of(self, candidate: Candidate) -> int:
        """Optimizer steps of the site behind a network's weights, without those of the rounds."""
        return sum(phase.n_steps for phase in self.phases(candidate))

    def settings_of(self, n_networks: int) -> ModelSettings:
        """The network that weights are of. n_networks: of the ensemble; 1: of any other candidate."""
        of_rounds = self.federation.model
        return of_rounds if n_networks == 1 else of_rounds.model_copy(update={"members": n_networks})

    def cost_of(self, candidate: Candidate) -> int:
        """Optimizer steps that the site makes for a candidate beside the rounds: of all rates that are tried for it.

        Of the ensemble none: its networks are there.
        """
        n_steps = sum(phase.n_steps for phase in self.phases(candidate))
        return n_steps * len(self.adaptation.tried_rates) if candidate == "adapted" else n_steps


def alone_steps(federation: FederationSettings, home: SiteHome, *, n_slices: int) -> int:
    """Steps of a model that is trained alone: of all the site's rounds and the adaptation together.

    0 where the federation file asks for none, or the site's policy does not give it the time.
    """
    adaptation, settings = federation.adaptation, home.settings()
    if adaptation is None or not adaptation.alone:
        return 0
    work = federation.work_of(settings.name)
    of_round = work.max_steps(n_slices=n_slices, batch_size=federation.training.batch_size)
    n_steps, most = federation.rounds * of_round + adaptation.n_steps, settings.policy.max_alone_steps
    return n_steps if most is None or n_steps <= most else 0


def model_of(task: SiteAdaptation, *, n_networks: int = 1) -> SuperResolver:
    """The network of a candidate, on the site's device, without its weights. n_networks: see `settings_of`."""
    device = preferred_device(task.home.settings().compute.device)
    return build_model(task.settings_of(n_networks).model_dump(), scale=task.federation.scale).to(device)
