"""The federation file: what all sites and the coordinator agree on before the first round.

One `federation.yaml` is shared by everybody. Its digest travels with every message, so a site trains by the
file it was given when it was admitted and by no other. A site may tighten a limit in its own `site.yaml`;
nothing in here can widen one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Annotated, Any, Literal, Self

from pydantic import (
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from minet_core.algorithms.registry import ALGORITHMS
from minet_core.models.architectures import SETTINGS_OF
from minet_core.settings.adaptation import AdaptationSettings
from minet_core.settings.algorithm import AlgorithmSettings
from minet_core.settings.names import FederationName, SiteName
from minet_core.settings.yaml_file import Settings
from minet_core.weights.update_norm import (
    FALL_DB,
    NORM_FACTOR,
    OPPOSED_AGREEMENT,
    SUSPECT_AGREEMENT,
    SUSPECT_FACTOR,
)

MAX_TIMED_STEPS = 1000
"""Most steps of a round whose work is declared in seconds, and what it counts for in the schedule of the learning
rate."""


MAX_MEMBERS = 8
"""Networks of an ensemble at most: a picture takes as many times as long."""


OF_EVERY_MODEL = frozenset({"architecture", "members", "self_ensemble"})
"""Settings of the model that each architecture has."""


def _known(name: str, names: Iterable[str], *, what: str) -> str:
    """`name`, where it is one of `names`; a ValueError that tells them where it is not."""
    if name not in names:
        raise ValueError(f"there is no {what} {name}; there are {', '.join(names)}")
    return name


class ModelSettings(Settings):
    """The model, its size and its switches; see `minet_core.models`."""

    architecture: str = Field(
        "minet",
        description="the method: minet, or late-fusion, edsr, smore, zeng or lyu",
    )
    n_groups: PositiveInt = Field(2, description="L, stages of residual groups (paper: 6)")
    n_blocks: PositiveInt = Field(
        2,
        description="RCABs in a residual group (the paper does not say); blocks in a part of another method",
    )
    n_features: PositiveInt = Field(16, description="C, feature channels (paper preset: 64)")
    residual_scale: PositiveFloat = Field(
        1.0, description="edsr, smore: factor on a block's response (EDSR's paper: 0.1)"
    )
    reduction: PositiveInt = Field(4, description="channel reduction of RCAN's attention")
    integration: Literal["cosine", "raw"] = Field(
        "cosine", description="similarity of Eq. 7: cosine with a learnable temperature, or raw as printed"
    )
    use_reference: bool = Field(True, description="false: the ablation without the auxiliary contrast")
    use_integration: bool = Field(True, description="false: the ablation without F_Int")
    use_attention: bool = Field(True, description="false: the ablation without F_Att")
    bicubic_skip: bool = Field(True, description="add the aligned bicubic target to the output (a departure)")
    members: int = Field(
        1, ge=1, le=MAX_MEMBERS, description="networks of this kind whose pictures are averaged: an ensemble"
    )
    self_ensemble: Literal[1, 2, 4, 8] = Field(
        1,
        description="flips and transpositions over which a picture is averaged; so many times the time for it",
    )
    align_reference: bool = Field(
        False,
        description="minet: lay the reference onto the target, by a shift and a turn of each sample, see "
        "docs/training.md",
    )

    @model_serializer(mode="wrap")
    def _as_before_newer_keys(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without newer keys where they are as by default: such a file has the digest that it had before them."""
        content: dict[str, Any] = dump(self)
        for name, usual in (("members", 1), ("self_ensemble", 1), ("align_reference", False)):
            if content.get(name) == usual:
                content.pop(name)
        return content

    def keys_that_say_nothing(self) -> frozenset[str]:
        """Settings of other architectures.

        Returns
        -------
        frozenset of str
            All but the architecture's own.
        """
        own = {*OF_EVERY_MODEL, *SETTINGS_OF[self.architecture]}
        return frozenset(type(self).model_fields.keys() - own)

    @field_validator("architecture")
    @classmethod
    def _there_is_such_a_model(cls, name: str) -> str:
        return _known(name, SETTINGS_OF, what="model")

    @model_validator(mode="after")
    def _only_what_the_architecture_has(self) -> Self:
        taken = SETTINGS_OF[self.architecture]
        for name, field in type(self).model_fields.items():
            if name in taken or name in OF_EVERY_MODEL:
                continue
            if getattr(self, name) != field.default:
                raise ValueError(f"{name} is no setting of the architecture {self.architecture}")
        if self.align_reference and not self.use_reference:
            raise ValueError("align_reference needs use_reference")
        return self


