"""One enhanced MR object for a series that is made from enhanced ones: all slices as its frames.

Of the source's functional groups those are kept that say what an image shows and where it lies. How each frame was
acquired is asked of original images alone, and vendors write it in values that the standard does not have.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from minet_core.errors import ScanInvalid
from sites.scans.dicom.derived_header import (
    PATIENT_AND_STUDY,
    Instance,
    Making,
    begin,
    copied,
    derivation_codes,
    instances_of,
    item,
    read_elements,
    say_making,
    source_item,
)
from sites.scans.dicom.elements import tag_of, value_of
from sites.scans.dicom.frames import Frame
from sites.scans.dicom.image_plane import finer, put_pixels, put_scale, window_of
from sites.scans.dicom.stacks import Stack
from sites.scans.dicom.stored_values import Stored

ENHANCED = "1.2.840.10008.5.1.4.1.1.4.1"
ACQUISITION = (
    "AcquisitionContrast",
    "AcquisitionDateTime",
    "AcquisitionNumber",
    "ResonantNucleus",
    "ApplicableSafetyStandardAgency",
)
OF_THE_SOURCE = (
    "SOPClassUID",
    "SOPInstanceUID",
    "SeriesInstanceUID",
    "SeriesNumber",
    "ImageType",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
)
KEPT_GROUPS = ("PlanePositionSequence", "PlaneOrientationSequence", "FrameAnatomySequence", "MREchoSequence")
UNKNOWN = "UNKNOWN"
STACK, IN_STACK, CONTENT = 0x00209056, 0x00209057, 0x00209111
CONTRASTS = frozenset(
    {
        "DIFFUSION",
        "FLOW_ENCODED",
        "FLUID_ATTENUATED",
        "PERFUSION",
        "PROTON_DENSITY",
        "STIR",
        "TAGGING",
        "T1",
        "T2",
    }
    | {"T2_STAR", "TOF", "MIXED", "UNKNOWN"}
)


def enhanced_object(
    stored: Stored, stack: Stack, references: list[Instance], making: Making, *, now: datetime
) -> Dataset:
    """The object of a new series.

    Parameters
    ----------
    stored
        (slice, row, column), in the order of the stack.
    stack
        The source.
    references
        What else the image is made from.
    making
        How.
    now
        When.

    Returns
    -------
    Dataset
        Without file meta information. The first voxel lies where the source's lies.

    Raises
    ------
    ScanUnreadable, ScanInvalid
        As `sites.scans.dicom.derived_header.read_elements`.
    """
    sources = _sources(stack)
    source = sources[stack.frames[0].path]
    new = begin(source, ACQUISITION, now=now)
    say_making(new, source, making, series=generate_uid(prefix=None), now=now)
    new.SOPClassUID, new.SOPInstanceUID, new.InstanceNumber = ENHANCED, generate_uid(prefix=None), 1
    _describe(new, value_of(source, "ImageType"))
    evidence = [*instances_of(stack.frames), *references]
    new.SourceImageEvidenceSequence = _evidence(evidence)
    _dimensions(new)
    new.NumberOfFrames = len(stack.frames)
    new.SharedFunctionalGroupsSequence = [_shared(new, stored)]
    new.PerFrameFunctionalGroupsSequence = [
        _frame(sources[frame.path], frame, number, references, making)
        for number, frame in enumerate(stack.frames, start=1)
    ]
    put_pixels(new, stored.values)
    return new


def _sources(stack: Stack) -> dict[Path, Dataset]:
    keywords = (*PATIENT_AND_STUDY, *ACQUISITION, *OF_THE_SOURCE)
    names = {frame.path: frame.name for frame in stack.frames}
    return {path: read_elements(path, name=name, keywords=keywords) for path, name in names.items()}


def _describe(new: Dataset, image_type: Any) -> None:
    """The image's kind. An enhanced object's is PRIMARY whatever it is made from: PS3.3, C.8.16.1.2."""
    given = [] if image_type is None or isinstance(image_type, str) else list(image_type)
    new.ImageType = ["DERIVED", "PRIMARY", given[2] if len(given) > 2 else "OTHER", "RESAMPLED"]
    new.ContentQualification = "RESEARCH"
    new.PixelPresentation, new.VolumetricProperties = "MONOCHROME", "VOLUME"
    new.VolumeBasedCalculationTechnique = "NONE"
    new.ComplexImageComponent = "MAGNITUDE"  # no other frame is read
    if new.get("AcquisitionContrast") not in CONTRASTS:
        new.AcquisitionContrast = UNKNOWN
    for keyword in ("Manufacturer", "ManufacturerModelName", "DeviceSerialNumber", "SoftwareVersions"):
        if not new.get(keyword):
            setattr(new, keyword, UNKNOWN)
    if "LossyImageCompression" not in new:
        new.LossyImageCompression = "00"
    if "PatientPosition" not in new:
        new.PatientPosition = None
    if "FrameOfReferenceUID" not in new:
        new.FrameOfReferenceUID = generate_uid(prefix=None)
    new.PresentationLUTShape, new.AcquisitionContextSequence = "IDENTITY", []


def _evidence(instances: list[Instance]) -> list[Dataset]:
    """The sources by study and series."""
    studies: dict[str, dict[str, list[Instance]]] = {}
    for one in instances:
        of_series = studies.setdefault(one.study, {}).setdefault(one.series, [])
        if one.uid not in [other.uid for other in of_series]:
            of_series.append(one)
    return [
        item(
            StudyInstanceUID=study,
            ReferencedSeriesSequence=[
                item(
                    SeriesInstanceUID=uid,
                    ReferencedSOPSequence=[
                        item(ReferencedSOPClassUID=one.sop_class, ReferencedSOPInstanceUID=one.uid)
                        for one in inside
                    ],
                )
                for uid, inside in series.items()
            ],
        )
        for study, series in studies.items()
    ]


def _dimensions(new: Dataset) -> None:
    organisation = generate_uid(prefix=None)
    new.DimensionOrganizationSequence = [item(DimensionOrganizationUID=organisation)]
    new.DimensionIndexSequence = [
        item(
            DimensionOrganizationUID=organisation,
            DimensionIndexPointer=pointer,
            FunctionalGroupPointer=CONTENT,
        )
        for pointer in (STACK, IN_STACK)
    ]


def _shared(new: Dataset, stored: Stored) -> Dataset:
    scale = Dataset()
    put_scale(scale, stored)
    scale.RescaleType = "US"
    kind = item(
        FrameType=list(new.ImageType),
        PixelPresentation=new.PixelPresentation,
        VolumetricProperties=new.VolumetricProperties,
        VolumeBasedCalculationTechnique=new.VolumeBasedCalculationTechnique,
        ComplexImageComponent=new.ComplexImageComponent,
        AcquisitionContrast=new.AcquisitionContrast,
    )
    return item(PixelValueTransformationSequence=[scale], MRImageFrameTypeSequence=[kind])


def _frame(source: Dataset, frame: Frame, number: int, references: list[Instance], making: Making) -> Dataset:
    groups = _groups(source, frame)
    new = Dataset()
    for keyword in KEPT_GROUPS:
        if keyword in groups and len(groups[keyword].value):
            kept = copied(
                groups[keyword].value[0], [one.keyword for one in groups[keyword].value[0] if one.keyword]
            )
            setattr(new, keyword, [kept])
    if "PlanePositionSequence" not in new or "PixelMeasuresSequence" not in groups:
        raise ScanInvalid(f"{frame.name} does not say where its frames lie in the way of an enhanced object")
    measures = groups["PixelMeasuresSequence"].value[0]
    finer_ones = copied(measures, ("SliceThickness", "SpacingBetweenSlices"))
    finer_ones.PixelSpacing = finer(measures.PixelSpacing, making.scale)
    if "FrameAnatomySequence" not in new:
        anywhere = item(CodeValue="38266002", CodingSchemeDesignator="SCT", CodeMeaning="Entire body")
        new.FrameAnatomySequence = [item(FrameLaterality="U", AnatomicRegionSequence=[anywhere])]
    new.PixelMeasuresSequence = [finer_ones]
    new.FrameContentSequence = [
        item(StackID="1", InStackPositionNumber=number, DimensionIndexValues=[1, number])
    ]
    if window := _window(groups, frame):
        new.FrameVOILUTSequence = [item(**window)]
    own = Instance(str(source.SOPClassUID), str(source.SOPInstanceUID), "", "", frames=(frame.index + 1,))
    new.DerivationImageSequence = [
        item(
            DerivationDescription=making.sentence(),
            DerivationCodeSequence=derivation_codes(),
            SourceImageSequence=[source_item(one) for one in (own, *references)],
        )
    ]
    return new


def _groups(source: Dataset, frame: Frame) -> Dataset:
    """The functional groups of a frame: its own, and else those that all share."""
    shared = value_of(source, "SharedFunctionalGroupsSequence")
    found = Dataset()
    for groups in ([*shared] if shared else []) + [
        value_of(source, "PerFrameFunctionalGroupsSequence")[frame.index]
    ]:
        for element in groups:
            if not element.tag.is_private:
                found[element.tag] = element
    return found


def _window(groups: Dataset, frame: Frame) -> dict[str, object]:
    if "FrameVOILUTSequence" not in groups or not len(groups["FrameVOILUTSequence"].value):
        return {}
    place = Dataset()
    place.update(groups["FrameVOILUTSequence"].value[0])
    scales = (
        groups["PixelValueTransformationSequence"].value
        if "PixelValueTransformationSequence" in groups
        else []
    )
    if len(scales) and (tag := tag_of("RescaleSlope")) in scales[0]:
        place[tag] = scales[0][tag]
    return window_of(place, frame)
