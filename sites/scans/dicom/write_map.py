"""A Parametric Map beside a new series: one figure a voxel, on the series' own grid, as floating-point numbers.

highdicom makes the object; it is installed with the extra `maps` alone. The map is of the source's patient and study,
and names the source's frames; like the series it is for research. Its frames are brought into the series' order:
highdicom writes them against the normal, whatever the order that it is given.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from minet_core.errors import ConfigurationError, InvalidSetting
from minet_core.runtime.files.atomic_write import replacing
from sites.scans.dicom.bounded_header import silent_pydicom
from sites.scans.dicom.derived_header import (
    EMPTY_IF_UNKNOWN,
    PATIENT_AND_STUDY,
    USE,
    copied,
    read_elements,
)
from sites.scans.dicom.elements import value_of
from sites.scans.dicom.stacks import Stack

MULTI_FRAME = ("NumberOfFrames", "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
IMAGE = (
    "SOPClassUID",
    "SOPInstanceUID",
    "SeriesInstanceUID",
    "SeriesNumber",
    "Rows",
    "Columns",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "SliceThickness",
    *MULTI_FRAME,
)


@dataclass(frozen=True)
class MapOf:
    """What a map shows. label: up to 16 characters, as DICOM's code strings are. sentence: for people."""

    label: str
    sentence: str
    model_sha256: str


def require_highdicom() -> None:
    """Refuse before anything is made where no map can be written.

    Raises
    ------
    ConfigurationError
        FM-C100: highdicom is not installed.
    """
    try:
        import highdicom  # noqa: F401  only to say what is missing
    except ImportError as failure:
        raise ConfigurationError(
            "highdicom is not installed", action="Install it: pip install 'fedminet[maps]'"
        ) from failure


def require_free_file(path: Path) -> None:
    """Refuse a place where something is.

    Parameters
    ----------
    path
        Where the map is to be written.

    Raises
    ------
    InvalidSetting
        FM-C102: it is there.
    """
    if path.is_symlink() or path.exists():
        raise InvalidSetting("the map's file is there already", got=path, action="Give another output folder")


def write_map(path: Path, array: NDArray[np.float32], source: Stack, shown: MapOf, *, scale: int) -> None:
    """Write a map of a refined stack.

    Parameters
    ----------
    path
        As `require_free_file` wants it.
    array
        (slice, row, column) as `sites.scans.dicom.write_series.write_series` takes it; standard deviations in the
        units of the series.
    source
        What was refined.
    shown
        What it shows.
    scale
        Factor in the plane.

    Raises
    ------
    ConfigurationError
        FM-C100: highdicom is not installed.
    InvalidSetting
        FM-C102: the file is there.
    ScanUnreadable, ScanInvalid
        As `sites.scans.dicom.derived_header.read_elements`.
    FileNotWritten
        FM-S504 or another of its kinds.
    """
    require_highdicom()
    require_free_file(path)
    with silent_pydicom("the map"):
        made = _map_of(array, source, shown, scale=scale)
        with replacing(path) as temporary:
            made.save_as(temporary, enforce_file_format=True)


