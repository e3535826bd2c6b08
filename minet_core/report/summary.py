"""`summary.json`: what a run gave, site by site, in a form that a person and a script can read.

Only figures, names and codes are in it. A refusal is a code by construction, so no text that a site wrote can
reach the summary or the report drawn from it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    ConfigDict,
    Field,
    FiniteFloat,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveInt,
    SerializerFunctionWrapHandler,
    StringConstraints,
    model_serializer,
    model_validator,
)

from minet_core.errors import ConfigurationError, FileMissing, ReplyMissing
from minet_core.runtime.files import atomic_write
from minet_core.runtime.json_text import parse_json
from minet_core.settings.adaptation import Candidate
from minet_core.settings.yaml_file import Settings, parse_settings

Status = Literal["running", "completed", "partial", "failed"]
Kind = Literal["phantom", "surrogate", "real"]
Metric = Literal["psnr_db", "ssim", "nmse"]
METRICS: tuple[Metric, ...] = get_args(Metric)
BASELINES = ("sinc", "bicubic")
HIGHER_IS_BETTER = ("psnr_db", "ssim")
"""The metrics a verdict is given on; NMSE orders the methods of a volume as PSNR does."""
Interval = tuple[FiniteFloat, FiniteFloat]
RefusalCode = Annotated[str, StringConstraints(pattern=r"^FM-[A-Z][0-9]{3}$")]


class Scores(Settings):
    """Means over volumes: PSNR in dB, SSIM and NMSE without unit."""

    psnr_db: FiniteFloat
    ssim: FiniteFloat
    nmse: FiniteFloat


class Intervals(Settings):
    """Bootstrap 95% intervals of the means over test volumes; null where one volume gives none."""

    psnr_db: Interval | None = None
    ssim: Interval | None = None
    nmse: Interval | None = None


class Difference(Settings):
    """A paired difference of the PSNR over test patients, dB; the interval by patient, null where there is none."""

    mean_db: FiniteFloat
    interval: Interval | None = None


class AdaptationSummary(Settings):
    """What a site made of the global model, as it told.

    chosen: the model that the site keeps, by its validation patients if it has any. adapted, alone, ensemble: null
    where the site has none.
    differences: by "FIRST less SECOND", as in "chosen less alone".
    """

    chosen: Candidate
    adapted: Scores | None = None
    alone: Scores | None = None
    ensemble: Scores | None = None
    differences: dict[str, Difference] = Field(default_factory=dict)


class SiteSummary(Settings):
    """One site's test split. `kind`, `global`, `sinc` and `bicubic` are null until the site has told them."""

    model_config = ConfigDict(populate_by_name=True)

    kind: Kind | None = None
    n_test_volumes: NonNegativeInt = 0
    n_training_slices: NonNegativeInt = 0
    few_patients: bool = False
    global_model: Scores | None = Field(None, alias="global")
    sinc: Scores | None = None
    bicubic: Scores | None = None
    compared: dict[str, Scores] = Field(default_factory=dict)
    intervals: dict[str, Intervals] = Field(default_factory=dict)
    adaptation: AdaptationSummary | None = None

    @model_serializer(mode="wrap")
    def _as_before_where_nothing_was_adapted(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without `adaptation` where it is null, as a summary of before it."""
        content: dict[str, Any] = dump(self)
        if self.adaptation is None:
            content.pop("adaptation", None)
        return content

    def methods(self) -> dict[str, Scores]:
        """The scores of every method that was scored.

        Returns
        -------
        dict of method to Scores
            In the order in which a table lists them: "sinc", "bicubic", those compared, "alone", "adapted" and
            "ensemble" where the site told of them, "global".
        """
        given = {"sinc": self.sinc, "bicubic": self.bicubic, **self.compared}
        if self.adaptation is not None:
            own = self.adaptation
            given |= {"alone": own.alone, "adapted": own.adapted, "ensemble": own.ensemble}
        given["global"] = self.global_model
        return {method: scores for method, scores in given.items() if scores is not None}


class ModelSummary(Settings):
    """The global model's checkpoint."""

    path: str
    sha256: str
    n_parameters: PositiveInt


class RoundSite(Settings):
    """One site in one round.

    `seconds` until its reply, or until it was no longer waited for. `validation` scores the global model that the round
    began with. `refused` kept its reply out of the mean; `noted` was seen, and its reply counts.
    """

    seconds: NonNegativeFloat = 0.0
    bytes_up: NonNegativeInt = 0
    bytes_down: NonNegativeInt = 0
    train_loss: FiniteFloat | None = None
    validation: Scores | None = None
    refused: RefusalCode | None = None
    noted: tuple[RefusalCode, ...] = ()

    @property
    def seconds_to_reply(self) -> float | None:
        """None where no reply came: what was waited for it is no time of the site."""
        return None if self.refused == ReplyMissing.code else self.seconds


class RoundSummary(Settings):
    """One round; a site that is not in `sites` did not reply."""

    round: PositiveInt
    seconds: NonNegativeFloat
    bytes_up: NonNegativeInt
    bytes_down: NonNegativeInt
    aggregated: bool
    sites: dict[str, RoundSite]


class Machine(Settings):
    """Where the times were measured."""

    cores: PositiveInt
    memory_gib: NonNegativeFloat
    processor: str


class Summary(Settings):
    """`summary.json`."""

    schema_version: Literal[1] = Field(1, alias="schema")
    status: Status
    status_reason: str | None = None
    name: str
    rounds: NonNegativeInt
    rounds_declared: PositiveInt
    scale: Literal[2, 4]
    engine: Literal["deployment", "in-process", "ray"]
    sites: dict[str, SiteSummary]
    model: ModelSummary | None = None
    versions: dict[str, str]
    per_round: tuple[RoundSummary, ...] = ()
    federation: dict[str, Any]
    machine: Machine
    seconds: NonNegativeFloat
    started: datetime

    @model_validator(mode="after")
    def _completed_means_every_round(self) -> Summary:
        if self.status != "completed":
            return self
        if self.rounds != self.rounds_declared:
            raise ValueError(f"completed with {self.rounds} of {self.rounds_declared} declared rounds")
        empty = [entry.round for entry in self.per_round if not entry.aggregated]
        if empty:
            raise ValueError(f"completed although rounds {empty} aggregated nothing")
        return self

    def all_sites(self) -> dict[str, SiteSummary]:
        """Every member site, those that never got as far as a test included.

        Returns
        -------
        dict of site to SiteSummary
            Members first, in the order of the federation file.
        """
        members = self.federation.get("sites", ())
        replied = (name for entry in self.per_round for name in entry.sites)
        return {name: self.sites.get(name, SiteSummary()) for name in (*members, *replied, *self.sites)}


@dataclass(frozen=True)
class Shortfall:
    """A baseline that the global model does not beat at a site in one metric."""

    site: str
    baseline: str
    metric: Metric


@dataclass(frozen=True)
class Verdict:
    """Whether the global model beats sinc and bicubic at every site, in PSNR and in SSIM."""

    scored: tuple[str, ...]
    shortfalls: tuple[Shortfall, ...]
    unscored: tuple[str, ...]

    @property
    def beats_everywhere(self) -> bool:
        return bool(self.scored) and not self.shortfalls and not self.unscored


def verdict(summary: Summary) -> Verdict:
    """Compare the global model's means with the baselines', site by site and never on the average.

    Parameters
    ----------
    summary
        Of the run.

    Returns
    -------
    Verdict
        A site without all three scores counts as unscored.
    """
    shortfalls: list[Shortfall] = []
    unscored: list[str] = []
    scored: list[str] = []
    for name, site in summary.all_sites().items():
        methods = site.methods()
        if not {"global", *BASELINES} <= methods.keys():
            unscored.append(name)
            continue
        scored.append(name)
        shortfalls += [
            Shortfall(name, baseline, metric)
            for baseline in BASELINES
            for metric in METRICS
            if metric in HIGHER_IS_BETTER
            and not getattr(methods["global"], metric) > getattr(methods[baseline], metric)
        ]
    return Verdict(tuple(scored), tuple(shortfalls), tuple(unscored))


def write_summary(path: Path, summary: Summary) -> None:
    """Write `summary.json` durably.

    Parameters
    ----------
    path
        Of the file; replaced where it is there.
    summary
        Of the run.

    Raises
    ------
    DiskFull
        FM-S504, and the other failures of writing (`FileNotWritten`).
    """
    atomic_write.write_json(path, summary.model_dump(mode="json", by_alias=True))


def read_summary(path: Path) -> Summary:
    """Read a run's summary.

    Parameters
    ----------
    path
        Of `summary.json`.

    Returns
    -------
    Summary
        As it was written.

    Raises
    ------
    FileMissing
        FM-C103, where there is no file.
    ConfigurationError
        FM-C100, for what is not JSON.
    UnknownKey, InvalidSetting
        FM-C101 and FM-C102, for JSON of another form.
    """
    if not path.is_file():
        raise FileMissing("a run's summary is missing", got=path, action="Give the folder of a run")
    try:
        content = parse_json(path.read_text(encoding="utf-8"))
    except ValueError as failure:
        raise ConfigurationError(f"{path} is not a JSON file", got=failure) from failure
    if not isinstance(content, dict):
        raise ConfigurationError(f"{path} holds no summary", got=type(content).__name__, expected="an object")
    return parse_settings(content, Summary, source=str(path))
