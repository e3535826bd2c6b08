#!/bin/sh
# nii2dcm 0.1.6: the DICOM series that it makes of a NIfTI file lies in another place than the file. (1) Places go from NIfTI, where
# right and front are positive, to DICOM, where left and back are, without their signs: along both axes the picture moves by twice
# the first voxel's offset, which is about the whole field of view. (2) Every slice gets the place of the one before it. (3) Directions
# are turned round in all three parts, and the third, towards the head, is the same in both: a sagittal picture stands on its head, and
# its left is its right. (4) Values are cut to whole numbers of uint16 with a slope of 1: of a T1 in seconds 0 and 1 are left. A head
# that is alone in a viewer of slices looks right if it is axial. Beside the scan that it was made from ("-r" gives it that one's study
# and frame of reference) it lies next to the patient. Nothing is raised or warned of but types of values. That pictures are flipped is issue 43 of its
# repository, open since 2024; the repair proposed there since (pull request 59, open) turns the file to right, front, top first, and
# (1) and (2) stay. SimpleITK 2.5.7 reads both files here; what it says of the NIfTI file is what its affine says. It is the same with the
# versions that nii2dcm pins (pydicom 2.3.0, nibabel 5.0.0, numpy 1.23.2), which later Pythons do not have.
#
# Output seen (a bright voxel, in mm from the origin):
#   axial: NIfTI 12 left, 10 front, 15 below; DICOM 68 right, 110 front, 20 below
#   axial as of dcm2niix: NIfTI 12 right, 10 front, 15 below; DICOM 68 left, 110 front, 20 below
#   sagittal: NIfTI 10 left, 12 back, 10 above; DICOM 15 right, 68 front, 110 below
#   0.75 and 1.3: 0 1
#   warned: of types of values alone
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/python" -m pip install --quiet --disable-pip-version-check pydicom==2.4.4 nibabel==5.4.2 numpy==2.3.5 SimpleITK==2.5.7
"$work/env/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps nii2dcm==0.1.6
cat > "$work/look.py" <<'PY'
import sys
import warnings
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import nibabel
import numpy as np
import SimpleITK as sitk
from nii2dcm.run import run_nii2dcm

work = Path(sys.argv[1])
MARKER = (14, 30, 3)
# Columns: the steps of the three voxel axes in mm, then the place of the first voxel; right, front and top are positive.
AXIAL = np.array([[2, 0, 0, -40], [0, 2, 0, -50], [0, 0, 5, -30], [0, 0, 0, 1]], float)
AXIAL_OF_DCM2NIIX = np.array([[-2, 0, 0, 40], [0, 2, 0, -50], [0, 0, 5, -30], [0, 0, 0, 1]], float)
SAGITTAL = np.array([[0, 0, 5, -25], [2, 0, 0, -40], [0, 2, 0, -50], [0, 0, 0, 1]], float)


def told(place):
    sides = (("left", "right"), ("back", "front"), ("below", "above"))
    return ", ".join(f"{abs(mm):g} {names[int(mm > 0)]}" for mm, names in zip(place, sides, strict=True))


def by_itk(folder):
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    image = reader.Execute()
    values = sitk.GetArrayFromImage(image)
    index = [int(number) for number in np.unravel_index(values.argmax(), values.shape)][::-1]
    place = np.array(image.TransformIndexToPhysicalPoint(index)) * (-1, -1, 1)
    return place, values


def converted(name, affine, values):
    path, folder = work / f"{name}.nii", work / name
    image = nibabel.Nifti1Image(values, affine)
    image.set_sform(affine, 1)
    image.set_qform(affine, 1)
    nibabel.save(image, path)
    folder.mkdir()
    with redirect_stdout(StringIO()):
        run_nii2dcm(path, folder, "MR", None)
    return path, folder


with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    for name, affine in (("axial", AXIAL), ("axial as of dcm2niix", AXIAL_OF_DCM2NIIX), ("sagittal", SAGITTAL)):
        values = np.full((40, 50, 8), 100, np.int16)
        values[MARKER] = 500
        path, folder = converted(name.replace(" ", "-"), affine, values)
        nifti = sitk.ReadImage(str(path))
        right = np.array(nifti.TransformIndexToPhysicalPoint(MARKER)) * (-1, -1, 1)
        print(f"{name}: NIfTI {told(right.round(2))}; DICOM {told(by_itk(folder)[0].round(2))}")
    values = np.full((40, 50, 8), 0.75, np.float32)
    values[MARKER] = 1.3
    _, folder = converted("seconds", AXIAL, values)
    print("0.75 and 1.3:", *np.unique(by_itk(folder)[1]))
others = sorted({str(one.message) for one in said if "cannot be assigned to a tag with VR" not in str(one.message)})
print("warned:", "; ".join(others) or "of types of values alone")
PY
"$work/env/bin/python" "$work/look.py" "$work" > "$work/seen.txt" 2> "$work/log.txt"
cat "$work/seen.txt" "$work/log.txt"
cat > "$work/expected.txt" <<'TXT'
axial: NIfTI 12 left, 10 front, 15 below; DICOM 68 right, 110 front, 20 below
axial as of dcm2niix: NIfTI 12 right, 10 front, 15 below; DICOM 68 left, 110 front, 20 below
sagittal: NIfTI 10 left, 12 back, 10 above; DICOM 15 right, 68 front, 110 below
0.75 and 1.3: 0 1
warned: of types of values alone
TXT
cmp "$work/expected.txt" "$work/seen.txt"
