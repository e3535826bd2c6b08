"""How a site's files are found, told apart and paired: NIfTI by their names, fastMRI by attributes, DICOM by facts."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, field_validator, model_validator

from minet_core.settings.yaml_file import Settings
from sites.store.split import Split

Text = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Patterns = Annotated[tuple[Text, ...], Field(min_length=1)]
PATIENT_FOLDER = r"(?P<patient>[^/]+?)(?:[_/-](?:study|ses|session|visit)[_-]?[A-Za-z0-9]+)?(?:/anat)?/[^/]+$"
"""The folder that holds the scans names the patient; a session's number after it does not."""


class NiftiFiles(Settings):
    """How a NIfTI site's files are found."""

    choose_by: Literal["names", "facts"] = Field(
        "names",
        description="names: the patterns below; facts: of a BIDS tree, by the rules of `dicom` on what the side-cars "
        "(.json) say, and the patient is `sub-`",
    )

    target: Patterns = Field(
        ("T2.nii*", "T2W.nii*", "*[_-]T2.nii*", "*[_-]T2W.nii*"),
        description="file names of the target, the first pattern that matches wins; case does not matter",
    )
    reference: Patterns = Field(
        ("T1.nii*", "T1W.nii*", "*[_-]T1.nii*", "*[_-]T1W.nii*"), description="file names of the reference"
    )
    patient_id: Text = Field(
        PATIENT_FOLDER,
        description="regular expression searched in 'folder/sub-folder/file'; its group 'patient' is the patient; "
        "files of one group 'examination', or without such a group of one folder, belong together",
    )

    @field_validator("patient_id")
    @classmethod
    def _names_a_patient(cls, value: str) -> str:
        try:
            groups = re.compile(value).groupindex
        except re.error as failure:
            raise ValueError(f"not a regular expression: {failure}") from failure
        if "patient" not in groups:
            raise ValueError("the expression has no group (?P<patient>...)")
        return value


class SplitLists(Settings):
    """Pair lists of a split that others have drawn: CSV files as `fastmri.pair_list`."""

    training: Path | None = Field(None, description="split_lists: the pairs to train on, CSV as pair_list")
    validation: Path | None = Field(
        None, description="split_lists: the pairs to validate on; null: slices of training patients"
    )
    test: Path | None = Field(None, description="split_lists: the pairs to test on")

    def given(self) -> dict[Split, Path]:
        """The lists there are.

        Returns
        -------
        dict[Split, Path]
            The test is first: of a patient who is listed twice, it keeps the pairs.
        """
        lists: dict[Split, Path | None] = {
            "test": self.test,
            "validation": self.validation,
            "training": self.training,
        }
        return {split: path for split, path in lists.items() if path is not None}


class FastmriFiles(Settings):
    """How a fastMRI site's HDF5 files are told apart and paired."""

    target_acquisition: Text = Field("CORPDFS_FBK", description="'acquisition' attribute of the target")
    reference_acquisition: Text = Field("CORPD_FBK", description="'acquisition' attribute of the reference")
    pairing: Literal["patient_id", "pair_list", "split_lists"] = Field(
        "patient_id",
        description="patient_id: by the files' attribute; pair_list: by a CSV file; split_lists: by one for each split",
    )
    pair_list: Path | None = Field(
        None,
        description="CSV of lines 'reference,target,...' (stems); absolute or below the source folder",
    )
    split_lists: SplitLists = Field(default_factory=SplitLists)
    ignore_patient_id: bool = Field(
        False, description="true: the lists alone say whose a scan is, and each of their pairs is a patient"
    )

    @model_validator(mode="after")
    def _lists_are_given(self) -> Self:
        if (self.pairing == "pair_list") != (self.pair_list is not None):
            raise ValueError("pairing: pair_list and the path of a pair_list belong together")
        given = self.split_lists.given()
        if (self.pairing == "split_lists") != bool(given):
            raise ValueError("pairing: split_lists and the paths of split_lists belong together")
        if given and not {"training", "test"} <= given.keys():
            raise ValueError("split_lists need a list for training and one for the test")
        if self.ignore_patient_id and self.pairing == "patient_id":
            raise ValueError("pairing by patient_id cannot ignore it")
        return self


