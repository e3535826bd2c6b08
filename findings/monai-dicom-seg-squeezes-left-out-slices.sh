#!/bin/sh
# MONAI 1.6.1: PydicomReader "is also able to load segmentations". Of a DICOM segmentation it takes each segment's frames in the order of
# the file as its slices, and the affine from the file's first and last frame. But empty frames may be left out, and writers leave
# them out (highdicom by default): a segment has frames where it has something. So two lesions at two heights come out in the same
# slices; their places and their volume are of a voxel that is as high as the way from one lesion to the other. And channels go by the
# segments' descriptions or labels, which need not differ: of two lesions that are both called "Lesion" the second one takes the first one's
# channel, the first is lost, and the other channel is empty. It is right of an object with all frames and a name for each
# segment. Lesions of unequal numbers of slices are a ValueError, so the mistake that shows is believed to be all. Nothing is warned of.
# That a mask has not its picture's slices is issue 7055 of its repository, of 2023 and open; it names neither the places nor the names.
# highdicom 0.28.2, to which its documentation points for the method, reads every frame where it says (get_volume).
#
# Output seen (lesions of four pixels of 1 mm and of slices of 4 mm; the heights in mm where each is, and its volume in mm^3):
#   all frames, highdicom: at 8 and 12, 32; at 28 and 32, 32
#   all frames, MONAI: at 8 and 12, 32; at 28 and 32, 32
#   two slices each, highdicom: at 8 and 12, 32; at 28 and 32, 32
#   two slices each, MONAI: at 12 and 28, 128; at 12 and 28, 128
#   one slice each, highdicom: at 8, 16; at 28, 16
#   one slice each, MONAI: at 8, 4; at 8, 4
#   all frames, one name, highdicom: at 8 and 12, 32; at 28 and 32, 32
#   all frames, one name, MONAI: at 28 and 32, 32; nothing
#   three slices and one, highdicom: at 8 and 12 and 16, 48; at 28, 16
#   three slices and one, MONAI: ValueError
#   warned: nothing
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/python" -m pip install --quiet --disable-pip-version-check \
    monai==1.6.1 torch==2.13.0 highdicom==0.28.2 pydicom==3.0.2 numpy==2.4.6
cat > "$work/look.py" <<'PY'
import sys
import warnings

import highdicom
import numpy as np
from highdicom.seg import Segmentation, SegmentDescription
from monai.data import PydicomReader
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

HEIGHTS = [4.0 * place for place in range(10)]
SIDE = 16


def slices() -> list[Dataset]:
    made = []
    for number, height in enumerate(HEIGHTS, 1):
        one = Dataset()
        one.SOPClassUID, one.SOPInstanceUID = MRImageStorage, f"2.25.10{number}"
        one.StudyInstanceUID, one.SeriesInstanceUID, one.FrameOfReferenceUID = "2.25.2", "2.25.3", "2.25.4"
        one.Modality, one.Manufacturer, one.SeriesNumber, one.InstanceNumber = "MR", "ACME", 1, number
        one.PatientName, one.PatientID, one.StudyID, one.StudyDate, one.StudyTime = "A^B", "1", "1", "20260101", "120000"
        one.PatientBirthDate = one.PatientSex = one.AccessionNumber = one.ReferringPhysicianName = ""
        one.ImagePositionPatient, one.ImageOrientationPatient = [0, 0, height], [1, 0, 0, 0, 1, 0]
        one.PixelSpacing, one.SliceThickness, one.PositionReferenceIndicator = [1, 1], 4, ""
        one.Rows = one.Columns = SIDE
        one.SamplesPerPixel, one.PhotometricInterpretation, one.PixelRepresentation = 1, "MONOCHROME2", 0
        one.BitsAllocated, one.BitsStored, one.HighBit = 16, 16, 15
        one.PixelData = np.full((SIDE, SIDE), 100, np.uint16).tobytes()
        one.file_meta = FileMetaDataset()
        one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        made.append(one)
    return made


def write(path: str, lesions: dict[str, tuple[int, ...]], names: list[str], without_empty: bool) -> None:
    mask = np.zeros((len(HEIGHTS), SIDE, SIDE, 2), np.uint8)
    for channel, places in enumerate(lesions.values()):
        corner = 4 + 6 * channel
        mask[list(places), corner : corner + 2, corner : corner + 2, channel] = 1
    said = [
        SegmentDescription(
            segment_number=number,
            segment_label=name,
            segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
            segmented_property_type=codes.SCT.Lesion,
            algorithm_type="MANUAL",
        )
        for number, name in enumerate(names, 1)
    ]
    Segmentation(
        source_images=slices(),
        pixel_array=mask,
        segmentation_type="BINARY",
        segment_descriptions=said,
        series_instance_uid="2.25.5",
        series_number=2,
        sop_instance_uid="2.25.6",
        instance_number=1,
        manufacturer="ACME",
        manufacturer_model_name="Station",
        software_versions="1",
        device_serial_number="1",
        omit_empty_frames=without_empty,
    ).save_as(path)


def describe(values: np.ndarray, affine: np.ndarray) -> str:
    """values: three axes and the channel."""
    parts = []
    voxel = abs(np.linalg.det(affine[:3, :3]))
    for channel in range(values.shape[-1]):
        inside = np.argwhere(values[..., channel])
        heights = sorted({round(float((affine @ [*one, 1])[2]), 2) for one in inside})
        parts.append(f"at {' and '.join(f'{height:g}' for height in heights)}, {len(inside) * voxel:g}" if len(inside) else "nothing")
    return "; ".join(parts)


def look(name: str, first: tuple[int, ...], second: tuple[int, ...], names: list[str], without_empty: bool = True) -> None:
    path = sys.argv[1]
    write(path, {"first": first, "second": second}, names, without_empty)
    volume = highdicom.seg.segread(path).get_volume(combine_segments=False)
    print(f"{name}, highdicom: {describe(volume.array, volume.affine)}")
    reader = PydicomReader()
    try:
        values, meta = reader.get_data(reader.read(path))
    except ValueError:
        print(f"{name}, MONAI: ValueError")
        return
    print(f"{name}, MONAI: {describe(values, np.asarray(meta['affine']))}")


with warnings.catch_warnings(record=True) as warned:
    warnings.simplefilter("always")
    look("all frames", (2, 3), (7, 8), ["Lesion 1", "Lesion 2"], without_empty=False)
    look("two slices each", (2, 3), (7, 8), ["Lesion 1", "Lesion 2"])
    look("one slice each", (2,), (7,), ["Lesion 1", "Lesion 2"])
    look("all frames, one name", (2, 3), (7, 8), ["Lesion", "Lesion"], without_empty=False)
    look("three slices and one", (2, 3, 4), (7,), ["Lesion 1", "Lesion 2"])
told = [str(one.message) for one in warned if "image_reader" in one.filename]
print("warned:", "; ".join(told) or "nothing")
PY
"$work/env/bin/python" "$work/look.py" "$work/seg.dcm" > "$work/seen.txt"
cat "$work/seen.txt"
sed -n 's/^#   //p' "$0" > "$work/expected.txt"
cmp "$work/seen.txt" "$work/expected.txt"
