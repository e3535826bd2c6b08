"""What corrects the gradient of a step of local training, between its computation and its use.

`train_steps` calls `GradientRule.correct` after the backward pass and before the gradient is clipped.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from minet_core.errors import InvalidSetting, WeightsRefused
from minet_core.weights.manifest import Arrays
from minet_core.weights.memory_names import CONTROL


class GradientRule(Protocol):
    """The correction of one site's gradients in one round."""

    def correct(self, model: nn.Module) -> None:
        """Change the gradients of the parameters that learn, in place.

        Parameters
        ----------
        model
            After the backward pass: `parameter.grad` of each is set.
        """

    def kept(self) -> dict[str, NDArray[Any]]:
        """What the site keeps for its next round, after the last step.

        Returns
        -------
        dict of arrays
            By "PREFIX/NAME"; empty where nothing is kept.
        """

    def sent(self) -> dict[str, NDArray[Any]]:
        """What goes to the server beside the weights, after the last step.

        Returns
        -------
        dict of arrays
            By "PREFIX/NAME"; empty where nothing is sent.
        """


class OnlyPart:
    """Trains a part of a model: all other gradients are set to zero, so that Adam leaves their tensors as they are.

    Adam must begin with it, with fresh moments: its step for a tensor whose gradient and moments are zero is exactly
    zero.

    Parameters
    ----------
    beginnings
        Of the names of the tensors that train.
    names
        Of all tensors that learn.

    Raises
    ------
    InvalidSetting
        FM-C102, where nothing would train.
    """

    def __init__(self, beginnings: tuple[str, ...], *, names: Iterable[str]) -> None:
        require_part(beginnings, names=names)
        self._beginnings = beginnings

    def correct(self, model: nn.Module) -> None:
        """Set the other gradients to zero.

        Parameters
        ----------
        model
            After the backward pass; its gradients are changed in place.
        """
        for name, parameter in model.named_parameters():
            if parameter.grad is not None and not name.startswith(self._beginnings):
                parameter.grad.zero_()

    def kept(self) -> dict[str, NDArray[Any]]:
        """Nothing.

        Returns
        -------
        dict of arrays
            Empty.
        """
        return {}

    def sent(self) -> dict[str, NDArray[Any]]:
        """Nothing.

        Returns
        -------
        dict of arrays
            Empty.
        """
        return {}


def require_part(beginnings: tuple[str, ...], *, names: Iterable[str]) -> None:
    """Refuse beginnings of names that no tensor has.

    Parameters
    ----------
    beginnings
        Of the names of the tensors that are to train; some of them may be of other models.
    names
        Of all tensors that learn.

    Raises
    ------
    InvalidSetting
        FM-C102, where no name begins with one of them.
    """
    known = sorted(names)
    if not any(name.startswith(beginnings) for name in known):
        raise InvalidSetting(
            "the part of the model that is to train first has no tensor",
            got=", ".join(beginnings),
            expected=f"beginnings of names such as {', '.join(known[-2:])}",
            action="Name it in adaptation.head as the model does, or set adaptation.head_steps to 0",
        )


class Proximal:
    """FedProx's proximal term: adds mu (w - w_global), the gradient of mu/2 |w - w_global|^2 (Li et al. 2020).

    Holds one copy of the model on its device.

    Parameters
    ----------
    mu
        Per unit of weight squared, zero or more; 0 changes nothing.
    anchor
        The global weights, one array for each parameter that learns.
    """

    def __init__(self, mu: float, anchor: Arrays) -> None:
        self._mu = mu
        self._anchor = anchor
        self._tensors: dict[str, Tensor] | None = None

    def correct(self, model: nn.Module) -> None:
        """Add the proximal term.

        Parameters
        ----------
        model
            After the backward pass; its gradients are changed in place.

        Raises
        ------
        WeightsRefused
            FM-M302, where the anchor is not of this model.
        InvalidSetting
            FM-C102, where a parameter that learns has no gradient.
        """
        parameters = _learning(model)
        if self._tensors is None:
            self._tensors = _tensors_like(parameters, self._anchor, what="the anchor")
        with torch.no_grad():
            for name, parameter in parameters.items():
                _gradient(name, parameter).add_(parameter - self._tensors[name], alpha=self._mu)

    def kept(self) -> dict[str, NDArray[Any]]:
        """Nothing.

        Returns
        -------
        dict
            Empty.
        """
        return {}

    def sent(self) -> dict[str, NDArray[Any]]:
        """Nothing.

        Returns
        -------
        dict
            Empty.
        """
        return {}