Interval = tuple[float, float]


class SeriesRule(Settings):
    """What a DICOM series must be for a role: everything that is given. A fact that its header lacks is not met."""

    echo_time_s: Interval | None = Field(None, description="TE, from and to [s]")
    repetition_time_s: Interval | None = Field(None, description="TR, from and to [s]")
    inversion_time_s: Interval | None = Field(None, description="TI, from and to [s]")
    inverted: bool | None = Field(None, description="whether it has an inversion time; null: either")
    sequence: tuple[Text, ...] = Field(
        (),
        description="one of these in ScanningSequence or EchoPulseSequence: SE, GR, SPIN, GRADIENT; empty: any",
    )
    options: tuple[Text, ...] = Field((), description="all of these in ScanOptions")
    not_options: tuple[Text, ...] = Field((), description="none of these in ScanOptions")
    image_type: tuple[Text, ...] = Field((), description="all of these in ImageType")
    not_image_type: tuple[Text, ...] = Field((), description="none of these in ImageType")
    fat_suppressed: bool | None = Field(
        None,
        description="by ScanOptions and spectral selection; false: also where nothing is said; null: either",
    )
    contrast_agent: bool | None = Field(
        None, description="whether an agent is named; false: also where nothing is said; null: either"
    )
    three_dimensional: bool | None = Field(None, description="MRAcquisitionType 3D; null: either")
    description: Text | None = Field(
        None,
        description="regular expression; looked for only where several series meet the facts, and case does not matter",
    )

    @field_validator("echo_time_s", "repetition_time_s", "inversion_time_s")
    @classmethod
    def _is_an_interval(cls, value: tuple[float, float] | None) -> tuple[float, float] | None:
        if value is not None and not 0 <= value[0] <= value[1]:
            raise ValueError("an interval goes from a time to a later one")
        return value

    @field_validator("description")
    @classmethod
    def _is_an_expression(cls, value: str | None) -> str | None:
        try:
            re.compile(value or "")
        except re.error as failure:
            raise ValueError(f"not a regular expression: {failure}") from failure
        return value


class TargetRule(SeriesRule):
    """The series to be super-resolved; as it is, a spin echo weighted by T2 without inversion."""

    echo_time_s: Interval | None = Field((0.06, 0.2), description="TE, from and to [s]")
    repetition_time_s: Interval | None = Field((2.0, 20.0), description="TR, from and to [s]")
    inverted: bool | None = Field(False, description="whether it has an inversion time; null: either")
    sequence: tuple[Text, ...] = Field(
        ("SE", "SPIN"), description="one of these in ScanningSequence or EchoPulseSequence; empty: any"
    )


class ReferenceRule(SeriesRule):
    """The series that guides; as it is, one of short echo and repetition time, inverted or not."""

    echo_time_s: Interval | None = Field((0.0, 0.03), description="TE, from and to [s]")
    repetition_time_s: Interval | None = Field((0.0, 2.6), description="TR, from and to [s]")


Preference = Literal["description", "more_slices", "finer_plane", "thinner_slices", "last_run"]


class DicomFiles(Settings):
    """Which series of a study is the target, and which the reference; also of a BIDS tree, by its side-cars."""

    target: TargetRule = Field(default_factory=TargetRule)
    reference: ReferenceRule = Field(default_factory=ReferenceRule)
    prefer: tuple[Preference, ...] = Field(
        ("description", "more_slices", "finer_plane", "last_run"),
        description="of several series that meet a rule, the one that is best by the first of these that tells them "
        "apart; where none does, the study is refused; last_run: by the number in a BIDS name",
    )
    scale: Literal["rescale", "philips"] = Field(
        "rescale", description="rescale: as the scanner shows it; philips: by its private scale too"
    )