def _map_of(array: NDArray[np.float32], source: Stack, shown: MapOf, *, scale: int) -> Any:
    import highdicom as hd

    sources = _sources(source)
    first, frame = sources[0], source.frames[0]
    largest = float(array.max()) or 1.0
    thickness = value_of(first, "SliceThickness")
    number = value_of(first, "SeriesNumber")
    made = hd.pm.ParametricMap(
        source_images=sources,
        pixel_array=np.ascontiguousarray(array, dtype=np.float32),
        series_instance_uid=str(generate_uid(prefix=None)),
        series_number=9500 + int(number or 0) % 500,
        sop_instance_uid=str(generate_uid(prefix=None)),
        instance_number=1,
        manufacturer="fedminet",
        manufacturer_model_name="fedminet infer",
        software_versions=version("fedminet"),
        device_serial_number=shown.model_sha256[:16],
        contains_recognizable_visual_features=True,
        real_world_value_mappings=[_mapping(shown, largest)],
        voi_lut_transformations=[_window(largest)],
        transfer_syntax_uid=ExplicitVRLittleEndian,
        content_label=shown.label,
        content_description=shown.sentence[:64],
        content_qualification="RESEARCH",
        pixel_measures=hd.PixelMeasuresSequence(
            pixel_spacing=[step / scale for step in frame.pixel_mm],
            slice_thickness=float(source.spacing_mm[0] if thickness is None else thickness),
            spacing_between_slices=float(source.spacing_mm[0]),
        ),
        plane_orientation=hd.PlaneOrientationSequence("PATIENT", [*frame.along_row, *frame.along_column]),
        plane_positions=[hd.PlanePositionSequence("PATIENT", one.position) for one in source.frames],
    )
    _put_along_normal(made, source)
    made.ContentCreatorName = ""  # type 2, and highdicom leaves it out
    made.SeriesDescription = f"RESEARCH {shown.label.lower().replace('_', ' ')}, fedminet"
    if not made.get("BodyPartExamined") and "Laterality" not in made:
        made.Laterality = None
    made.ImageComments = f"{shown.sentence} {USE}. Model SHA-256 {shown.model_sha256}"
    return made


def _put_along_normal(made: Dataset, source: Stack) -> None:
    """The frames in the order of the stack, which is the series': frame n of the map is slice n."""
    items = list(made.PerFrameFunctionalGroupsSequence)
    first = source.frames[0]
    normal = np.cross(first.along_row, first.along_column)
    positions = [item.PlanePositionSequence[0].ImagePositionPatient for item in items]
    order = np.argsort(np.array(positions, dtype=np.float64) @ normal, kind="stable")
    frames = np.frombuffer(made.FloatPixelData, "<f4").reshape(len(items), -1)
    made.FloatPixelData = frames[order].tobytes()
    made.PerFrameFunctionalGroupsSequence = [items[index] for index in order]
    for number, item in enumerate(made.PerFrameFunctionalGroupsSequence, start=1):
        item.FrameContentSequence[0].DimensionIndexValues = [number]


def _window(largest: float) -> Any:
    import highdicom as hd

    return hd.VOILUTTransformation(
        window_center=largest / 2, window_width=largest, voi_lut_function="LINEAR_EXACT"
    )


def _mapping(shown: MapOf, largest: float) -> Any:
    import highdicom as hd
    from pydicom.sr.codedict import codes

    return hd.pm.RealWorldValueMapping(
        lut_label=shown.label,
        lut_explanation=shown.sentence[:64],
        unit=codes.UCUM.NoUnits,
        value_range=(0.0, largest),
        slope=1.0,
        intercept=0.0,
        quantity_definition=hd.sr.CodedConcept("386136009", "SCT", "Standard Deviation"),
    )


def _sources(source: Stack) -> list[Dataset]:
    """The objects of a stack without pixels, with what the standard wants and they do not say."""
    found: dict[Path, Dataset] = {}
    for frame in source.frames:
        if frame.path in found:
            continue
        read = read_elements(frame.path, name=frame.name, keywords=(*PATIENT_AND_STUDY, *IMAGE))
        new = copied(read, (*PATIENT_AND_STUDY, *IMAGE))
        for keyword in EMPTY_IF_UNKNOWN:
            if keyword not in new:
                setattr(new, keyword, "")
        if "FrameOfReferenceUID" not in new:
            new.FrameOfReferenceUID = generate_uid(prefix=None)
        found[frame.path] = new
    if len({one.FrameOfReferenceUID for one in found.values()}) > 1:
        shared = next(iter(found.values())).FrameOfReferenceUID
        for one in found.values():
            one.FrameOfReferenceUID = shared
    return list(found.values())
