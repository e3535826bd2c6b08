"""What `experiment worth` is asked for: how many patients a site has, the seeds, and the recipe of the adaptation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from client.site_home import SiteHome
from fedminet.experiment.study import VALIDATION_SLICES
from fedminet.single_machine.sites import DEFAULT_SITES, Ratio, make_sites_once
from minet_core.errors import ConfigurationError
from minet_core.runtime.files.file_lock import held
from minet_core.settings.federation import AdaptationSettings, FederationSettings
from minet_core.settings.presets import federation_of
from sites.store.store import Store

N_JUDGED_AND_UNREAD = (2, 1)
"""Validation and test patients of a site where a recipe is looked for: the test patient is read by nobody."""

N_JUDGED_AND_TESTED = (1, 2)
"""Where the result is measured: as a hospital of ten patients has them."""


def whole_numbers(text: str, *, option: str) -> tuple[int, ...]:
    """`2,7` as numbers. Raises ConfigurationError (FM-C100) for anything else."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise ConfigurationError(
            f"{option} is not understood", got=text, expected="whole numbers with commas"
        )
    return tuple(dict.fromkeys(int(part) for part in parts))


def rates_asked(text: str | None) -> dict[str, object]:
    """`1e-3`, or the ladder `3e-4,1e-3`, as settings of the adaptation; none for None. Raises as `whole_numbers`."""
    if text is None:
        return {}
    try:
        rates = [float(part) for part in text.split(",")]
    except ValueError:
        raise ConfigurationError(
            "--adapt-rate is not understood", got=text, expected="learning rates with commas"
        ) from None
    return {"learning_rate": rates[0]} if len(rates) == 1 else {"rates": rates}


@dataclass(frozen=True, order=True)
class WorthKey:
    """One cell: what one site makes of one federation's model. patients: the site's training patients."""

    seed: int
    patients: int
    site: str


