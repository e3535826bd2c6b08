"""The section `algorithm` of the federation file: which federated algorithm, and its numbers.

A file of its own, since every algorithm takes it and the federation file names the algorithms. That there is an
algorithm of such a name is asked where the federation file is read.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveFloat

from minet_core.settings.yaml_file import Settings


class AlgorithmSettings(Settings):
    """How the sites' weights become the global model: see `minet_core.algorithms`."""

    name: str = Field(
        "fedavg",
        description="fedavg, fedprox, scaffold, fedadam or personal-head: McMahan 2017, Li 2020, Karimireddy 2020, "
        "Reddi 2021, Feng 2022 (FedMRI)",
    )
    proximal_mu: float = Field(
        0.001,
        ge=0,
        allow_inf_nan=False,
        description="fedprox: weight of the proximal term, mu / 2 |w - w_t|^2",
    )
    server_learning_rate: PositiveFloat | None = Field(
        None,
        allow_inf_nan=False,
        description="the server's step; null: 1 for scaffold, 0.01 for fedadam, whose step is nearly its length",
    )
    beta1: float = Field(0.9, ge=0, lt=1, description="fedadam: decay of the first moment")
    beta2: float = Field(0.99, ge=0, lt=1, description="fedadam: decay of the second moment")
    tau: PositiveFloat = Field(
        1e-3, allow_inf_nan=False, description="fedadam: adaptivity, added to the root of the second moment"
    )
    personal: tuple[str, ...] = Field(
        ("target_reconstruction.", "reference_reconstruction."),
        description="personal-head: beginnings of the names of the tensors that stay at each site",
    )
    rule: Literal["mean", "trimmed-mean", "median", "geometric-median"] = Field(
        "mean",
        description="how the sites' weights become one: their mean by slices, or a rule that one site cannot steer",
    )
    max_share: float = Field(
        0.5,
        gt=0,
        le=1,
        description="most that one site counts for in a mean of three replies or more; the others share the rest",
    )
    trim: float = Field(
        0.2, ge=0, lt=0.5, description="trimmed-mean: part of the sites left out at either end, at least one"
    )
