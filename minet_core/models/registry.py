"""Every learned method by its name. A new one is a class, its settings and a line of `MODELS`: docs/extending.md."""

from __future__ import annotations

from minet_core.errors import ModelError
from minet_core.models.architectures import SETTINGS_OF
from minet_core.models.base import SuperResolver
from minet_core.models.baselines.edsr import EDSR
from minet_core.models.baselines.lyu import Lyu
from minet_core.models.baselines.smore import SMORE
from minet_core.models.baselines.zeng import Zeng
from minet_core.models.ensemble import Ensemble
from minet_core.models.late_fusion import LateFusion
from minet_core.models.minet.model import MINet

MODELS: dict[str, type[SuperResolver]] = {
    "minet": MINet,
    "late-fusion": LateFusion,
    "edsr": EDSR,
    "smore": SMORE,
    "zeng": Zeng,
    "lyu": Lyu,
}


def build_model(settings: dict[str, object], *, scale: int) -> SuperResolver:
    """A model by the settings of a federation file, with weights drawn from torch's generator.

    Parameters
    ----------
    settings
        As `ModelSettings.model_dump()` gives them; those that the method does not have are not looked at. With
        `members` above 1: an ensemble of so many networks, each drawn by itself.
    scale
        2 or 4.

    Returns
    -------
    SuperResolver
        On torch's default device, in training mode.

    Raises
    ------
    InvalidSetting
        FM-C102, for sizes that no model has.
    ModelError
        FM-M300, for a class that keeps more than parameters that learn.

    Examples
    --------
    >>> import torch
    >>> from minet_core.models.registry import build_model
    >>> model = build_model({"architecture": "minet", "n_features": 8}, scale=2)
    >>> low_res, reference = torch.rand(1, 1, 16, 16), torch.rand(1, 1, 32, 32)
    >>> target_image, reference_image = model(low_res, reference)
    >>> target_image.shape
    torch.Size([1, 1, 32, 32])
    """
    architecture = str(settings["architecture"])
    taken = {name: settings[name] for name in SETTINGS_OF[architecture] & settings.keys()}
    n_members = settings.get("members", 1)
    assert isinstance(n_members, int)
    members = [MODELS[architecture](**{"scale": scale, **taken}) for _ in range(n_members)]
    model = members[0] if n_members == 1 else Ensemble(members)
    _check_state(model, architecture=architecture)
    n_poses = settings.get("self_ensemble", 1)
    assert isinstance(n_poses, int)
    model.self_ensemble = n_poses
    return model


def _check_state(model: SuperResolver, *, architecture: str) -> None:
    """Refuse a model with state that neither a message nor a checkpoint carries.

    Both hold the parameters that learn. A running mean of BatchNorm would stay at each site, and start anew wherever
    the checkpoint is opened: another picture than was validated, and nothing would say so.
    """
    learning = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    left_behind = sorted(model.state_dict().keys() - learning)
    if left_behind:
        raise ModelError(
            f"the model {architecture} keeps values that would stay behind at a site",
            got=", ".join(left_behind),
            expected="parameters that learn, and constants as buffers with persistent=False",
            action="use GroupNorm or no norm in place of BatchNorm; compute constants in the constructor",
        )
