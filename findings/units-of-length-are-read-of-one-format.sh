#!/bin/sh
# SimpleITK 2.5.7, nibabel 5.4.2 and nilearn 0.14.1: a NIfTI header says in which unit its lengths are (xyzt_units: metres, millimetres, micrometres), and
# files of microscopes and of some writers are not in millimetres. SimpleITK converts such a file to millimetres, place and
# voxels. nibabel keeps the file's numbers, in affine and zooms, and does not look at the unit; nilearn, on top of it, takes them for millimetres: smoothing by 4 mm
# does nothing to a file in micrometres, and makes one flat value of all of a file in metres. The same ball has 0.5 cm^3 for one of
# two programs and a thousand million times as much for the other, and a mask that one wrote does not lie on the picture that the other reads. A new Nifti1Image
# from values and affine, as nibabel's users make one, loses the unit, and SimpleITK then takes micrometres for millimetres too. (2) Of NRRD,
# whose "space units" say the same, SimpleITK reads the numbers and no unit: what it converts of one format it does not of the other,
# and a file that was written in micrometres as NIfTI and as NRRD has two sizes. nibabel's documentation has of the affine that the result
# is in millimetres ("RAS+ mm"); SimpleITK's has nothing of units. Nothing is raised or warned of. That fmriprep's code takes millimetres is its issue 786, open
# since 2017, and a method of nibabel that converts waits in pull request 567. Remedy: get_xyzt_units() and "space units" before any number.
#
# Output seen (a ball of 0.5 cm^3; its volume in cm^3, and the value in its middle after smoothing by 4 mm, where 1 is untouched):
#   NIfTI in mm: nibabel 0.528, SimpleITK 0.528, nilearn's middle 0.964
#   NIfTI in micron: nibabel 528000000, SimpleITK 0.528, nilearn's middle 1.000
#   NIfTI in meter: nibabel 5.28e-10, SimpleITK 0.528, nilearn's middle 0.066
#   copy of the one in micron by Nifti1Image(values, affine): unit unknown, SimpleITK 528000000
#   NRRD in mm: SimpleITK 0.528
#   NRRD in um: SimpleITK 528000000
#   NRRD in m: SimpleITK 5.28e-10
#   warned: nothing
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/python" -m pip install --quiet --disable-pip-version-check SimpleITK==2.5.7 nibabel==5.4.2 nilearn==0.14.1 \
  pynrrd==1.1.3 numpy==2.4.6
cat > "$work/look.py" <<'PY'
import sys
import warnings
from pathlib import Path

import nibabel
import nrrd
import numpy as np
import SimpleITK as sitk

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from nilearn import image

work = Path(sys.argv[1])
places = np.indices((40, 40, 40)) - 19.5
ball = ((places**2).sum(axis=0) < 100).astype(np.float32)
VOXEL_MM = 0.5


def cubic_cm(spacing: tuple[float, ...]) -> str:
    volume = float(np.prod(spacing[:3])) * ball.sum() / 1000
    return f"{volume:.3g}" if volume < 1 else f"{round(volume, -4):.0f}"


def nifti(unit: str, per_mm: float) -> Path:
    affine = np.diag([VOXEL_MM * per_mm] * 3 + [1])
    affine[:3, 3] = -9.75 * per_mm
    picture = nibabel.Nifti1Image(ball, affine)
    picture.header.set_xyzt_units(unit)
    path = work / f"{unit}.nii"
    nibabel.save(picture, path)
    return path


with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    for unit, per_mm in (("mm", 1), ("micron", 1000), ("meter", 0.001)):
        path = nifti(unit, per_mm)
        picture = nibabel.load(path)
        smoothed = image.smooth_img(picture, fwhm=4).get_fdata()
        print(
            f"NIfTI in {unit}: nibabel {cubic_cm(picture.header.get_zooms())}, "
            f"SimpleITK {cubic_cm(sitk.ReadImage(path).GetSpacing())}, nilearn's middle {smoothed[20, 20, 20]:.3f}"
        )
    picture = nibabel.load(work / "micron.nii")
    copy = nibabel.Nifti1Image(picture.get_fdata(dtype=np.float32), picture.affine)
    nibabel.save(copy, work / "copy.nii")
    print(
        f"copy of the one in micron by Nifti1Image(values, affine): unit {copy.header.get_xyzt_units()[0]}, "
        f"SimpleITK {cubic_cm(sitk.ReadImage(work / 'copy.nii').GetSpacing())}"
    )
    for unit, per_mm in (("mm", 1), ("um", 1000), ("m", 0.001)):
        header = {
            "space": "left-posterior-superior",
            "space directions": np.diag([VOXEL_MM * per_mm] * 3),
            "space origin": np.full(3, -9.75 * per_mm),
            "space units": [unit] * 3,
        }
        nrrd.write(str(work / f"{unit}.nrrd"), ball, header)
        print(f"NRRD in {unit}: SimpleITK {cubic_cm(sitk.ReadImage(work / f'{unit}.nrrd').GetSpacing())}")
print("warned:", "; ".join(sorted({str(one.message)[:60] for one in told})) or "nothing")
PY
"$work/env/bin/python" "$work/look.py" "$work" > "$work/seen.txt" 2> "$work/errors.txt" || { cat "$work/errors.txt"; exit 1; }
if [ -s "$work/errors.txt" ]; then cat "$work/errors.txt"; fi
cat "$work/seen.txt"
sed -n 's/^#   //p' "$0" > "$work/expected.txt"
cmp "$work/seen.txt" "$work/expected.txt"
