"""The presets' length in rounds, and a federation file made from one."""

from __future__ import annotations

from minet_core.errors import ConfigurationError
from minet_core.settings.federation import PRESETS, FederationSettings
from minet_core.settings.yaml_file import parse_settings

PAPER_ROUNDS = 50
"""Epochs of the paper, Section 3: one epoch a round."""

QUICK_ROUNDS = 24
"""Short rounds drift apart less; docs/results/main-job.md has the figures."""


def federation_of(
    *,
    name: str,
    sites: tuple[str, ...],
    preset: str,
    scale: int,
    rounds: int | None,
    local_steps: int | None = None,
    seed: int = 1,
    algorithm: str = "fedavg",
) -> FederationSettings:
    """A federation file from a preset; every site is needed for a round until the file is edited.

    Parameters
    ----------
    name
        Of the federation.
    sites
        Names of its members.
    preset
        "quick", "late" or "paper".
    scale
        2 or 4.
    rounds, local_steps
        None for the preset's own.
    seed
        Every random number of the run is derived from it.
    algorithm
        A name of `ALGORITHMS`.

    Returns
    -------
    FederationSettings
        With a quorum of all sites.

    Raises
    ------
    ConfigurationError
        FM-C100, for an unknown preset.
    InvalidSetting
        FM-C102, for a value that the file may not hold.
    """
    if preset not in PRESETS:
        raise ConfigurationError("no such preset", got=preset, expected=" or ".join(PRESETS))
    model, training = PRESETS[preset]
    steps = {} if local_steps is None else {"local_steps": local_steps, "local_epochs": None}
    return parse_settings(
        {
            "name": name,
            "sites": sites,
            "scale": scale,
            "rounds": (PAPER_ROUNDS if preset == "paper" else QUICK_ROUNDS) if rounds is None else rounds,
            "participation": {"quorum": len(sites)},
            "seed": seed,
            "algorithm": {"name": algorithm},
            "model": model.model_dump(),
            "training": training.model_dump() | steps,
        },
        FederationSettings,
        source="the options",
    )
