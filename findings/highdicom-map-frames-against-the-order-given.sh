#!/bin/sh
# highdicom 0.28.2: a ParametricMap or Segmentation does not keep its frames in the order of `pixel_array` and
# `plane_positions`. It sorts them along the vector rows x columns; an image's normal, along which series are mostly sorted,
# is columns x rows. So a map of a series that is given from its first slice to its last holds the last one first. Each frame
# keeps its own position and nothing is lost; but frame n of the map is not slice n of its source, and `pixel_array` of the
# file is not the array that was given: who lays both beside each other by number has the patient upside down. Given the
# other way round the file is the same. Nothing is warned of. The user guide asks that the array's frames match the order of
# the source images (docs/pm.rst, "ensure that the order of frames down the first dimension of the pixel array matches the
# order of"), and names none for the file. `get_volume` sorts the same way, so highdicom agrees with itself.
#
# Output seen (slices at 0, 5, 10 and 15 mm along the normal; the map holds these numbers, the segmentation the first slice):
#   map given upwards: at 15 mm 15, at 10 mm 10, at 5 mm 5, at 0 mm 0
#   map given downwards: at 15 mm 15, at 10 mm 10, at 5 mm 5, at 0 mm 0
#   segmentation given upwards: at 15 mm 0, at 10 mm 0, at 5 mm 0, at 0 mm 1
#   pixel_array of the file is what was given: False
#   warnings: none
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/python" -m pip install --quiet --disable-pip-version-check highdicom==0.28.2 pydicom==3.0.2 numpy==2.4.6
"$work/env/bin/python" - "$work" > "$work/seen.txt" <<'PY'
import sys
import warnings
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid

work = Path(sys.argv[1])
HEIGHTS = [0, 5, 10, 15]
AXIAL = [1, 0, 0, 0, 1, 0]


def slice_at(height: int) -> Dataset:
    one = Dataset()
    one.SOPClassUID, one.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.4", f"2.25.1{height}"
    one.StudyInstanceUID, one.SeriesInstanceUID, one.FrameOfReferenceUID = "2.25.2", "2.25.3", "2.25.4"
    one.Modality, one.PatientID, one.SeriesNumber, one.InstanceNumber = "MR", "P1", 1, height // 5 + 1
    one.PatientName = one.PatientBirthDate = one.PatientSex = one.StudyDate = one.StudyTime = one.StudyID = ""
    one.AccessionNumber = one.ReferringPhysicianName = one.PositionReferenceIndicator = one.Manufacturer = ""
    one.ImagePositionPatient, one.ImageOrientationPatient = [0, 0, height], AXIAL
    one.PixelSpacing, one.SliceThickness, one.Rows, one.Columns = [1, 1], 5, 8, 8
    return one


def written(heights: list[int], *, segments: bool = False) -> pydicom.Dataset:
    sources = [slice_at(height) for height in heights]
    facts = {
        "source_images": sources, "series_instance_uid": generate_uid(), "series_number": 2, "instance_number": 1,
        "sop_instance_uid": generate_uid(), "manufacturer": "a", "manufacturer_model_name": "b", "software_versions": "1",
        "device_serial_number": "1",
        "plane_positions": [hd.PlanePositionSequence("PATIENT", [0, 0, height]) for height in heights],
    }  # fmt: skip
    array = np.array(heights, np.float32)[:, None, None] + np.zeros((1, 8, 8), np.float32)
    if segments:
        body = hd.seg.SegmentDescription(
            segment_number=1, segment_label="body", segmented_property_category=codes.SCT.Tissue,
            segmented_property_type=codes.SCT.Tissue, algorithm_type=hd.seg.SegmentAlgorithmTypeValues.MANUAL,
        )  # fmt: skip
        made = hd.seg.Segmentation(
            pixel_array=(array == 0).astype(np.uint8), segmentation_type="BINARY", segment_descriptions=[body],
            omit_empty_frames=False, **facts,
        )  # fmt: skip
    else:
        mapping = hd.pm.RealWorldValueMapping(
            lut_label="A", lut_explanation="b", unit=codes.UCUM.NoUnits, value_range=(0.0, 15.0), slope=1.0, intercept=0.0
        )
        made = hd.pm.ParametricMap(
            pixel_array=array, contains_recognizable_visual_features=False, real_world_value_mappings=[mapping],
            voi_lut_transformations=[hd.VOILUTTransformation(window_center=7, window_width=15)], **facts,
        )  # fmt: skip
    made.save_as(work / "one.dcm")
    return pydicom.dcmread(work / "one.dcm")


def frames_of(read: pydicom.Dataset) -> str:
    items = zip(read.PerFrameFunctionalGroupsSequence, read.pixel_array, strict=True)
    return ", ".join(f"at {item.PlanePositionSequence[0].ImagePositionPatient[2]:g} mm {frame[0, 0]:g}" for item, frame in items)


with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    upwards = written(HEIGHTS)
print("map given upwards:", frames_of(upwards))
print("map given downwards:", frames_of(written(HEIGHTS[::-1])))
print("segmentation given upwards:", frames_of(written(HEIGHTS, segments=True)))
print("pixel_array of the file is what was given:", bool((upwards.pixel_array[:, 0, 0] == HEIGHTS).all()))
print("warnings:", "none" if not caught else [str(one.message) for one in caught])
PY
cat "$work/seen.txt"
grep -q '^map given upwards: at 15 mm 15, at 10 mm 10, at 5 mm 5, at 0 mm 0$' "$work/seen.txt"
grep -q '^map given downwards: at 15 mm 15, at 10 mm 10, at 5 mm 5, at 0 mm 0$' "$work/seen.txt"
grep -q '^segmentation given upwards: at 15 mm 0, at 10 mm 0, at 5 mm 0, at 0 mm 1$' "$work/seen.txt"
grep -q '^pixel_array of the file is what was given: False$' "$work/seen.txt"
grep -q '^warnings: none$' "$work/seen.txt"
