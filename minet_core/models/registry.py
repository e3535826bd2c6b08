"""Every learned method by its name, and which settings each takes."""

from __future__ import annotations

from typing import Literal, get_args

from minet_core.models.base import SuperResolver
from minet_core.models.baselines.edsr import EDSR
from minet_core.models.baselines.lyu import Lyu
from minet_core.models.baselines.smore import SMORE
from minet_core.models.baselines.zeng import Zeng
from minet_core.models.minet.model import MINet

Architecture = Literal["minet", "edsr", "smore", "zeng", "lyu"]

_MODELS: dict[Architecture, type[SuperResolver]] = {
    "minet": MINet,
    "edsr": EDSR,
    "smore": SMORE,
    "zeng": Zeng,
    "lyu": Lyu,
}

SETTINGS_OF: dict[Architecture, frozenset[str]] = {
    "minet": frozenset(
        {
            *("n_groups", "n_blocks", "n_features", "reduction", "integration", "bicubic_skip"),
            *("use_reference", "use_integration", "use_attention"),
        }
    ),
    "edsr": frozenset({"n_blocks", "n_features", "residual_scale", "bicubic_skip"}),
    "smore": frozenset({"n_blocks", "n_features", "residual_scale"}),
    "zeng": frozenset({"n_blocks", "n_features", "bicubic_skip"}),
    "lyu": frozenset({"n_blocks", "n_features", "bicubic_skip"}),
}
"""The keyword arguments of each that a federation file sets."""

assert set(_MODELS) == set(SETTINGS_OF) == set(get_args(Architecture))


def build_model(settings: dict[str, object], *, scale: int) -> SuperResolver:
    """The model of `ModelSettings.model_dump()`, with weights drawn from torch's generator.

    Raises InvalidSetting (FM-C102) for sizes that no model has.
    """
    architecture: Architecture = settings["architecture"]  # type: ignore[assignment]
    taken = {name: settings[name] for name in SETTINGS_OF[architecture]}
    return _MODELS[architecture](scale=scale, **taken)
