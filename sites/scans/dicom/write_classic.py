"""Classic MR objects, one a slice, for a series that is made from another one of classic objects."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from pydicom.dataset import Dataset
from pydicom.uid import UID, generate_uid

from sites.scans.dicom.derived_header import (
    PATIENT_AND_STUDY,
    Instance,
    Making,
    begin,
    derivation_codes,
    instances_of,
    read_elements,
    say_making,
    source_item,
)
from sites.scans.dicom.elements import value_of
from sites.scans.dicom.frames import CLASSIC
from sites.scans.dicom.image_plane import finer, put_pixels, put_scale, window_of
from sites.scans.dicom.stacks import Stack
from sites.scans.dicom.stored_values import Stored, decimal

ACQUISITION = (
    "ScanningSequence",
    "SequenceVariant",
    "ScanOptions",
    "SequenceName",
    "MRAcquisitionType",
    "RepetitionTime",
    "EchoTime",
    "InversionTime",
    "EchoNumbers",
    "EchoTrainLength",
    "FlipAngle",
    "NumberOfAverages",
    "ImagingFrequency",
    "ImagedNucleus",
    "PixelBandwidth",
    "AcquisitionMatrix",
    "InPlanePhaseEncodingDirection",
    "AcquisitionNumber",
    "Laterality",
    "AcquisitionDate",
    "AcquisitionTime",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "SliceThickness",
)
AGENT = ("ContrastBolusAgent", "ContrastBolusAgentSequence", "ContrastBolusRoute")
OF_THE_SOURCE = (
    "SOPClassUID",
    "SOPInstanceUID",
    "SeriesInstanceUID",
    "SeriesNumber",
    "PixelSpacing",
    "RescaleSlope",
)
WINDOW = ("WindowCenter", "WindowWidth", "WindowCenterWidthExplanation", "VOILUTFunction")
EMPTY_IF_UNKNOWN = (
    "ScanOptions",
    "EchoTime",
    "EchoTrainLength",
    "RepetitionTime",
    "MRAcquisitionType",
    "SliceThickness",
    "PatientPosition",
)
RESEARCH_MODE = "RM"
UNPAIRED = frozenset(
    {"ABDOMEN", "BRAIN", "CHEST", "CSPINE", "HEAD", "HEART", "LIVER", "LSPINE", "NECK", "PELVIS", "PROSTATE"}
    | {"SKULL", "SPINE", "SSPINE", "TSPINE", "UTERUS"}
)
"""Parts of the body that are no pair, of the standard's list: Laterality may not be there (PS3.3 C.7.3.1)."""


def classic_objects(
    stored: Stored, stack: Stack, references: list[Instance], making: Making, *, now: datetime
) -> Iterator[Dataset]:
    """The objects of a new series, one after another.

    Parameters
    ----------
    stored
        (slice, row, column), in the order of the stack.
    stack
        The source.
    references
        What else the images are made from.
    making
        How.
    now
        When.

    Yields
    ------
    Dataset
        Without file meta information. The first voxel lies where the source's lies.

    Raises
    ------
    ScanUnreadable, ScanInvalid
        As `sites.scans.dicom.derived_header.read_elements`.
    """
    series, unknown_frame = generate_uid(prefix=None), generate_uid(prefix=None)
    for index, frame in enumerate(stack.frames):
        keywords = (*PATIENT_AND_STUDY, *ACQUISITION, *AGENT, *OF_THE_SOURCE, *WINDOW)
        source = read_elements(frame.path, name=frame.name, keywords=keywords)
        new = begin(source, (*ACQUISITION, *AGENT), now=now)
        _complete(new, unknown_frame)
        say_making(new, source, making, series=series, now=now)
        new.SOPClassUID, new.SOPInstanceUID = CLASSIC, generate_uid(prefix=None)
        new.InstanceNumber = index + 1
        new.ImageType = ["DERIVED", "SECONDARY", "OTHER"]
        new.DerivationDescription, new.DerivationCodeSequence = making.sentence(), derivation_codes()
        sources = [*instances_of([frame]), *references]
        new.SourceImageSequence = [source_item(one) for one in sources]
        new.PixelSpacing = finer(value_of(source, "PixelSpacing"), making.scale)
        new.SpacingBetweenSlices = decimal(stack.spacing_mm[0])
        put_scale(new, stored)
        for keyword, value in window_of(source, frame).items():
            setattr(new, keyword, value)
        put_pixels(new, stored.values[index])
        yield new


def _complete(new: Dataset, unknown_frame: UID) -> None:
    """What the standard wants and the source does not say. A sequence that is not said is one of research."""
    if "ScanningSequence" not in new:
        new.ScanningSequence = RESEARCH_MODE
    if "SequenceVariant" not in new:
        new.SequenceVariant = "NONE"
    for keyword in EMPTY_IF_UNKNOWN:
        if keyword not in new:
            setattr(new, keyword, None)
    if "BodyPartExamined" not in new and "Laterality" not in new:
        new.Laterality = None
    if new.get("BodyPartExamined") in UNPAIRED and not new.get("Laterality"):
        new.pop("Laterality", None)  # some scanners write it empty for a head, which has none
    if "FrameOfReferenceUID" not in new:
        new.FrameOfReferenceUID = unknown_frame
