"""The federated algorithms by name. A new one is a file beside these and a line of `ALGORITHMS`: docs/extending.md."""

from __future__ import annotations

from typing import Protocol

from minet_core.algorithms.fedadam import fedadam
from minet_core.algorithms.fedavg import fedavg
from minet_core.algorithms.fedprox import fedprox
from minet_core.algorithms.interface import Algorithm
from minet_core.algorithms.personal_head import personal_head
from minet_core.algorithms.scaffold import scaffold
from minet_core.errors import InvalidSetting
from minet_core.settings.algorithm import AlgorithmSettings

__all__ = ["ALGORITHMS", "Algorithm", "AlgorithmFactory", "make_algorithm"]


class AlgorithmFactory(Protocol):
    """Makes an algorithm from the federation file."""

    def __call__(self, settings: AlgorithmSettings, *, n_sites: int) -> Algorithm:
        """Make the algorithm.

        Parameters
        ----------
        settings
            The section `algorithm` of the federation file; each algorithm takes its own part.
        n_sites
            Member sites of the federation, at least 1 (SCAFFOLD's N).

        Returns
        -------
        Algorithm
            Without state of its own.
        """


ALGORITHMS: dict[str, AlgorithmFactory] = {
    "fedavg": fedavg,
    "fedprox": fedprox,
    "scaffold": scaffold,
    "fedadam": fedadam,
    "personal-head": personal_head,
}


def make_algorithm(settings: AlgorithmSettings, *, n_sites: int) -> Algorithm:
    """The algorithm of a federation file.

    Parameters
    ----------
    settings
        The file's section `algorithm`, whose numbers were checked when it was read.
    n_sites
        Member sites of the federation, at least 1.

    Returns
    -------
    Algorithm
        That of `settings.name`.

    Raises
    ------
    InvalidSetting
        FM-C102, for a name that is none, a number of sites that is none, and a personal head without a name.
    """
    if settings.name not in ALGORITHMS:
        raise InvalidSetting(
            f"there is no federated algorithm {settings.name}",
            got=settings.name,
            expected=", ".join(ALGORITHMS),
        )
    if n_sites < 1:
        raise InvalidSetting("n_sites is out of its range", got=n_sites, expected="at least 1")
    return ALGORITHMS[settings.name](settings, n_sites=n_sites)
