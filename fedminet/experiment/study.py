"""What an experiment asks for: which methods, scales, seeds and sites, and how each cell is to be trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from client.site_home import SiteHome
from fedminet.experiment.methods import EQUALS, METHODS, SIZES, Equal, is_learned, model_of, training_of
from fedminet.single_machine.sites import DEFAULT_SITES, make_sites_once, n_refused
from minet_core.errors import ConfigurationError
from minet_core.runtime.files.file_lock import held
from minet_core.settings.federation import FederationSettings
from minet_core.settings.presets import federation_of
from minet_core.settings.yaml_file import parse_settings
from sites.store.store import Store

Mode = Literal["federated", "pooled", "local", "without"]
"""federated: all sites. pooled: their data together. local: each site alone. without: a federation of the others,
tested at the site that took no part."""

MODES: tuple[Mode, ...] = get_args(Mode)

USUAL_ROUNDS = {"quick": 64, "paper": 50}
USUAL_LOCAL_STEPS = {"quick": 10, "paper": None}
"""Where nothing else is asked for; None is the preset's measure, an epoch."""


VALIDATION_SLICES = 1
"""The tables say nothing of validation: it is left at the least, whatever the preset has."""


@dataclass(frozen=True, order=True)
class CellKey:
    """One training run. member: the site of a local model, or the one that took no part; else None."""

    seed: int
    scale: int
    mode: Mode
    member: str | None
    method: str

    @property
    def name(self) -> str:
        parts = [self.mode, self.method, f"{self.scale}x", f"seed{self.seed}"]
        return "-".join([*parts, self.member] if self.member else parts)


@dataclass(frozen=True)
class Study:
    """An experiment's settings. named: sites with scans in a folder, to be ingested. ingested: sites that are already.
    Without any of either, phantoms of the three sites.

    local_steps: of MINet in a round; None is the preset's own measure of local work. equal: what of MINet's every
    other method gets as much of.
    """

    out: Path
    preset: str
    named: Mapping[str, Path]
    ingested: Mapping[str, SiteHome]
    seeds: tuple[int, ...]
    scales: tuple[int, ...]
    methods: tuple[str, ...]
    modes: tuple[Mode, ...]
    n_patients: int
    rounds: int
    local_steps: int | None
    equal: Equal

    @property
    def sites(self) -> tuple[str, ...]:
        """Those that were given; without any, the three of the paper."""
        return (*self.ingested, *self.named) or DEFAULT_SITES

    @property
    def is_phantom(self) -> bool:
        return not self.named and not self.ingested

    def cells(self) -> list[CellKey]:
        """Every cell, the federated ones first: a table has its main columns before it is complete."""
        keys = [
            CellKey(seed, scale, mode, member, method)
            for mode in MODES
            if mode in self.modes
            for seed in self.seeds
            for scale in self.scales
            for method in self.methods
            for member in self._members(mode, method)
        ]
        return keys + [
            CellKey(seed, scale, "federated", None, method)
            for seed in self.seeds
            for scale in self.scales
            for method in self.methods
            if "federated" not in self.modes and not is_learned(method)
        ]

    def _members(self, mode: Mode, method: str) -> Sequence[str | None]:
        """One cell, one for each site, or none: interpolation is the same in every mode."""
        if not is_learned(method):
            return (None,) if mode == "federated" else ()
        if mode == "without" and len(self.sites) == 1:
            return ()
        return self.sites if mode in ("local", "without") else (None,)

    def tested_at(self, key: CellKey) -> tuple[str, ...]:
        """The sites whose test split a cell's model is tested on."""
        return (key.member,) if key.member else self.sites

    def federation(self, key: CellKey) -> FederationSettings:
        """The settings that a cell's model is trained with."""
        members = tuple(site for site in self.sites if not (key.mode == "without" and site == key.member))
        preset = federation_of(
            name="experiment",
            sites=members,
            preset=self.preset,
            scale=key.scale,
            rounds=self.rounds,
            seed=key.seed,
        )
        content = preset.model_dump()
        content["model"] = model_of(key.method, preset=self.preset, scale=key.scale).model_dump()
        training = training_of(
            key.method, preset=self.preset, scale=key.scale, local_steps=self.local_steps, equal=self.equal
        )
        content["training"] = {**training.model_dump(), "validation_slices": VALIDATION_SLICES}
        return parse_settings(content, FederationSettings, source="the experiment")

    def homes(self, seed: int) -> dict[str, SiteHome]:
        """The ingested sites of a seed, made where they are not there yet. Scans are the same for every seed."""
        folder = self._data(seed)
        to_make = [site for site in self.sites if site not in self.ingested]
        if to_make:
            folder.parent.mkdir(parents=True, exist_ok=True)
            # A second process waits until the first has made them.
            with held(folder.parent / f"{folder.name}.lock", patience_s=None):
                make_sites_once(folder, self.named, sites=to_make, n_patients=self.n_patients, seed=seed)
        made = {site: SiteHome.at(folder / "sites" / site) for site in to_make}
        return {site: self.ingested.get(site) or made[site] for site in self.sites}

    def _data(self, seed: int) -> Path:
        return self.out / "data" / (f"seed-{seed}" if self.is_phantom else "scans")

    def cohorts(self, seed: int) -> dict[str, str]:
        """By site, the digest of the cohort that a seed's cells are made of."""
        homes = self.homes(seed)
        return {site: Store(home.store).cohort.digest for site, home in homes.items()}

    def n_test_patients(self, seed: int, site: str) -> int:
        """Patients of a site's test split."""
        return Store(self.homes(seed)[site].store).cohort.counts["test"].patients

    def remarks(self) -> list[str]:
        """What must be said beside every figure of these sites, by site."""
        homes = self.homes(self.seeds[0])
        said = [
            f"{site}: {remark}"
            for site, home in homes.items()
            for remark in Store(home.store).cohort.remarks()
        ]
        refused = n_refused(self._data(self.seeds[0]))
        return said + [
            f"{site}: scans or pairs that were refused and are in no figure: {count}."
            for site, count in refused.items()
        ]