class ControlVariates:
    """SCAFFOLD's correction: adds c - c_i to the gradient of site i (Karimireddy et al. 2020, Algorithm 1, line 10).

    Holds two copies of the model on its device: the correction, and the sum of the gradients before it.

    Departure: the new c_i is the mean of the round's raw stochastic gradients, taken before the correction and
    before clipping. Under plain SGD with a constant rate eta and no clipping that is option II of the paper,
    c_i+ = c_i - c + (x - y) / (K eta), to rounding. It stays a mean gradient under Adam, a varying rate or
    clipping, where (x - y) / (K eta) is none.

    Parameters
    ----------
    global_control
        c, one float32 array for each parameter that learns, by its name.
    local_control
        c_i, of the same form; no names at all for a site's first round, which starts from c_i = 0.
    """

    def __init__(self, global_control: Arrays, local_control: Arrays) -> None:
        self._global_control = global_control
        self._local_control = local_control
        self._correction: dict[str, Tensor] | None = None
        self._gradient_sum: dict[str, Tensor] = {}
        self._n_steps = 0

    def correct(self, model: nn.Module) -> None:
        """Add c - c_i, and count the raw gradient.

        Parameters
        ----------
        model
            After the backward pass; its gradients are changed in place.

        Raises
        ------
        WeightsRefused
            FM-M302, for controls of another model.
        InvalidSetting
            FM-C102, where a parameter that learns has no gradient.
        """
        parameters = _learning(model)
        with torch.no_grad():
            if self._correction is None:
                self._correction = self._correction_for(parameters)
                self._gradient_sum = {name: torch.zeros_like(p) for name, p in parameters.items()}
            for name, parameter in parameters.items():
                gradient = _gradient(name, parameter)
                self._gradient_sum[name].add_(gradient)
                gradient.add_(self._correction[name])
        self._n_steps += 1

    def new_local_control(self) -> dict[str, NDArray[np.float32]]:
        """c_i+: the mean raw gradient over the steps so far.

        Returns
        -------
        dict of float32 arrays
            By the parameter's name; copies on the CPU in C order.

        Raises
        ------
        InvalidSetting
            FM-C102, before the first step, where there is no gradient.
        """
        if self._n_steps == 0:
            raise InvalidSetting(
                "a control variate has no gradient yet", got="0 steps", expected="at least 1"
            )
        return {
            name: np.array((total / self._n_steps).float().cpu().numpy(), order="C", copy=True)
            for name, total in self._gradient_sum.items()
        }

    def kept(self) -> dict[str, NDArray[Any]]:
        """c_i+, for the site's next round.

        Returns
        -------
        dict of float32 arrays
            By "control/NAME".

        Raises
        ------
        InvalidSetting
            FM-C102, before the first step.
        """
        return {f"{CONTROL}/{name}": array for name, array in self.new_local_control().items()}

    def sent(self) -> dict[str, NDArray[Any]]:
        """c_i+ - c_i (line 12).

        Returns
        -------
        dict of float32 arrays
            By "control/NAME".

        Raises
        ------
        InvalidSetting
            FM-C102, before the first step.
        """
        changes = self.new_local_control()
        for name in changes if self._local_control else ():
            changes[name] -= self._local_control[name]
        return {f"{CONTROL}/{name}": change for name, change in changes.items()}

    def _correction_for(self, parameters: dict[str, nn.Parameter]) -> dict[str, Tensor]:
        correction = _tensors_like(parameters, self._global_control, what="the global control")
        if self._local_control:
            local = _tensors_like(parameters, self._local_control, what="the site's control")
            for name, tensor in local.items():
                correction[name] -= tensor
        return correction


def _learning(model: nn.Module) -> dict[str, nn.Parameter]:
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def _gradient(name: str, parameter: nn.Parameter) -> Tensor:
    if parameter.grad is None:
        raise InvalidSetting(f"{name} learns and has no gradient", expected="one for every parameter")
    return parameter.grad


def _tensors_like(parameters: dict[str, nn.Parameter], arrays: Arrays, *, what: str) -> dict[str, Tensor]:
    """`arrays` with the device, dtype and memory layout of the parameters they belong to."""
    differing = sorted(parameters.keys() ^ set(arrays))
    if differing:
        raise WeightsRefused(f"{what} is not that of the model", got=f"a difference in {differing[:3]}")
    tensors: dict[str, Tensor] = {}
    for name, parameter in parameters.items():
        array = arrays[name]
        if array.shape != parameter.shape:
            raise WeightsRefused(
                f"{what} has the wrong shape in {name}", got=array.shape, expected=tuple(parameter.shape)
            )
        tensors[name] = torch.empty_like(parameter, requires_grad=False)
        tensors[name].copy_(torch.from_numpy(np.array(array, copy=True)))
    return tensors
