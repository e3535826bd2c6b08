"""A shared body and a personal head: the tensors of the head stay at each site, the body is averaged.

Feng, Yan, Wang, Xu, Shao, Fu: "Specificity-Preserving Federated Learning for MR Image Reconstruction" (FedMRI),
IEEE Transactions on Medical Imaging 2022: a globally shared encoder and a client-specific decoder.

Departures: the paper's weighted contrastive term, which keeps a site's encoder near the global one and away from
its own last, is not taken; the head is what the federation names by prefixes, where the paper has the decoder of
a U-Net; a site is weighted by its slices.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from minet_core.algorithms.fedavg import average
from minet_core.algorithms.interface import Algorithm, ServerState
from minet_core.algorithms.server_step import combination_of
from minet_core.errors import InvalidSetting
from minet_core.settings.algorithm import AlgorithmSettings
from minet_core.weights.manifest import Arrays

SOURCE = "Feng et al. 2022 (FedMRI), without its contrastive term"


def personal_head(settings: AlgorithmSettings, *, n_sites: int) -> Algorithm:  # noqa: ARG001 - as every algorithm
    """FedAvg over the body of the model.

    `init` takes the whole model or the body alone, and keeps the body. Whether every prefix names a tensor,
    `check_personal` says of a whole model.

    Parameters
    ----------
    settings
        personal, the prefixes of the head's names, such as "target_reconstruction.", and how the sites' tensors
        become one.
    n_sites
        Taken as every algorithm takes it; not used.

    Returns
    -------
    Algorithm
        Only the body's tensors are shared; it has no memory.

    Raises
    ------
    InvalidSetting
        FM-C102, without a prefix, and in `init` where nothing is left to share.

    References
    ----------
    Feng et al.: "Specificity-Preserving Federated Learning for MR Image Reconstruction" (FedMRI), IEEE Transactions
    on Medical Imaging 2022.
    """
    personal = settings.personal
    if not personal or not all(personal):
        raise InvalidSetting("the personal head names no tensors", got=personal, expected="prefixes of names")

    def is_shared(name: str) -> bool:
        return not name.startswith(personal)

    def init(weights: Arrays) -> ServerState:
        body = {name: weights[name] for name in sorted(weights) if is_shared(name)}
        if not body:
            raise InvalidSetting(
                "the personal head is the whole model", got=personal, expected="a shared body"
            )
        return ServerState(weights=body, memory={})

    apply = partial(average, combination=combination_of(settings))
    return Algorithm(name="personal-head", source=SOURCE, init=init, apply=apply, shared=is_shared)


def check_personal(names: Iterable[str], *, personal: tuple[str, ...]) -> None:
    """Refuse a prefix that names no tensor of the model: a misspelt one would let a part of the head travel.

    Parameters
    ----------
    names
        All that learn in the whole model.
    personal
        Prefixes of the head's names.

    Raises
    ------
    InvalidSetting
        FM-C102, for such a prefix.
    """
    known = sorted(names)
    idle = [prefix for prefix in personal if not any(name.startswith(prefix) for name in known)]
    if idle:
        raise InvalidSetting(
            "a prefix of the personal head names no tensor",
            got=idle,
            expected=f"beginnings of names such as {known[:1]}",
            action="Name the head's tensors as the model does",
        )
