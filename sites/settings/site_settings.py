"""The site file: what one hospital's scans are called, how they pair, and how they are split.

A site's `site.yaml` starts as a copy of a definition (`sites/sms`, `sites/umr`, `sites/fastmri`) and is then the
hospital's own. Nothing that the coordinator sends can change it.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from minet_core.settings.names import Digest, SiteName
from minet_core.settings.yaml_file import Settings, warn_once
from sites.settings.pacs_settings import PacsSettings
from sites.settings.protocol_settings import ProtocolSettings
from sites.settings.receive_settings import ReceiveSettings
from sites.settings.scan_files import DicomFiles, FastmriFiles, NiftiFiles, Text
from sites.store.cohort import DataKind

Device = Literal["auto", "cuda", "cpu"]


class Acquisition(Settings):
    """How the scans were made. For people: nothing is computed from it."""

    scanner: str = Field("", description="vendor and model")
    field_strength_t: PositiveFloat | None = Field(None, description="magnetic field [T]")
    repetition_time_ms: dict[str, float] = Field(default_factory=dict, description="TR of each contrast [ms]")
    echo_time_ms: dict[str, float] = Field(default_factory=dict, description="TE of each contrast [ms]")
    field_of_view_mm: tuple[float, ...] = Field((), description="in-plane field of view [mm]")
    matrix: tuple[int, ...] = Field((), description="voxels in the plane, and slices")
    slice_thickness_mm: PositiveFloat | None = Field(None, description="slice thickness [mm]")


class Roles(Settings):
    """Which contrast is super-resolved and which one guides."""

    target: Text = Field("T2", description="contrast to be super-resolved")
    reference: Text = Field("T1", description="contrast that guides, at full resolution")


_FORMER_REGISTRATION_KEYS = {
    "max_residual_mm": "max_offset_px",
    "max_disagreement_mm": "max_error_px",
    "min_similarity": "min_agreement",
}


class RegistrationSettings(Settings):
    """When target and reference count as one anatomy. The defaults' origin: sites/registration/register.py."""

    @model_validator(mode="before")
    @classmethod
    def _former_keys_are_named(cls, content: Any) -> Any:
        """Former keys measured something else: they are taken without effect, and the log names the new ones."""
        if not isinstance(content, dict):
            return content
        for key in _FORMER_REGISTRATION_KEYS.keys() & content.keys():
            present = _FORMER_REGISTRATION_KEYS[key]
            warn_once(f"registration.{key} has no effect any more: see registration.{present}")
        return {key: value for key, value in content.items() if key not in _FORMER_REGISTRATION_KEYS}

    min_agreement: float = Field(
        0.2, ge=0, le=1, description="least share of blocks that are found in their place after registration"
    )
    max_error_px: PositiveFloat = Field(
        1.0, description="largest estimated error of the registration [pixels of the target's plane]"
    )
    max_offset_px: PositiveFloat = Field(
        0.35,
        description="up to here a pair on one grid is taken as it lies; beyond, the reference is registered [pixels]",
    )
    max_stretch: float = Field(
        0.03,
        ge=0,
        le=0.1,
        description="largest relative difference of lengths that is corrected; 0: rigid alone",
    )
    max_likeness: float = Field(
        0.8,
        gt=0,
        le=1,
        description="above it the reference is the target itself, copied, scaled or with noise",
    )


