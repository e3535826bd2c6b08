"""The methods of the paper's tables, their sizes, and how long each is trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from minet_core.errors import ConfigurationError
from minet_core.settings.federation import PRESETS, ModelSettings, TrainingSettings

MINET, OURS = "Feng et al. 2021", "here"

Contrasts = Literal["interpolation", "single", "multi"]
"""In the order that the paper's Table 1 has them, the worst first."""

Equal = Literal["time", "steps"]
"""What every learned method of an experiment gets as much of as MINet does."""

EQUALS: tuple[Equal, ...] = get_args(Equal)


@dataclass(frozen=True)
class Method:
    """One row of a table. source: the paper it is from. A method of interpolation has nothing to train.

    of_minet: for MINet and its variants, what differs from the preset's model. is_reading: whether the paper is not
    known here in every size, and the model is what its abstract and its successors say of it.
    """

    label: str
    contrasts: Contrasts
    source: str
    of_minet: Mapping[str, int | bool] | None = None
    is_reading: bool = False


_DEEPER = {"n_groups": 6}
_LARGER = {"n_groups": 3, "n_features": 24}
_LARGEST = {"n_groups": 4, "n_features": 32}
_AS_PUBLISHED = PRESETS["paper"][0].model_dump(include={"n_groups", "n_blocks", "n_features", "reduction"})

METHODS: dict[str, Method] = {
    "bicubic": Method("Bicubic", "interpolation", "Keys 1981"),
    "bspline": Method("B-spline", "interpolation", "Unser et al. 1993"),
    "sinc": Method("Zero-filled sinc", "interpolation", "zero-filled k-space"),
    "edsr": Method("EDSR", "single", "Lim et al. 2017"),
    "smore": Method("SMORE", "single", "Zhao et al. 2018"),
    "zeng": Method("Zeng et al.", "multi", "Zeng et al. 2018", is_reading=True),
    "lyu": Method("Lyu et al.", "multi", "Lyu et al. 2020", is_reading=True),
    "late-fusion": Method("Late fusion", "multi", OURS),
    "late-fusion-alone": Method("Late fusion, w/o reference", "single", OURS),
    "minet": Method("MINet", "multi", MINET, {}),
    "without-reference": Method("w/o F_Aux", "single", MINET, {"use_reference": False}),
    "without-integration": Method("w/o F_Int", "multi", MINET, {"use_integration": False}),
    "without-attention": Method("w/o F_Att", "multi", MINET, {"use_attention": False}),
    "minet-6x16": Method("MINet, L=6 C=16", "multi", MINET, _DEEPER),
    "without-integration-6x16": Method(
        "w/o F_Int, L=6 C=16", "multi", MINET, {**_DEEPER, "use_integration": False}
    ),
    "minet-3x24": Method("MINet, L=3 C=24", "multi", MINET, _LARGER),
    "without-integration-3x24": Method(
        "w/o F_Int, L=3 C=24", "multi", MINET, {**_LARGER, "use_integration": False}
    ),
    "minet-4x32": Method("MINet, L=4 C=32", "multi", MINET, _LARGEST),
    "without-integration-4x32": Method(
        "w/o F_Int, L=4 C=32", "multi", MINET, {**_LARGEST, "use_integration": False}
    ),
    "minet-6x64": Method("MINet, L=6 C=64", "multi", MINET, _AS_PUBLISHED),
    "without-integration-6x64": Method(
        "w/o F_Int, L=6 C=64", "multi", MINET, {**_AS_PUBLISHED, "use_integration": False}
    ),
}

TABLE_1 = ("bicubic", "bspline", "sinc", "edsr", "smore", "zeng", "lyu", "minet")
TABLE_2 = ("without-reference", "without-integration", "without-attention", "minet")
TWINS = {"minet": "without-reference", "late-fusion": "late-fusion-alone"}
"""The network of a method's size that sees no reference."""

INTEGRATION = tuple(
    f"{name}{size}" for size in ("", "-6x16", "-3x24", "-4x32") for name in ("without-integration", "minet")
)
"""F_Int at the preset's size, with the paper's number of stages, and at two wider sizes. The published size,
`-6x64`, is for a GPU and to be asked for: it does not train at the quick recipe's rate."""

_WITHOUT_REFERENCE = {"architecture": "late-fusion", "use_reference": False}

