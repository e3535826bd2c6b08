"""What `experiment patients` is asked for: the folds of each site, the methods, and one recipe for all of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from client.site_home import SiteHome
from fedminet.experiment.methods import (
    EQUALS,
    METHODS,
    SIZES,
    TWINS,
    Equal,
    is_learned,
    model_of,
    training_of,
)
from fedminet.experiment.patients.pace import Pace
from fedminet.experiment.study import VALIDATION_SLICES
from fedminet.single_machine.sites import DEFAULT_SITES, make_sites_once
from minet_core.errors import ConfigurationError
from minet_core.runtime.files.file_lock import held
from minet_core.settings.federation import PRESETS, FederationSettings, ModelSettings
from minet_core.settings.presets import federation_of
from minet_core.settings.yaml_file import parse_settings
from sites.store.store import Store

MINET_METHOD = "minet"

USUAL_METHODS = ("sinc", "bicubic", "edsr", *(one for pair in TWINS.items() for one in pair), "lyu", "zeng")
USUAL_STEPS = 640

PHANTOM_SEED = 1


@dataclass(frozen=True, order=True)
class FoldKey:
    """One cell: a method whose training left one patient out. seed: 0 for a method that has nothing to learn."""

    seed: int
    scale: int
    method: str
    site: str
    patient: str

    @property
    def name(self) -> str:
        """Of the cell's folder and model."""
        return f"{self.site}-{self.patient}-{self.scale}x-{self.method}-seed{self.seed}"


def model_changes(options: Sequence[str]) -> dict[str, object]:
    """`["n_features=24", "members=2"]` as settings of the model.

    Raises ConfigurationError (FM-C100) for anything else.
    """
    found: dict[str, object] = {}
    for option in options:
        name, separator, text = option.partition("=")
        if not separator or name not in ModelSettings.model_fields or name == "architecture":
            raise ConfigurationError(
                "--model is not understood",
                got=option,
                expected="KEY=VALUE, KEY a setting of `model` in federation.yaml but the architecture",
            )
        try:
            found[name] = json.loads(text)
        except json.JSONDecodeError:
            found[name] = text
    return found


