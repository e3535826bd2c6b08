"""What a federation file means for both ends: the algorithm, which tensors travel, and in which form.

Both ends make it from the same settings, so neither tells the other what to accept.
"""

from __future__ import annotations

import functools
from collections import ChainMap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray

from minet_core.algorithms.interface import ServerState
from minet_core.algorithms.personal_head import check_personal
from minet_core.algorithms.registry import Algorithm, make_algorithm
from minet_core.models.base import SuperResolver
from minet_core.models.registry import build_model
from minet_core.seeds import derived_seed
from minet_core.settings.federation import FederationSettings
from minet_core.training.gradient_rules import require_part
from minet_core.weights.compression import CODECS, Codec
from minet_core.weights.lazy_arrays import check_stored
from minet_core.weights.manifest import Arrays, WeightManifest, check_weights, learnable


@dataclass(frozen=True)
class ExchangePlan:
    """What both ends hold each other to.

    shared: name, shape and dtype of the tensors that every site shares; those of a personal head are not in it.
    n_parameters: the learnable weights of the whole model, a personal head's too.
    """

    algorithm: Algorithm
    codec: Codec
    shared: WeightManifest
    n_parameters: int

    @cached_property
    def request_manifest(self) -> WeightManifest:
        """What a request's parcel must hold: the shared weights, and what of the server's memory travels down."""
        return _joined(self.shared, self._memory(self.algorithm.downlink_state))

    @cached_property
    def reply_manifest(self) -> WeightManifest:
        """What a reply's parcel must hold."""
        return _joined(self.codec.wire_manifest(self.shared), self._memory(self.algorithm.uplink_state))

    def request_arrays(self, state: ServerState) -> Arrays:
        """The arrays of a request: read when they are packed, not before.

        Parameters
        ----------
        state
            Of the server before the round.

        Returns
        -------
        Arrays
            The shared weights and the memory that travels down, by the names of `request_manifest`.
        """
        names = [name for name, _, _ in self._memory(self.algorithm.downlink_state).entries]
        return ChainMap({}, state.weights, SubsetView(state.memory, names))  # type: ignore[arg-type]

    def decoded(self, stored: Arrays, *, reference: Arrays) -> Arrays:
        """The weights of a reply's stored arrays, each decoded as it is asked for.

        Parameters
        ----------
        stored
            All arrays of the reply, by the names of `reply_manifest`.
        reference
            The global weights that the site was sent.

        Returns
        -------
        Arrays
            By the names of `shared`, read and decoded at each look.

        Raises
        ------
        WeightsRefused
            FM-M302, for wrong names at once, and for a wrong tensor of a compressed form when it is asked for.
        """
        names = [name for name, _, _ in self.codec.wire_manifest(self.shared).entries]
        return self.codec.decode(SubsetView(stored, names), reference=reference)

    def memory_in(self, stored: Arrays) -> Arrays:
        """What of a reply's stored arrays is the algorithm's own.

        Parameters
        ----------
        stored
            All arrays of the reply, by the names of `reply_manifest`.

        Returns
        -------
        Arrays
            "PREFIX/NAME"; empty for an algorithm without memory on its way up.
        """
        return SubsetView(stored, [name for name, _, _ in self._memory(self.algorithm.uplink_state).entries])

    def checked_reply(self, path: Path, *, reference: Arrays) -> tuple[Arrays, Arrays]:
        """Weights and memory of a reply's file, whose every array and every decoded value was checked, one at a time.

        Parameters
        ----------
        path
            A safetensors file.
        reference
            The global weights that the site was sent.

        Returns
        -------
        tuple of two Arrays
            Weights and memory, read from the file when they are asked for.

        Raises
        ------
        FileMissing
            FM-C103, where there is no file.
        WeightsRefused
            FM-M302, for anything that was not agreed.
        """
        stored = check_stored(path, self.reply_manifest)
        weights = self.decoded(stored, reference=reference)
        if self.codec is not CODECS["full"]:  # whose weights are the arrays that were checked
            check_weights(weights, self.shared)
        return weights, self.memory_in(stored)

    def _memory(self, prefixes: tuple[str, ...]) -> WeightManifest:
        entries = [
            (f"{prefix}/{name}", shape, "float32")
            for prefix in prefixes
            for name, shape, _ in self.shared.entries
        ]
        return WeightManifest(tuple(sorted(entries)))


class SubsetView(Mapping[str, NDArray[Any]]):
    """Some of the arrays of another mapping, read only when asked for.

    Parameters
    ----------
    arrays
        The other mapping, which may be lazy.
    names
        Of the arrays to show; all of them are in it.
    """

    def __init__(self, arrays: Arrays, names: list[str]) -> None:
        self._arrays, self._names = arrays, frozenset(names)

    def __getitem__(self, name: str, /) -> NDArray[Any]:
        if name not in self._names:
            raise KeyError(name)
        return self._arrays[name]

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._names))

    def __len__(self) -> int:
        return len(self._names)


def exchange_plan_of(federation: FederationSettings) -> ExchangePlan:
    """What a federation file means for both ends.

    Parameters
    ----------
    federation
        The file; the model is built without its memory, for its shapes alone.

    Returns
    -------
    ExchangePlan
        Equal at both ends for equal settings.

    Raises
    ------
    InvalidSetting
        FM-C102, for sizes that no model has, and a head, personal or of the adaptation, that names no tensor.
    """
    return _plan_of(_Asked(federation.model_dump_json(), federation))


@dataclass(frozen=True)
class _Asked:
    """A federation file, compared by its text."""

    text: str
    federation: FederationSettings = field(compare=False)


@functools.lru_cache(maxsize=8)
def _plan_of(asked: _Asked) -> ExchangePlan:
    """Kept: both ends ask for the same plan at every message."""
    federation = asked.federation
    settings = federation.algorithm
    algorithm = make_algorithm(settings, n_sites=len(federation.sites))
    with torch.device("meta"):
        model = build_model(federation.model.model_dump(), scale=federation.scale)
    learning = {name: p for name, p in sorted(model.named_parameters()) if p.requires_grad}
    if settings.name == "personal-head":
        check_personal(learning, personal=settings.personal)
    if federation.adaptation is not None and federation.adaptation.head_steps:
        require_part(federation.adaptation.head, names=learning)
    entries = tuple(
        (name, tuple(parameter.shape), str(parameter.dtype).removeprefix("torch."))
        for name, parameter in learning.items()
        if algorithm.shared(name)
    )
    n_parameters = sum(parameter.numel() for parameter in learning.values())
    return ExchangePlan(algorithm, CODECS[federation.traffic.uplink], WeightManifest(entries), n_parameters)


def initial_weights(federation: FederationSettings) -> tuple[SuperResolver, dict[str, NDArray[Any]]]:
    """The seeded model that round 1 begins with, and all its learnable weights.

    Parameters
    ----------
    federation
        Its seed and its model.

    Returns
    -------
    tuple of SuperResolver and dict
        The model on the CPU, and copies of its weights by name; the same at every call.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived_seed(federation.seed, "initial weights"))
        model = build_model(federation.model.model_dump(), scale=federation.scale)
    return model, learnable(model)


def _joined(first: WeightManifest, second: WeightManifest) -> WeightManifest:
    return WeightManifest(tuple(sorted((*first.entries, *second.entries))))