class QualitySettings(Settings):
    """What a scan must be. The defaults' origin: sites/quality/image_quality.py and docs/decisions/0015."""

    derived_images: Literal["refuse", "remark"] = Field(
        "refuse", description="label maps, masks, phase and parameter maps in place of a magnitude image"
    )
    bright_artefacts: Literal["refuse", "remark"] = Field(
        "refuse", description="hot voxels, burned-in marks, bright edge lines, spikes in k-space"
    )
    interpolated_target: Literal["crop", "refuse", "remark"] = Field(
        "crop",
        description="a target whose grid is much finer than what was measured; crop: bring it to the measured matrix",
    )
    min_occupied: float = Field(
        0.6,
        gt=0,
        le=1,
        description="share of the row and of the column frequencies below which interpolated_target applies; "
        "from there to 0.95 it is said",
    )
    max_reference_step: float = Field(
        3.0,
        ge=1,
        description="a reference whose voxels are longer than the target's by more, along any axis, is refused",
    )
    min_snr: PositiveFloat | None = Field(
        3.0, description="least mean of the anatomy over the noise of the air (FM-D215); null: any"
    )
    max_ghosting: PositiveFloat | None = Field(
        None,
        description="most signal in the air beside the anatomy, along one direction more than along the other, over "
        "twice the anatomy's (FM-D216); null: any, since dim tissue beside bright reads as a ghost",
    )
    max_saturated: PositiveFloat | None = Field(
        0.05, description="largest share of the anatomy at the maximum (FM-D217); null: any"
    )
    max_cut_off: PositiveFloat | None = Field(
        None,
        description="largest share of the picture's edge with anatomy on it (FM-D218); null: any, since a spine or a "
        "knee fills its picture",
    )
    max_shift_px: PositiveFloat | None = Field(
        2.0,
        description="farthest that every other slice may lie from its neighbours [pixels] (FM-D219); null: any",
    )


class DuplicateSettings(Settings):
    """What is done with scans that another patient of the store has (the limit: sites/duplicates/likeness.py)."""

    max_likeness: float = Field(
        0.85,
        gt=0,
        le=1,
        description="from here on, two patients' images show one anatomy (1: the same image)",
    )
    same_anatomy: Literal["refuse", "merge"] = Field(
        "refuse",
        description="refuse: the later pair is left out; merge: it becomes an examination of the earlier patient; "
        "a copy of the same scan is refused in any case",
    )
    exchanged: Literal["refuse", "remark"] = Field(
        "refuse",
        description="a new pair whose target and reference are exchanged, as the other patients have them; remark: it "
        "is taken, and said",
    )


class SplitSettings(Settings):
    """How patients are divided."""

    ratio: tuple[PositiveInt, PositiveInt, PositiveInt] = Field(
        (7, 1, 2), description="train : validation : test, by patient"
    )
    draw: Literal["by_patient", "quota"] = Field(
        "by_patient",
        description="by_patient: from a patient's own identifier, whoever else is there, so that a store made anew "
        "tests nobody it trained on; quota: exact proportions, only for data that never changes",
    )
    seed: int = Field(1, ge=0, description="decides who goes where; a patient never changes split afterwards")


class LimitSettings(Settings):
    """What the site holds the server's messages to, beside their form."""

    global_change_factor: PositiveFloat = Field(
        20.0,
        description="the global model may move between two rounds by this multiple of the site's own median update",
    )
    refuse_global_change: bool = Field(
        False, description="refuse a model that moved further; false: note it in the site's log and train"
    )


class ComputeSettings(Settings):
    """Where the site trains."""

    device: Device = Field(
        "auto",
        description="auto: the first CUDA device, else the CPU; cuda: no start without one; cpu: the CPU",
    )
    recompute: bool | None = Field(
        None,
        description="compute groups of layers again in place of storing them: less memory, more time, the same "
        "result; null: for a large model on a GPU",
    )