@dataclass(frozen=True, kw_only=True)
class StudyRequest:
    """A study as it is asked for, in the order of `Study`; None: as it is usual for the preset. seeds: how many."""

    out: Path
    preset: str
    modes: Sequence[str]
    methods: Sequence[str]
    seeds: int
    scales: Sequence[int]
    named: Mapping[str, Path]
    ingested: Mapping[str, SiteHome]
    n_patients: int
    rounds: int | None
    local_steps: int | None
    equal: str = "time"


def study_of(asked: StudyRequest) -> Study:
    """The study that is asked for. Raises ConfigurationError (FM-C100) for what is no choice."""
    for what, given, known in (
        ("--preset", [asked.preset], SIZES),
        ("--mode", asked.modes, MODES),
        ("--scale", asked.scales, (2, 4)),
        ("--methods", asked.methods, tuple(METHODS)),
        ("--equal", [asked.equal], EQUALS),
    ):
        unknown = sorted(str(one) for one in given if one not in known)
        if unknown or not given:
            raise ConfigurationError(
                f"{what} is not understood", got=", ".join(unknown), expected=" or ".join(map(str, known))
            )
    return Study(
        out=asked.out.resolve(),
        preset=asked.preset,
        named=asked.named,
        ingested=asked.ingested,
        seeds=tuple(range(1, asked.seeds + 1)),
        scales=tuple(asked.scales),
        methods=tuple(asked.methods),
        modes=tuple(mode for mode in MODES if mode in asked.modes),
        n_patients=asked.n_patients,
        rounds=asked.rounds or USUAL_ROUNDS[asked.preset],
        local_steps=asked.local_steps or USUAL_LOCAL_STEPS[asked.preset],
        equal=next(one for one in EQUALS if one == asked.equal),
    )
