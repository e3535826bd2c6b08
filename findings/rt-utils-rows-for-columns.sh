#!/bin/sh
# rt-utils 1.2.7 takes rows for columns twice, and radiotherapy's square CT hides both; MR is often neither square nor of square
# pixels. (1) A structure set is read into a mask of Columns x Rows, where a series has Rows x Columns: what lies beyond the shorter
# side is cut off. With more columns than rows that is the right part of the picture: a lesion there is half a lesion or none.
# (2) It multiplies the column number by PixelSpacing's first value, which is the distance of rows (PS3.3 10.7.1.3), and the row
# number by the second: a contour that it writes lies in another place, and stretched. Reading makes the same mistake
# backwards, so what rt-utils writes it reads as it was, and a test by round trip passes; a planning system or SimpleITK
# sees the contour beside the lesion, or outside the picture. Nothing is raised or warned of. (2) is its issue 92, open since
# 2023; the readme names neither. Remedies: the mask by another reader, and a series resampled to square pixels.
#
# Output seen (a lesion of 4 x 4 voxels, which starts at row 3 and the column said; SimpleITK 2.5.7 says where the contour lies):
#   20 x 20, pixels of 1 x 1 mm, column 14: contour at rows 3 to 6, columns 14 to 17; read back (20, 20), 16 voxels
#   20 x 20, rows 2 mm apart, column 14: contour at rows 1.5 to 3, columns 28 to 34; read back (20, 20), 16 voxels
#   12 x 24, pixels of 1 x 1 mm, column 4: contour at rows 3 to 6, columns 4 to 7; read back (24, 12), 16 voxels
#   12 x 24, pixels of 1 x 1 mm, column 10: contour at rows 3 to 6, columns 10 to 13; read back (24, 12), 8 voxels
#   12 x 24, pixels of 1 x 1 mm, column 14: contour at rows 3 to 6, columns 14 to 17; read back (24, 12), 0 voxels
#   warned: nothing
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/python" -m pip install --quiet --disable-pip-version-check \
  rt-utils==1.2.7 opencv-python==5.0.0.93 pydicom==3.0.2 SimpleITK==2.5.7 numpy==2.4.6
cat > "$work/look.py" <<'PY'
import contextlib
import io
import sys
import warnings
from pathlib import Path

import numpy as np
import SimpleITK
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian
from rt_utils import RTStructBuilder


def written(folder: Path, rows: int, columns: int, spacing: list[float]) -> None:
    """A series of three slices; spacing: of rows, then of columns, in mm."""
    folder.mkdir(parents=True)
    for place in range(3):
        one = Dataset()
        one.SOPClassUID, one.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.4", f"2.25.1{place}"
        one.StudyInstanceUID, one.SeriesInstanceUID, one.FrameOfReferenceUID = "2.25.2", "2.25.3", "2.25.4"
        one.PatientName, one.PatientID, one.PatientBirthDate, one.PatientSex = "Phantom^One", "1", "", "O"
        one.StudyID, one.StudyDate, one.StudyTime, one.StudyDescription = "1", "20260101", "120000", ""
        one.AccessionNumber, one.ReferringPhysicianName = "", ""
        one.Modality, one.SeriesNumber, one.InstanceNumber = "MR", 1, place + 1
        one.ImagePositionPatient, one.ImageOrientationPatient = [0, 0, 3 * place], [1, 0, 0, 0, 1, 0]
        one.PixelSpacing, one.SliceThickness, one.Rows, one.Columns = spacing, 3, rows, columns
        one.SamplesPerPixel, one.PhotometricInterpretation, one.PixelRepresentation = 1, "MONOCHROME2", 0
        one.BitsAllocated, one.BitsStored, one.HighBit = 16, 16, 15
        one.PixelData = np.zeros((rows, columns), np.uint16).tobytes()
        one.file_meta = FileMetaDataset()
        one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        one.save_as(folder / f"{place}.dcm", enforce_file_format=True)


def voxels_of(contour: list[float], folder: Path) -> np.ndarray:
    """(points, 2): the contour's columns and rows, as SimpleITK has the series in space."""
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    image = reader.Execute()
    points = np.reshape(np.asarray(contour, float), (-1, 3))
    return np.array([image.TransformPhysicalPointToContinuousIndex(point.tolist())[:2] for point in points])


def seen(folder: Path, rows: int, columns: int, spacing: list[float], column: int) -> str:
    written(folder, rows, columns, spacing)
    mask = np.zeros((rows, columns, 3), bool)
    mask[3:7, column : column + 4, 1] = True
    path = str(folder.with_suffix(".dcm"))
    with contextlib.redirect_stdout(io.StringIO()):
        made = RTStructBuilder.create_new(str(folder))
        made.add_roi(mask, name="lesion")
        made.save(path)
        back = RTStructBuilder.create_from(str(folder), path).get_roi_mask_by_name("lesion")
    found = voxels_of(made.ds.ROIContourSequence[0].ContourSequence[0].ContourData, folder)
    (left, top), (right, bottom) = found.min(0), found.max(0)
    where = f"contour at rows {top:g} to {bottom:g}, columns {left:g} to {right:g}"
    return f"{where}; read back {back.shape[:2]}, {back.sum()} voxels"


CASES = {
    "20 x 20, pixels of 1 x 1 mm, column 14": (20, 20, [1, 1], 14),
    "20 x 20, rows 2 mm apart, column 14": (20, 20, [2, 1], 14),
    "12 x 24, pixels of 1 x 1 mm, column 4": (12, 24, [1, 1], 4),
    "12 x 24, pixels of 1 x 1 mm, column 10": (12, 24, [1, 1], 10),
    "12 x 24, pixels of 1 x 1 mm, column 14": (12, 24, [1, 1], 14),
}
with warnings.catch_warnings(record=True) as warned:
    warnings.simplefilter("always")
    for number, (name, case) in enumerate(CASES.items()):
        print(f"{name}:", seen(Path(sys.argv[1]) / str(number), *case))
told = [str(one.message) for one in warned if "rt_utils" in one.filename]
print("warned:", "; ".join(told) or "nothing")
PY
"$work/env/bin/python" "$work/look.py" "$work" > "$work/seen.txt"
cat "$work/seen.txt"
sed -n 's/^#   //p' "$0" > "$work/expected.txt"
cmp "$work/seen.txt" "$work/expected.txt"