class PolicySettings(Settings):
    """What this site takes part in: floors and limits that hold whatever a federation file says.

    The defaults are tight and hold for real patients; each is argued in docs/decisions/0016. A least is never below
    one; a most may be null, which is none.
    """

    bundles: tuple[Digest, ...] = Field(
        (), description="SHA-256 of the app bundles that this site runs; empty: the one in its kit"
    )
    federations: tuple[Text, ...] = Field(
        (), description="names of the federations that this site trains for; empty: the one in its kit"
    )
    federation_digest: Digest | None = Field(
        None, description="the only federation file that this site trains by; null: the accepted kit's"
    )
    algorithms: tuple[Text, ...] = Field(
        ("fedavg", "fedprox", "fedadam", "personal-head"),
        description="algorithms that this site takes part in; scaffold sends the site's mean gradient",
    )
    personal: tuple[Text, ...] | None = Field(
        ("target_reconstruction.", "reference_reconstruction."),
        description="personal-head: parts of the model that may stay at the site; null: any",
    )
    min_patients: PositiveInt = Field(
        5,
        description="training patients; with fewer test patients no interval leaves, and their number only as 1",
    )
    min_slices: PositiveInt = Field(20, description="training slices, whose number is the site's weight")
    min_validation_slices: PositiveInt = Field(3, description="slices that a validation score is the mean of")
    min_test_patients: PositiveInt = Field(2, description="patients that a test score is the mean of")
    min_batch: PositiveInt = Field(4, description="patches or slices in a training step")
    min_patch_px: PositiveInt = Field(
        48, description="edge of a training patch, px; of whole slices the shorter"
    )
    min_steps: PositiveInt = Field(5, description="optimizer steps in a round")
    min_samples: PositiveInt = Field(20, description="patches or slices in all the steps of a round")
    min_seconds: PositiveFloat = Field(5.0, description="a round of declared time, s")
    min_learning_rate: PositiveFloat = Field(
        1e-6,
        description="below it the weights stay where the coordinator put them, and a round is a measurement",
    )
    max_learning_rate: PositiveFloat | None = Field(0.1, description="Adam's learning rate at its plateau")
    max_rounds: PositiveInt | None = Field(200, description="rounds of a federation file; null: any number")
    max_requests: PositiveInt | None = Field(
        500, description="requests answered for one study, under all run names together; null: any number"
    )
    max_batch: PositiveInt | None = Field(64, description="patches or slices in a training step; null: any")
    max_steps: PositiveInt | None = Field(10_000, description="optimizer steps in a round; null: any number")
    max_adaptation_steps: PositiveInt | None = Field(
        2_000,
        description="optimizer steps of the adaptation after the last round, of all its rates together; null: any",
    )
    max_alone_steps: int | None = Field(
        20_000,
        ge=0,
        description="optimizer steps of the model that is trained alone beside the adapted one; where it would have "
        "more there is none, which refuses nothing; null: any number",
    )
    max_passes: PositiveInt | None = Field(
        12,
        description="passes of one network for a slice's picture, model.members x model.self_ensemble, three times "
        "that where an adaptation's ensemble may be kept: so many times a plain validation or test takes; null: any "
        "number",
    )
    max_seconds: PositiveFloat | None = Field(
        14_400.0, description="a round, declared or estimated, s; null: any time"
    )
    max_memory_gb: PositiveFloat | None = Field(
        64.0, description="a training step, estimated in float32 without recomputing, GB; null: any"
    )
    max_parameters: PositiveInt | None = Field(
        100_000_000, description="learnable weights of the model; null: any number"
    )


class SiteSettings(Settings):
    """`site.yaml`."""

    name: SiteName = Field(description="the site's registered name")
    title: Text = Field(description="the site's name for people")
    data_kind: DataKind = Field("real", description="real, surrogate (other real scans stand in) or phantom")
    reader: Literal["nifti", "fastmri", "dicom"] = Field(description="file format of the scans")
    roles: Roles = Field(default_factory=Roles)
    acquisition: Acquisition = Field(default_factory=Acquisition)
    nifti: NiftiFiles = Field(default_factory=NiftiFiles)
    fastmri: FastmriFiles = Field(default_factory=FastmriFiles)
    dicom: DicomFiles = Field(default_factory=DicomFiles)
    protocol: ProtocolSettings = Field(default_factory=ProtocolSettings)
    registration: RegistrationSettings = Field(default_factory=RegistrationSettings)
    quality: QualitySettings = Field(default_factory=QualitySettings)
    duplicates: DuplicateSettings = Field(default_factory=DuplicateSettings)
    split: SplitSettings = Field(default_factory=SplitSettings)
    limits: LimitSettings = Field(default_factory=LimitSettings)
    compute: ComputeSettings = Field(default_factory=ComputeSettings)
    policy: PolicySettings = Field(default_factory=PolicySettings)
    receive: ReceiveSettings = Field(default_factory=ReceiveSettings)
    pacs: PacsSettings = Field(default_factory=PacsSettings)
    allow_few_patients: bool = Field(
        False,
        description="accept 2 to 9 patients with one for the test and validation on slices of training patients",
    )
    accept_patient_names: bool = Field(
        False,
        description="take patients' names as they are where some are dates, or differ by a session or a counter alone",
    )
