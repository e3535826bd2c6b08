#!/bin/sh
# SimpleITK 2.5.7 (ITK 5.4): a MINC file (.mnc) is read and written with DICOM's axes, towards the patient's left and back, under
# names that mean right and front. The file that it writes says so itself: xspace has the comment "X increases from patient left to
# right", and the numbers beside it increase to the left. So a picture from or for MINC's own tools, or nibabel, is turned by half
# a circle about the long axis: left is right and front is back, and what lies beside the middle lands on the other side of it. A
# conversion .mnc to .nii, or back, lays the patient there. SimpleITK reads what it wrote as it was, so a round trip passes, and a
# head that is alone in the file looks right in a viewer of voxels. Nothing is raised or warned of. A repair is merged
# in ITK's repository (pull request 4864): with a later version the same file may lie elsewhere.
#
# Output seen (a marker 40 mm to the left and 20 mm in front of the origin):
#   as given to SimpleITK: 40 mm left, 20 mm front
#   .nii by SimpleITK, nibabel: 40 mm left, 20 mm front
#   .mnc by SimpleITK, its xspace: X increases from patient left to right
#   .mnc by SimpleITK, its yspace: Y increases from patient posterior to anterior
#   .mnc by SimpleITK, nibabel: 40 mm right, 20 mm back
#   .mnc by SimpleITK, SimpleITK: 40 mm left, 20 mm front
#   .mnc to .nii by SimpleITK, nibabel: 40 mm left, 20 mm front
#   warned: nothing
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/python" -m pip install --quiet --disable-pip-version-check \
  SimpleITK==2.5.7 nibabel==5.4.2 h5py==3.16.0 numpy==2.4.6
cat > "$work/look.py" <<'PY'
import sys
import warnings
from pathlib import Path

import h5py
import nibabel
import numpy as np
import SimpleITK

work = Path(sys.argv[1])


def said(left: float, back: float) -> str:
    side, end = "left" if left > 0 else "right", "back" if back > 0 else "front"
    return f"{abs(left):.0f} mm {side}, {abs(back):.0f} mm {end}"


def by_simpleitk(image: SimpleITK.Image) -> str:
    values = SimpleITK.GetArrayFromImage(image)
    marker = np.unravel_index(values.argmax(), values.shape)
    return said(*image.TransformIndexToPhysicalPoint([int(index) for index in marker[::-1]])[:2])


def by_nibabel(path: Path) -> str:
    image = nibabel.load(path)
    values = np.asarray(image.dataobj)
    marker = np.unravel_index(values.argmax(), values.shape)
    right, front, _ = (image.affine @ [*marker, 1])[:3]
    return said(-right, -front)


with warnings.catch_warnings(record=True) as warned:
    warnings.simplefilter("always")
    values = np.zeros((4, 60, 60), np.float32)
    values[1, 5, 50] = 1000  # slice, row, column
    image = SimpleITK.GetImageFromArray(values)
    image.SetSpacing((2, 2, 3))
    image.SetOrigin((-60, -30, 0))
    print("as given to SimpleITK:", by_simpleitk(image))
    for suffix in ("nii", "mnc"):
        SimpleITK.WriteImage(image, work / f"itk.{suffix}")
    print(".nii by SimpleITK, nibabel:", by_nibabel(work / "itk.nii"))
    with h5py.File(work / "itk.mnc") as file:
        for name in ("xspace", "yspace"):
            print(f".mnc by SimpleITK, its {name}:", file[f"minc-2.0/dimensions/{name}"].attrs["comments"].decode())
    print(".mnc by SimpleITK, nibabel:", by_nibabel(work / "itk.mnc"))
    again = SimpleITK.ReadImage(work / "itk.mnc")
    print(".mnc by SimpleITK, SimpleITK:", by_simpleitk(again))
    SimpleITK.WriteImage(again, work / "again.nii")
    print(".mnc to .nii by SimpleITK, nibabel:", by_nibabel(work / "again.nii"))
told = [str(one.message) for one in warned if "SimpleITK" in one.filename or "nibabel" in one.filename]
print("warned:", "; ".join(told) or "nothing")
PY
"$work/env/bin/python" "$work/look.py" "$work" > "$work/seen.txt"
cat "$work/seen.txt"
sed -n 's/^#   //p' "$0" > "$work/expected.txt"
cmp "$work/seen.txt" "$work/expected.txt"
