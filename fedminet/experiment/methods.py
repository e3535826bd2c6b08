"""The methods of the paper's tables, their sizes, and how long each is trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from minet_core.federation import PRESETS, ModelSettings, TrainingSettings

Contrasts = Literal["interpolation", "single", "multi"]
"""In the order that the paper's Table 1 has them, the worst first."""


@dataclass(frozen=True)
class Method:
    """One row of a table. source: the paper it is from. A method of interpolation has nothing to train."""

    label: str
    contrasts: Contrasts
    source: str


METHODS: dict[str, Method] = {
    "bicubic": Method("Bicubic", "interpolation", "Keys 1981"),
    "bspline": Method("B-spline", "interpolation", "Unser et al. 1993"),
    "sinc": Method("Zero-filled sinc", "interpolation", "zero-filled k-space"),
    "edsr": Method("EDSR", "single", "Lim et al. 2017"),
    "smore": Method("SMORE", "single", "Zhao et al. 2018"),
    "zeng": Method("Zeng et al.", "multi", "Zeng et al. 2018"),
    "lyu": Method("Lyu et al.", "multi", "Lyu et al. 2020"),
    "minet": Method("MINet", "multi", "Feng et al. 2021"),
    "without-reference": Method("w/o F_Aux", "single", "Feng et al. 2021, Table 2"),
    "without-integration": Method("w/o F_Int", "multi", "Feng et al. 2021, Table 2"),
    "without-attention": Method("w/o F_Att", "multi", "Feng et al. 2021, Table 2"),
}

TABLE_1 = ("bicubic", "bspline", "sinc", "edsr", "smore", "zeng", "lyu", "minet")
TABLE_2 = ("without-reference", "without-integration", "without-attention", "minet")

_ABLATIONS = {
    "without-reference": {"use_reference": False},
    "without-integration": {"use_integration": False},
    "without-attention": {"use_attention": False},
}

_OTHERS: dict[str, dict[str, dict[str, object]]] = {
    "quick": {
        "edsr": {"n_blocks": 6, "n_features": 20},
        "smore": {"n_blocks": 6, "n_features": 16},
        "zeng": {"n_blocks": 6, "n_features": 20},
        "lyu": {"n_blocks": 3, "n_features": 16},
    },
    "paper": {
        "edsr": {"n_blocks": 32, "n_features": 256, "residual_scale": 0.1, "global_skip": False},
        "smore": {"n_blocks": 32, "n_features": 256, "residual_scale": 0.1},
        "zeng": {"n_blocks": 8, "n_features": 64, "global_skip": False},
        "lyu": {"n_blocks": 4, "n_features": 64, "global_skip": False},
    },
}
"""`quick`: about as many parameters as MINet's quick preset. `paper`: as published where it is known here, see the
modules of `minet_core.models`."""

_QUICK_AT_4X: dict[str, dict[str, object]] = {"lyu": {"n_blocks": 1, "n_features": 16}}
"""Two levels where there is one at 2x: fewer blocks in each."""

_STEPS: dict[int, dict[str, float]] = {
    2: {
        **{"edsr": 4.7, "smore": 0.95, "zeng": 2.5, "lyu": 2.0},
        **{"without-reference": 1.9, "without-integration": 1.5, "without-attention": 1.1},
    },
    4: {
        **{"edsr": 6.8, "smore": 1.0, "zeng": 2.8, "lyu": 2.4},
        **{"without-reference": 2.0, "without-integration": 1.6, "without-attention": 1.1},
    },
}
"""Optimizer steps in the time of one step of MINet, quick preset, drawing the batch included, by scale. Measured in
turn on one thread of a Zen 5 core: `docs/results/table1.md`."""


def is_learned(method: str) -> bool:
    return METHODS[method].contrasts != "interpolation"


def model_of(method: str, *, preset: str, scale: int) -> ModelSettings:
    """The model of a learned method."""
    minet = PRESETS[preset][0]
    if method == "minet":
        return minet
    if method in _ABLATIONS:
        return ModelSettings.model_validate({**minet.model_dump(), **_ABLATIONS[method]})
    sizes = _OTHERS[preset][method]
    if preset == "quick" and scale == 4:
        sizes = _QUICK_AT_4X.get(method, sizes)
    return ModelSettings.model_validate({"architecture": method, **sizes})


def training_of(method: str, *, preset: str, scale: int, local_steps: int | None) -> TrainingSettings:
    """How a learned method is trained: in the quick preset, all for about the same time.

    local_steps: of MINet in a round; None leaves the preset's measure of local work.
    """
    training = PRESETS[preset][1]
    if local_steps is None:
        return training
    steps = local_steps * (_STEPS[scale].get(method, 1.0) if preset == "quick" else 1.0)
    return training.model_copy(
        update={"local_steps": max(1, round(steps)), "local_epochs": None, "local_seconds": None}
    )