@dataclass(frozen=True, kw_only=True)
class WorthPlan:
    """patients: training patients of every site, a federation for each number. adaptation: how each site adapts.

    preset: whose model it is. rounds, local_steps: of the federation. batch_size, patch_px: of every training;
    None: the preset's. flips: in every training. adapting: its sites whose adaptation is looked at. validation:
    show validation patients' figures alone, and read no test patient. named: scans of sites in a folder, in place
    of phantoms; their split is the site's own, and has to have as many training patients as are asked for. varied:
    the phantoms differ as patients do (`minet_core.phantom.variety`); else in the shape of their anatomy alone.
    """

    out: Path
    seeds: tuple[int, ...]
    patients: tuple[int, ...]
    adaptation: AdaptationSettings
    scale: int = 2
    preset: str = "quick"
    rounds: int = 64
    local_steps: int = 10
    batch_size: int | None = None
    patch_px: int | None = None
    flips: bool = False
    adapting: tuple[str, ...] = ()
    validation: bool = False
    named: Mapping[str, Path] = field(default_factory=dict)
    varied: bool = True

    def __post_init__(self) -> None:
        if not self.seeds or not self.patients or min(self.patients) < 1:
            raise ConfigurationError(
                "the experiment has nothing to do",
                got=f"seeds {self.seeds}, patients {self.patients}",
                expected="a seed or more, and one training patient or more a site",
            )
        if self.scale not in (2, 4):
            raise ConfigurationError("--scale is not understood", got=self.scale, expected="2 or 4")

    @property
    def sites(self) -> tuple[str, ...]:
        return tuple(self.named) or DEFAULT_SITES

    @property
    def n_steps(self) -> int:
        """Optimizer steps at a site: of the rounds and the adaptation, and of the model alone."""
        return self.rounds * self.local_steps + self.adaptation.n_steps

    @property
    def recipe(self) -> str:
        """The recipe in a file's name."""
        adaptation = self.adaptation
        head = (
            f"-head{adaptation.head_steps}at{adaptation.head_learning_rate:g}"
            if adaptation.head_steps
            else ""
        )
        rates = "or".join(f"{rate:g}" for rate in adaptation.tried_rates)
        falls = "" if adaptation.decay_fraction is None else f"-decay{adaptation.decay_fraction:g}"
        whole = f"-whole{adaptation.steps}at{rates}{falls}"
        return f"{self.rounds_text}{head}{whole}"

    @property
    def rounds_text(self) -> str:
        """The federation's recipe in a file's name: preset, rounds x steps, and the batch that is not the preset's."""
        preset = "" if self.preset == "quick" else f"{self.preset}-"
        batch = "" if self.batch_size is None else f"-batch{self.batch_size}"
        patch = "" if self.patch_px is None else f"-patch{self.patch_px}"
        flips = "-flips" if self.flips else ""
        return f"{preset}{self.rounds}x{self.local_steps}{batch}{patch}{flips}"

    @property
    def folder(self) -> Path:
        """Where what this plan's cells say is written."""
        kind = "" if self.varied else "-alike"
        return self.out / (f"worth-validation{kind}" if self.validation else f"worth{kind}")

    def keys(self) -> list[WorthKey]:
        """Every cell; those of a seed and number of patients, which share a federation, after each other."""
        return [
            WorthKey(seed, patients, site)
            for seed in self.seeds
            for patients in self.patients
            for site in self.adapting or self.sites
        ]

    def cell_file(self, key: WorthKey) -> Path:
        """Where a cell is kept."""
        name = f"{self.scale}x-seed{key.seed}-{key.patients}patients-{key.site}-{self.recipe}.json"
        return self.folder / "cells" / name

    def federation_folder(self, key: WorthKey) -> Path:
        """Of the federation that a cell's model comes from, whatever is made of it."""
        name = f"{self.scale}x-seed{key.seed}-{key.patients}patients-{self.rounds_text}"
        return self.folder / "federations" / name

    def federation(self, seed: int) -> FederationSettings:
        """The rounds, without the adaptation: their model is the same whatever the sites make of it."""
        federation = federation_of(
            name="worth",
            sites=self.sites,
            preset=self.preset,
            scale=self.scale,
            rounds=self.rounds,
            local_steps=self.local_steps,
            seed=seed,
        )
        asked = {"batch_size": self.batch_size, "patch_px": self.patch_px, "flips": self.flips or None}
        given = {name: value for name, value in asked.items() if value is not None}
        training = federation.training.model_copy(update={"validation_slices": VALIDATION_SLICES, **given})
        # With two patients a site the knees' updates point away from the brains' and would be refused: see the page.
        quarantine = federation.quarantine.model_copy(update={"refuse_opposed": False})
        return federation.model_copy(update={"training": training, "quarantine": quarantine})

    def homes(self, key: WorthKey) -> Mapping[str, SiteHome]:
        """The phantom sites of a seed with so many training patients, made where they are not there yet."""
        others = N_JUDGED_AND_UNREAD if self.validation else N_JUDGED_AND_TESTED
        ratio: Ratio | None = None if self.named else (key.patients, *others)
        judged = "-validation" if self.validation else ""
        kind = "" if self.varied else "-alike"
        name = "scans" if self.named else f"seed{key.seed}-{key.patients}patients{judged}{kind}"
        folder = self.out / "data" / name
        folder.parent.mkdir(parents=True, exist_ok=True)
        n_patients = key.patients + sum(others)
        with held(folder.parent / f"{folder.name}.lock", patience_s=None):
            make_sites_once(
                folder,
                self.named,
                sites=self.sites,
                n_patients=n_patients,
                seed=key.seed,
                ratio=ratio,
                varied=self.varied and not self.named,
            )
        homes = {site: SiteHome.at(folder / "sites" / site) for site in self.sites}
        for site, home in homes.items():
            found = Store(home.store).cohort.counts["training"].patients
            if found != key.patients:
                raise ConfigurationError(
                    f"{site} has another number of training patients", got=found, expected=key.patients
                )
        return homes