@dataclass(frozen=True, kw_only=True)
class PatientsPlan:
    """named, ingested: the sites, by folders of scans or by folders of sites; without either, phantoms of `n_patients`.

    n_steps: of MINet. equal: what of MINet's every other method gets as much of. model: what differs from the preset's
    MINet, and from that of its variants. training: what differs from the preset's training, of every method.
    self_ensemble: poses over which the picture of every method that learns is averaged.
    """

    out: Path
    named: Mapping[str, Path] = field(default_factory=dict)
    ingested: Mapping[str, SiteHome] = field(default_factory=dict)
    methods: tuple[str, ...] = USUAL_METHODS
    scales: tuple[int, ...] = (2, 4)
    n_seeds: int = 1
    preset: str = "quick"
    n_steps: int = USUAL_STEPS
    equal: Equal = "time"
    model: Mapping[str, object] = field(default_factory=dict)
    training: Mapping[str, object] = field(default_factory=dict)
    n_patients: int = 10
    self_ensemble: int = 1

    def __post_init__(self) -> None:
        for what, given, known in (
            ("--preset", (self.preset,), SIZES),
            ("--scale", self.scales, (2, 4)),
            ("--methods", self.methods, tuple(METHODS)),
            ("--equal", (self.equal,), EQUALS),
        ):
            unknown = [str(one) for one in given if one not in known]
            if unknown or not given:
                raise ConfigurationError(
                    f"{what} is not understood", got=", ".join(unknown), expected=" or ".join(map(str, known))
                )

    @property
    def folder(self) -> Path:
        """Where the cells, the models and the page are kept."""
        return self.out / "patients"

    @property
    def cells_file(self) -> Path:
        """One line a cell."""
        return self.folder / "cells.jsonl"

    @property
    def sites(self) -> tuple[str, ...]:
        """Those that were given; without any, the three of the paper."""
        return (*self.ingested, *self.named) or DEFAULT_SITES

    def homes(self) -> dict[str, SiteHome]:
        """The ingested sites, made where they are not there yet. The split that their stores have is not used."""
        to_make = [site for site in self.sites if site not in self.ingested]
        folder = self.out / "data" / ("scans" if self.named else f"phantoms-{self.n_patients}")
        if to_make:
            folder.parent.mkdir(parents=True, exist_ok=True)
            with held(folder.parent / f"{folder.name}.lock", patience_s=None):
                make_sites_once(
                    folder, self.named, sites=to_make, n_patients=self.n_patients, seed=PHANTOM_SEED
                )
        made = {site: SiteHome.at(folder / "sites" / site) for site in to_make}
        return {site: self.ingested.get(site) or made[site] for site in self.sites}

    def keys(self, stores: Mapping[str, Store]) -> list[FoldKey]:
        """Every cell: of each scale the interpolations first, then fold by fold in the order of the methods.

        Raises ConfigurationError (FM-C100) for a site of one patient.
        """
        found = []
        for seed in range(self.n_seeds + 1):
            for scale in self.scales:
                for site, store in stores.items():
                    for patient in patients_of(store):
                        found += [
                            FoldKey(seed, scale, method, site, patient)
                            for method in self.methods
                            if is_learned(method) == bool(seed)
                        ]
        return found

    def federation(self, key: FoldKey) -> FederationSettings:
        """The settings that a learned method's cell is trained by: one round, at one site."""
        n_steps = self.n_steps
        if self.equal == "time" and key.method != MINET_METHOD:
            n_steps = max(1, round(n_steps * self._steps_in_one_of_minet(key)))
        content = federation_of(
            name="patients",
            sites=(key.site,),
            preset=self.preset,
            scale=key.scale,
            rounds=1,
            local_steps=n_steps,
            seed=key.seed,
        ).model_dump()
        content["model"] = self.model_of(key.method, scale=key.scale).model_dump()
        content["training"] |= {
            **self.training,
            "local_seconds": None,
            "validation_slices": VALIDATION_SLICES,
        }
        return parse_settings(content, FederationSettings, source="the experiment")

    def model_of(self, method: str, *, scale: int) -> ModelSettings:
        """A method's model; what was asked for of MINet's is asked of its variants too, where they have it."""
        usual = model_of(method, preset=self.preset, scale=scale)
        variant = METHODS[method].of_minet
        if variant is None or not self.model:
            return self._averaged(usual)
        changes = {**self.model, **variant}
        if not changes.get("use_reference", True):
            changes.pop("align_reference", None)
        return self._averaged(
            parse_settings({**usual.model_dump(), **changes}, ModelSettings, source="--model")
        )

    def _averaged(self, model: ModelSettings) -> ModelSettings:
        if self.self_ensemble == 1:
            return model
        content = {**model.model_dump(), "self_ensemble": self.self_ensemble}
        return parse_settings(content, ModelSettings, source="--self-ensemble")

    def _steps_in_one_of_minet(self, key: FoldKey) -> float:
        """As the tables have it where the step is the one that they are timed for; else as it is timed here."""
        as_timed = self.preset == "quick" and not self.model
        if as_timed and not {"batch_size", "patch_px"} & self.training.keys():
            long = 1000  # steps: the ratio to a thousandth
            steps = training_of(key.method, preset="quick", scale=key.scale, local_steps=long).local_steps
            assert steps is not None  # it was asked for in steps
            return steps / long
        training = PRESETS[self.preset][1].model_copy(update=dict(self.training))
        pace = Pace(self.folder / "pace.jsonl", training)
        models = [self.model_of(one, scale=key.scale) for one in (MINET_METHOD, key.method)]
        return pace.steps_in_one(*models, scale=key.scale)


def patients_of(store: Store) -> list[str]:
    """The pseudonyms of those with scans, in their order. Raises ConfigurationError (FM-C100) for fewer than two."""
    found = sorted({pair.patient for pair in store.cohort.pairs})
    if len(found) < 2:
        raise ConfigurationError(
            "a site has nobody to train on where its patient is left out",
            got=f"{len(found)} patients at {store.cohort.site}",
            expected="two or more",
        )
    return found
