"""What `experiment worth` is asked for: how many patients a site has, the seeds, and the recipe of the adaptation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, cast, get_args

from client.site_home import SiteHome
from fedminet.experiment.study import VALIDATION_SLICES
from fedminet.experiment.worth.turns import homes_of_turn, patients_by_site
from fedminet.listed_options import listed_rates
from fedminet.single_machine.sites import DEFAULT_SITES, Ratio, make_sites_once
from minet_core.errors import ConfigurationError
from minet_core.runtime.files.file_lock import held
from minet_core.settings.adaptation import AdaptationSettings
from minet_core.settings.federation import BlurSettings, FederationSettings
from minet_core.settings.presets import federation_of
from sites.store.store import Store

N_JUDGED_AND_UNREAD = (2, 1)
"""Validation and test patients of a site where a recipe is looked for: the test patient is read by nobody."""

N_JUDGED_AND_TESTED = (1, 2)
"""Where the result is measured: as a hospital of ten patients has them."""

Newcomer = Literal["known", "unknown"]
"""A site that adapts a model and took no part in the rounds. known: the members have one of its kind, so the scanner,
the anatomy and the protocol were seen, of other patients. unknown: they have none."""

NEWCOMER_SEED = 1000
"""Added to a seed for the phantoms of a newcomer of a known kind: no experiment has seeds as far apart."""


def rates_asked(text: str | None) -> dict[str, object]:
    """`1e-3`, or the ladder `3e-4,1e-3`, as settings of the adaptation; none for None.

    Raises ConfigurationError (FM-C100) for what is no learning rate.
    """
    if text is None:
        return {}
    rates = listed_rates(text, option="--adapt-rate")
    return {"learning_rate": rates[0]} if len(rates) == 1 else {"rates": rates}


def newcomer_asked(text: str | None) -> Newcomer | None:
    """What `--newcomer` asks for. Raises ConfigurationError (FM-C100) for another word."""
    for known in get_args(Newcomer):
        if text == known:
            return cast(Newcomer, known)
    if text is None:
        return None
    raise ConfigurationError(
        "--newcomer is not understood", got=text, expected=" or ".join(get_args(Newcomer))
    )


@dataclass(frozen=True, order=True)
class WorthKey:
    """One cell: what one site makes of one federation's model.

    patients: the site's training patients. turn: from 1, whose turn it is to be tested; 0: the split is the site's own.
    """

    seed: int
    patients: int
    site: str
    turn: int = 0


@dataclass(frozen=True, kw_only=True)
class WorthPlan:
    """patients: training patients of every site, a federation for each number. adaptation: how each site adapts.

    preset: whose model it is. rounds, local_steps: of the federation. batch_size, patch_px: of every training;
    None: the preset's. flips: in every training. blur_px: of its targets, at most; None: the preset's. learning_rate:
    of the rounds and of the model alone; None: the preset's. adapting:
    its sites whose adaptation is looked at. validation:
    show validation patients' figures alone, and read no test patient. named: scans of sites in a folder, in place
    of phantoms; their split is the site's own, and has to have as many training patients as are asked for. in_turn:
    of these scans each patient is the test patient once, and all others train; `patients` is not asked. varied: the
    phantoms differ as patients do (`minet_core.phantom.variety`); else in the shape of their anatomy alone.
    newcomer: each site in turn takes no part in the rounds, and adapts their model; None: all take part.
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
    blur_px: float | None = None
    learning_rate: float | None = None
    adapting: tuple[str, ...] = ()
    validation: bool = False
    named: Mapping[str, Path] = field(default_factory=dict)
    in_turn: bool = False
    varied: bool = True
    newcomer: Newcomer | None = None

    def __post_init__(self) -> None:
        if not self.seeds or not self.patients or min(self.patients) < 1:
            raise ConfigurationError(
                "the experiment has nothing to do",
                got=f"seeds {self.seeds}, patients {self.patients}",
                expected="a seed or more, and one training patient or more a site",
            )
        if self.scale not in (2, 4):
            raise ConfigurationError("--scale is not understood", got=self.scale, expected="2 or 4")
        if self.newcomer == "known" and self.named:
            raise ConfigurationError(
                "a newcomer of a known kind is made of phantoms", got=f"scans of {', '.join(self.named)}"
            )
        if self.in_turn and (self.validation or self.newcomer or not self.named):
            raise ConfigurationError(
                "each patient in turn is tested at members with scans",
                got="--validation, --newcomer or no --site",
                expected="--site NAME=FOLDER alone",
            )
        if self.newcomer == "unknown" and len(self.sites) < 2:
            raise ConfigurationError("without the newcomer there is no site left", got=self.sites)

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
        alone = "" if adaptation.alone_learning_rate is None else f"-alone{adaptation.alone_learning_rate:g}"
        return f"{self.rounds_text}{head}{whole}{alone}"

    @property
    def rounds_text(self) -> str:
        """The federation's recipe in a file's name: preset, rounds x steps, and the batch that is not the preset's."""
        preset = "" if self.preset == "quick" else f"{self.preset}-"
        batch = "" if self.batch_size is None else f"-batch{self.batch_size}"
        patch = "" if self.patch_px is None else f"-patch{self.patch_px}"
        flips = "-flips" if self.flips else ""
        blur = "" if self.blur_px is None else f"-blur{self.blur_px:g}"
        rate = "" if self.learning_rate is None else f"-rate{self.learning_rate:g}"
        return f"{preset}{self.rounds}x{self.local_steps}{batch}{patch}{flips}{blur}{rate}"

    @property
    def folder(self) -> Path:
        """Where what this plan's cells say is written."""
        newcomer = f"-newcomer-{self.newcomer}" if self.newcomer else ""
        return self._of_rounds.with_name(f"{self._of_rounds.name}{newcomer}")

    @property
    def _of_rounds(self) -> Path:
        """Where the federations are kept, which members and newcomers begin with."""
        kind = "" if self.varied or self.named else "-alike"
        return self.out / (f"worth-validation{kind}" if self.validation else f"worth{kind}")

    def keys(self) -> list[WorthKey]:
        """Every cell; those of one federation after each other: of a seed and number of patients, or of a turn."""
        if self.in_turn:
            n_patients = patients_by_site(self.out, self.named)
            return [
                WorthKey(seed, n_patients[site] - 1, site, turn)
                for seed in self.seeds
                for turn in range(1, max(n_patients.values()) + 1)
                for site in self.adapting or self.sites
                if turn <= n_patients[site]
            ]
        return [
            WorthKey(seed, patients, site)
            for seed in self.seeds
            for patients in self.patients
            for site in self.adapting or self.sites
        ]

    def cell_file(self, key: WorthKey) -> Path:
        """Where a cell is kept."""
        turn = f"-turn{key.turn}" if key.turn else ""
        name = f"{self.scale}x-seed{key.seed}{turn}-{key.patients}patients-{key.site}-{self.recipe}.json"
        return self.folder / "cells" / name

    def federation_folder(self, key: WorthKey) -> Path:
        """Of the federation that a cell's model comes from, whatever is made of it."""
        without = f"-without-{key.site}" if self.newcomer == "unknown" else ""
        who = f"turn{key.turn}" if key.turn else f"{key.patients}patients"
        name = f"{self.scale}x-seed{key.seed}-{who}{without}-{self.rounds_text}"
        return self._of_rounds / "federations" / name

    def members(self, key: WorthKey) -> tuple[str, ...]:
        """The sites that take part in the rounds."""
        if self.newcomer != "unknown":
            return self.sites
        return tuple(site for site in self.sites if site != key.site)

    def federation(self, key: WorthKey) -> FederationSettings:
        """The rounds, without the adaptation: their model is the same whatever the sites make of it."""
        federation = federation_of(
            name="worth",
            sites=self.members(key),
            preset=self.preset,
            scale=self.scale,
            rounds=self.rounds,
            local_steps=self.local_steps,
            seed=key.seed,
        )
        blur = None if self.blur_px is None else BlurSettings(max_px=self.blur_px)
        asked = {
            "batch_size": self.batch_size,
            "patch_px": self.patch_px,
            "flips": self.flips or None,
            "blur": blur,
            "learning_rate": self.learning_rate,
        }
        given = {name: value for name, value in asked.items() if value is not None}
        # Nobody looks at the scores of its rounds, which would take most of the time of short ones.
        unseen = {"validation_slices": VALIDATION_SLICES, "validation_every": self.rounds}
        training = federation.training.model_copy(update={**unseen, **given})
        # With two patients a site the knees' updates point away from the brains' and would be refused: see the page.
        quarantine = federation.quarantine.model_copy(update={"refuse_opposed": False, "roll_back": False})
        return federation.model_copy(update={"training": training, "quarantine": quarantine})

    def homes(self, key: WorthKey) -> Mapping[str, SiteHome]:
        """The members' folders, made where they are not there yet."""
        if key.turn:
            return homes_of_turn(self.out, self.named, turn=key.turn)
        return self._made(self.sites, key, seed=key.seed, names=self.members(key))

    def home(self, key: WorthKey) -> SiteHome:
        """The folder of the site that adapts, made where it is not there yet."""
        if key.turn:
            return homes_of_turn(self.out, self.named, turn=key.turn)[key.site]
        if self.newcomer == "known":
            found = self._made((key.site,), key, seed=key.seed + NEWCOMER_SEED, names=(key.site,))
        else:
            found = self._made(self.sites, key, seed=key.seed, names=(key.site,))
        return found[key.site]

    def _made(
        self, sites: tuple[str, ...], key: WorthKey, *, seed: int, names: tuple[str, ...]
    ) -> Mapping[str, SiteHome]:
        """Sites of a seed with the cell's number of training patients, made once; of these those of `names`."""
        others = N_JUDGED_AND_UNREAD if self.validation else N_JUDGED_AND_TESTED
        ratio: Ratio | None = None if self.named else (key.patients, *others)
        judged = "-validation" if self.validation else ""
        kind = "" if self.varied else "-alike"
        alone = f"-{key.site}" if len(sites) < len(self.sites) else ""
        name = "scans" if self.named else f"seed{seed}-{key.patients}patients{judged}{kind}{alone}"
        folder = self.out / "data" / name
        folder.parent.mkdir(parents=True, exist_ok=True)
        with held(folder.parent / f"{folder.name}.lock", patience_s=None):
            make_sites_once(
                folder,
                self.named,
                sites=sites,
                n_patients=key.patients + sum(others),
                seed=seed,
                ratio=ratio,
                varied=self.varied and not self.named,
            )
        homes = {site: SiteHome.at(folder / "sites" / site) for site in names}
        for site, home in homes.items():
            found = Store(home.store).cohort.counts["training"].patients
            if found != key.patients:
                raise ConfigurationError(
                    f"{site} has another number of training patients", got=found, expected=key.patients
                )
        return homes