class LocalWork(Settings):
    """How much a site trains between two aggregations: exactly one of the three measures."""

    model_config = ConfigDict(allow_inf_nan=False)

    local_steps: PositiveInt | None = Field(None, description="optimizer steps a round")
    local_epochs: PositiveInt | None = Field(None, description="passes over the training slices a round")
    local_seconds: PositiveFloat | None = Field(
        None, description="wall time a round, s; the work done then depends on the machine"
    )

    @model_validator(mode="after")
    def _one_measure_of_local_work(self) -> Self:
        given = [self.local_steps, self.local_epochs, self.local_seconds]
        if sum(measure is not None for measure in given) != 1:
            raise ValueError(
                "give one of local_steps, local_epochs and local_seconds, and null for the others"
            )
        return self

    def max_steps(self, *, n_slices: int, batch_size: int) -> int:
        """Optimizer steps that a site makes in a round at most.

        Parameters
        ----------
        n_slices
            Training slices of the site.
        batch_size
            Patches or slices in a step.

        Returns
        -------
        int
            `MAX_TIMED_STEPS` where the work is declared in seconds.
        """
        if self.local_seconds is not None:
            return MAX_TIMED_STEPS
        if self.local_epochs is not None:
            return self.local_epochs * -(-n_slices // batch_size)
        assert self.local_steps is not None  # one of the three is declared
        return self.local_steps


Chance = Annotated[float, Field(ge=0, le=1)]


class TroubleSettings(Settings):
    """How often training draws a reference or an input with trouble, and how much of it: see docs/training.md.

    By default absent references alone: docs/results/gate.md has what each is worth.
    """

    model_config = ConfigDict(allow_inf_nan=False)

    moved: Chance = Field(0.0, description="share of the samples whose reference lies elsewhere")
    max_shift_px: float = Field(3.0, ge=0, description="... by at most so much along each axis, px")
    max_rotation_degrees: float = Field(2.0, ge=0, le=45, description="... turned by at most so much")
    max_bend_px: float = Field(1.0, ge=0, description="... and bent smoothly by at most so much, px")
    toned: Chance = Field(0.0, description="share whose reference has another tone")
    max_gain: float = Field(
        0.3, ge=0, le=2, description="... by a factor exp(+-gain) that varies over the frame"
    )
    max_gamma: float = Field(1.5, ge=1, le=4, description="... and an exponent of 1 / gamma to gamma")
    noisy: Chance = Field(0.0, description="share whose reference is noisy")
    max_noise_fraction: float = Field(
        0.1, ge=0, le=1, description="... standard deviation over the signal of bright tissue, at most"
    )
    partly: Chance = Field(0.0, description="share whose reference shows a part of the frame")
    max_missing_share: float = Field(0.6, ge=0, lt=1, description="... of which at most so much is missing")
    absent: Chance = Field(0.15, description="share whose reference is zeros")
    foreign: Chance = Field(
        0.0, description="share whose reference is any other slice's, mostly another patient's"
    )
    neighbour: Chance = Field(0.0, description="share whose reference is of a slice nearby")
    max_slices: PositiveInt = Field(3, description="... so many slices away at most")
    input_noisy: Chance = Field(0.0, description="share whose input is noisy, as magnitudes are (Rician)")
    max_input_noise_fraction: float = Field(
        0.05, ge=0, le=1, description="... standard deviation over the slice's root mean square, at most"
    )
    input_windowed: Chance = Field(0.0, description="share whose input has a scanner's window, up to Hann's")
    input_zero_filled: Chance = Field(
        0.0, description="share whose input was filled with zeros by the scanner"
    )
    min_input_measured: float = Field(
        0.7, gt=0, le=1, description="... of which at least so much was measured, along each axis"
    )
    input_other_kernel: Chance = Field(0.0, description="share whose input is blurred and decimated instead")


class BlurSettings(Settings):
    """How often training blurs a target before it is degraded, and how much: see docs/training.md."""

    share: Chance = Field(0.8, description="share of the samples whose target is blurred")
    max_px: PositiveFloat = Field(
        1.5, le=4, description="... by a Gaussian of at most this standard deviation along a direction, px"
    )


class TrainingSettings(LocalWork):
    """How a site trains between two aggregations."""

    local_steps: PositiveInt | None = Field(25, description="optimizer steps a round; null: another measure")
    learning_rate: PositiveFloat = Field(2e-3, description="Adam's learning rate at its plateau")
    warmup_steps: int = Field(20, ge=0, description="steps of linear warm-up at the start of the run")
    decay_fraction: float = Field(0.25, ge=0, le=1, description="last part of the run with linear decay")
    clip_norm: PositiveFloat | None = Field(1.0, description="bound on the gradient's L2 norm; null: none")
    patch_px: PositiveInt | None = Field(48, description="high-resolution patch edge, px; null: whole slices")
    batch_size: PositiveInt = Field(8, description="patches or slices in a step")
    alpha: float = Field(0.9, ge=0, description="weight of the target's L1 loss (Eq. 6; paper: 0.3)")
    beta: float = Field(0.1, ge=0, description="weight of the reference's L1 loss (Eq. 6; paper: 0.7)")
    validation_slices: PositiveInt | None = Field(
        3, description="slices of the validation split scored in a round; null: all"
    )
    validation_every: PositiveInt = Field(
        1,
        description="rounds from one validation to the next; the last round has one too",
    )
    flips: bool = Field(
        False,
        description="flip and transpose samples at random, so that few patients are learnt by heart less",
    )
    blur: BlurSettings | None = Field(
        None,
        description="targets less sharp than they were among the samples, see docs/training.md; null: none",
    )
    trouble: TroubleSettings | None = Field(
        None,
        description="references and inputs with trouble among the samples, see docs/training.md; null: none",
    )

    @model_serializer(mode="wrap")
    def _as_before_the_key(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without what is off: such a file has the digest that it had before there were these keys."""
        content: dict[str, Any] = dump(self)
        for name in ("trouble", "flips", "blur"):
            if not getattr(self, name):
                content.pop(name, None)
        if self.validation_every == 1:
            content.pop("validation_every", None)
        return content


class ParticipationSettings(Settings):
    """The participation contract: when a round counts, and what is done where it does not."""

    model_config = ConfigDict(allow_inf_nan=False)

    required: tuple[SiteName, ...] = Field((), description="sites without which no round is completed")
    quorum: PositiveInt = Field(description="valid replies below which a round is not completed")
    min_share: float = Field(
        0.0, ge=0, le=1, description="least part of all members' training slices that a round must rest on"
    )
    deadline_s: PositiveFloat = Field(3600.0, description="how long a round waits for its sites, s")
    retries: int = Field(1, ge=0, description="how often a round below the contract is repeated")


class QuarantineSettings(Settings):
    """When an update is not believed, and when a round is taken back."""

    suspect_factor: PositiveFloat = Field(
        SUSPECT_FACTOR,
        description="an update is reported beyond this multiple of the median norm of round and run",
    )
    norm_factor: PositiveFloat = Field(
        NORM_FACTOR, description="an update is refused beyond this multiple of that median"
    )
    refuse_norm: bool = Field(
        True,
        description="refuse such an update where a round has three replies or the run nine before it; false: report it "
        "and use it",
    )
    shorten: bool = Field(
        False, description="in place of refusing such an update, shorten it to the bound and use it"
    )
    suspect_agreement: float = Field(
        SUSPECT_AGREEMENT,
        ge=-1,
        le=1,
        description="a site is reported whose median cosine to the others' mean direction is below this",
    )
    opposed_agreement: float = Field(
        OPPOSED_AGREEMENT,
        ge=-1,
        le=1,
        description="a site's update is refused where the median of its cosines in the last rounds is below this",
    )
    refuse_opposed: bool = Field(True, description="refuse such an update; false: report it and use it")
    roll_back: bool = Field(
        True, description="take a round back after which the global model is worse at most sites"
    )
    fall_db: PositiveFloat = Field(
        FALL_DB, description="fall of a site's validation PSNR in one round that counts for that, dB"
    )
    max_roll_backs: int = Field(4, ge=0, description="rounds of a run that are taken back at most")


class TrafficSettings(Settings):
    """The form in which a site's weights travel."""

    uplink: Literal["full", "bf16", "int8"] = Field(
        "full", description="weights as they are, or their change in 16 or 8 bits with error feedback"
    )


class FederationSettings(Settings):
    """`federation.yaml`."""

    name: FederationName = Field(description="the federation's name")
    sites: tuple[SiteName, ...] = Field(min_length=1, description="registered names of the member sites")
    scale: Literal[2, 4] = Field(2, description="enlargement in both directions of the slice")
    rounds: PositiveInt = Field(24, description="aggregations")
    seed: int = Field(1, ge=0, description="every random number of the run is derived from it")
    participation: ParticipationSettings
    algorithm: AlgorithmSettings = Field(default_factory=AlgorithmSettings)
    quarantine: QuarantineSettings = Field(default_factory=QuarantineSettings)
    traffic: TrafficSettings = Field(default_factory=TrafficSettings)
    model: ModelSettings = Field(default_factory=ModelSettings)
    training: TrainingSettings = Field(default_factory=TrainingSettings)
    local_work: dict[SiteName, LocalWork] = Field(
        default_factory=dict, description="by site, where its local work differs from that of training"
    )
    adaptation: AdaptationSettings | None = Field(
        None,
        description="training of the global model at each site after the last round, which stays there; null: none",
    )

    @field_validator("algorithm")
    @classmethod
    def _there_is_such_an_algorithm(cls, algorithm: AlgorithmSettings) -> AlgorithmSettings:
        _known(algorithm.name, ALGORITHMS, what="federated algorithm")
        return algorithm

    @model_serializer(mode="wrap")
    def _as_before_where_nothing_is_adapted(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without `adaptation` where it is null: such a file has the digest and the text that it had before the key."""
        content: dict[str, Any] = dump(self)
        if self.adaptation is None:
            content.pop("adaptation", None)
        return content

    @model_validator(mode="after")
    def _sites_agree(self) -> Self:
        members, participation = set(self.sites), self.participation
        if len(members) != len(self.sites):
            raise ValueError("a site is named twice in sites")
        if participation.quorum > len(self.sites):
            raise ValueError(f"quorum {participation.quorum} is more than the {len(self.sites)} sites")
        for key, named in (
            ("participation.required", participation.required),
            ("local_work", self.local_work),
        ):
            if strangers := sorted(set(named) - members):
                raise ValueError(f"{key} names {strangers[0]}, which is no member")
        if self.quarantine.roll_back and self.training.validation_every > 1:
            raise ValueError(
                "training.validation_every above 1 leaves rounds unjudged, so none can be taken back; set "
                "quarantine.roll_back: false"
            )
        return self

    def is_validated(self, round_number: int) -> bool:
        """Whether the sites score the model that a round begins with on their validation patients.

        Parameters
        ----------
        round_number
            From 1.

        Returns
        -------
        bool
            In the first round, in every `training.validation_every`-th after it, and in the last.
        """
        return (round_number - 1) % self.training.validation_every == 0 or round_number == self.rounds

    def work_of(self, site: str) -> LocalWork:
        """How much a site trains in a round.

        Parameters
        ----------
        site
            Name of a member.

        Returns
        -------
        LocalWork
            Its own where `local_work` has one, else `training`.
        """
        return self.local_work.get(site, self.training)

    def digest(self) -> str:
        """SHA-256 of the settings in a canonical form: equal for equal settings, however the file is laid out."""
        canonical = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()


PRESETS: dict[str, tuple[ModelSettings, TrainingSettings]] = {
    "quick": (ModelSettings(), TrainingSettings()),
    "paper": (
        ModelSettings(n_groups=6, n_blocks=6, n_features=64, reduction=16, bicubic_skip=False),
        TrainingSettings(
            local_steps=None,
            local_epochs=1,
            learning_rate=1e-5,
            warmup_steps=0,
            decay_fraction=0.0,
            clip_norm=None,
            patch_px=None,
            batch_size=4,
            alpha=0.3,
            beta=0.7,
            validation_slices=None,
        ),
    ),
    "late": (
        ModelSettings(architecture="late-fusion", self_ensemble=4),
        TrainingSettings(local_steps=100, batch_size=4),
    ),
}
"""`quick`: minutes on a CPU. `late`: as long, of the form that learns more in it (docs/results/late-fusion.md).
`paper`: what Section 3 of Feng et al. 2021 states (6 stages, Adam at 1e-5, alpha, beta;
to be run for 50 rounds of one epoch), and of what it does not state the 64 features, 6 blocks a group and batches of
4 of the authors' release."""