_OTHERS: dict[str, dict[str, dict[str, object]]] = {
    "quick": {
        "edsr": {"n_blocks": 6, "n_features": 20},
        "smore": {"n_blocks": 6, "n_features": 16},
        "zeng": {"n_blocks": 6, "n_features": 20},
        "lyu": {"n_blocks": 3, "n_features": 16},
        "late-fusion": {"n_blocks": 2, "n_features": 16},
        "late-fusion-alone": {**_WITHOUT_REFERENCE, "n_blocks": 2, "n_features": 16},
    },
    "paper": {
        "edsr": {"n_blocks": 32, "n_features": 256, "residual_scale": 0.1, "bicubic_skip": False},
        "smore": {"n_blocks": 32, "n_features": 256, "residual_scale": 0.1},
        "zeng": {"n_blocks": 8, "n_features": 64, "bicubic_skip": False},
        "lyu": {"n_blocks": 4, "n_features": 64, "bicubic_skip": False},
        "late-fusion": {"n_blocks": 16, "n_features": 64},
        "late-fusion-alone": {**_WITHOUT_REFERENCE, "n_blocks": 16, "n_features": 64},
    },
}
"""`quick`: about as many parameters as MINet's quick preset. `paper`: as published where it is known here, see the
modules of `minet_core.models`; late fusion at a size that was not trained yet."""

SIZES = tuple(_OTHERS)
"""The presets at whose size the methods are compared: those of MINet."""

_QUICK_AT_4X: dict[str, dict[str, object]] = {"lyu": {"n_blocks": 1, "n_features": 16}}
"""Two levels where there is one at 2x: fewer blocks in each."""

_STEPS: dict[int, dict[str, float]] = {
    2: {
        **{"minet": 1.0, "edsr": 4.2, "smore": 0.7, "zeng": 2.4, "lyu": 1.7},
        **{"without-reference": 1.9, "without-integration": 1.4, "without-attention": 1.1},
        **{"late-fusion": 2.3, "late-fusion-alone": 3.2},
    },
    4: {
        **{"minet": 1.0, "edsr": 6.2, "smore": 0.7, "zeng": 2.4, "lyu": 2.1},
        **{"without-reference": 1.9, "without-integration": 1.4, "without-attention": 1.1},
        **{"late-fusion": 2.4, "late-fusion-alone": 3.4},
    },
}
"""Optimizer steps in the time of one step of MINet, quick preset, cutting the batch included, by scale. Measured in
turn; elsewhere they are others: in bfloat16 on a Zen 5 EDSR, SMORE, Zeng et al. and Lyu et al. had 4.7, 0.95, 2.5 and
2.0 at 2x. Late fusion was timed in bfloat16, where MINet's step is cheaper than it was."""


TIMED_ON = "as steps were timed on one thread of a Zen 3 core in float32"


def is_learned(method: str) -> bool:
    return METHODS[method].contrasts != "interpolation"


def model_of(method: str, *, preset: str, scale: int) -> ModelSettings:
    """The model of a learned method."""
    minet, changes = PRESETS[preset][0], METHODS[method].of_minet
    if changes is not None:
        return ModelSettings.model_validate({**minet.model_dump(), **changes})
    sizes = _OTHERS[preset][method]
    if preset == "quick" and scale == 4:
        sizes = _QUICK_AT_4X.get(method, sizes)
    return ModelSettings.model_validate({"architecture": method, **sizes})


def training_of(
    method: str, *, preset: str, scale: int, local_steps: int | None, equal: Equal = "time"
) -> TrainingSettings:
    """How a learned method is trained: in the quick preset for about the same time as MINet, or for as many steps.

    local_steps: of MINet in a round; None leaves the preset's measure of local work. Raises ConfigurationError
    (FM-C100) for equal time and a method whose step was not timed.
    """
    training = PRESETS[preset][1]
    if local_steps is None:
        return training
    ratio: float | None = 1.0
    if preset == "quick" and equal == "time":
        ratio = _STEPS[scale].get(method)
    if ratio is None:
        raise ConfigurationError(
            f"a step of {method} was not timed", got="--equal time", expected="--equal steps"
        )
    return training.model_copy(
        update={
            "local_steps": max(1, round(local_steps * ratio)),
            "local_epochs": None,
            "local_seconds": None,
        }
    )
