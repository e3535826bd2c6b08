"""What each site makes of the global model for itself after the last round: `adaptation` in the federation file."""

from __future__ import annotations

from typing import Any, Literal, get_args

from pydantic import (
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
)

from minet_core.settings.yaml_file import Settings

Candidate = Literal["global", "adapted", "alone", "ensemble"]
CANDIDATES: tuple[Candidate, ...] = get_args(Candidate)
"""The models of which a site keeps one after an adaptation; their order is that of the figure `chosen` in a reply.

ensemble: the pictures of those of `ENSEMBLED` that the validation patients find fit, averaged.
"""

ENSEMBLED: tuple[Candidate, ...] = ("global", "adapted", "alone")
"""Of which models the ensemble is made at most: docs/results/worth-recipe.md has the trials, and
`minet_core.evaluation.model_choice.choose_ensembled` the rule."""


class AdaptationSettings(Settings):
    """How each site trains the global model further on its own slices after the last round: see docs/decisions/0021."""

    model_config = ConfigDict(allow_inf_nan=False)

    head: tuple[str, ...] = Field(
        ("target_reconstruction.", "reference_reconstruction.", "reconstruction."),
        min_length=1,
        description="beginnings of the names of the tensors that train first, while all others stay as they came",
    )
    head_steps: int = Field(
        0, ge=0, description="optimizer steps of the head alone, before all others; 0: none"
    )
    head_learning_rate: PositiveFloat = Field(1e-3, description="Adam's learning rate in them")
    steps: PositiveInt = Field(200, description="optimizer steps of the whole model after them")
    learning_rate: PositiveFloat = Field(
        2e-3, description="Adam's learning rate in them, before its decay; that of the quick preset's rounds"
    )
    rates: tuple[PositiveFloat, ...] = Field(
        (),
        max_length=8,
        description="several learning rates in place of that one: for each a model is adapted, and the site's "
        "validation patients choose among them; empty: learning_rate alone",
    )
    decay_fraction: float | None = Field(
        None,
        ge=0,
        le=1,
        description="last part of these steps over which the rate falls; null: that of training",
    )
    alone: bool = Field(
        True,
        description="also train a model from nothing, for the steps of all rounds and of the adaptation together, "
        "where the site allows them",
    )
    alone_learning_rate: PositiveFloat | None = Field(
        None, description="Adam's learning rate of that model, before its decay; null: that of the rounds"
    )
    ensemble: bool = Field(
        True,
        description="also compare the mean of the pictures of the models that fit; an image takes up to three times as "
        "long where that is kept",
    )
    validation_slices: PositiveInt | None = Field(
        None,
        description="evenly spread slices of each validation volume on which the models are compared; null: all",
    )
    deadline_s: PositiveFloat = Field(
        3600.0,
        description="how long the test waits for its sites where that is longer than a round's deadline, s",
    )

    @field_validator("rates")
    @classmethod
    def _no_rate_is_tried_twice(cls, rates: tuple[float, ...]) -> tuple[float, ...]:
        if len(set(rates)) < len(rates):
            raise ValueError("a learning rate is there twice")
        return tuple(sorted(rates))

    @model_serializer(mode="wrap")
    def _as_before_newer_keys(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without newer keys where they are as by default: such a file has the digest that it had before them."""
        content: dict[str, Any] = dump(self)
        if self.ensemble:
            content.pop("ensemble", None)
        if not self.rates:
            content.pop("rates", None)
        for name in ("decay_fraction", "alone_learning_rate", "validation_slices"):
            if getattr(self, name) is None:
                content.pop(name, None)
        return content

    @property
    def n_steps(self) -> int:
        """Optimizer steps of both parts together, of one adapted model."""
        return self.head_steps + self.steps

    @property
    def tried_rates(self) -> tuple[float, ...]:
        """The learning rates of which a model is adapted each; the gentlest first."""
        return self.rates or (self.learning_rate,)

    def with_rate(self, rate: float) -> AdaptationSettings:
        """The same adaptation, of one rate.

        Parameters
        ----------
        rate
            Adam's learning rate at its plateau.

        Returns
        -------
        AdaptationSettings
            Without a ladder.
        """
        return self.model_copy(update={"learning_rate": rate, "rates": ()})
