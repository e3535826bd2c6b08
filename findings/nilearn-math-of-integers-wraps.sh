#!/bin/sh
# nilearn 0.14.1: math_img calculates in the dtype of the files. Its documentation says "This function is the Python equivalent of
# ImCal in SPM or fslmaths in FSL", which calculate in real numbers, and nibabel's get_fdata gives those too. Of two scans in
# uint16 the difference is 65516 where it should be -20, and its absolute value is that as well. Of real and imaginary parts in
# int16, as scanners store them, the magnitude np.sqrt(a**2 + b**2) is another number or NaN as soon as a value is above
# 181. A file whose header has a scale is real numbers, so the same formula is right for one series and wrong for the next, and
# mean_img, beside it, is right for all. What is wrong is saved as it is. nilearn warns of nothing, and numpy is silent of
# integers. astype(float) in the formula is the remedy.
#
# Output seen (a and b in every voxel):
#   uint16, a - b of 500 and 520: 65516
#   uint16, np.abs(a - b) of 500 and 520: 65516
#   uint16, a.astype(float) - b of 500 and 520: -20
#   int16, a - b of 500 and 520: -20
#   int16, np.sqrt(a**2 + b**2) of 300 and 50: 164.2
#   int16, np.sqrt(a**2 + b**2) of 300 and 400: nan
#   float32, np.sqrt(a**2 + b**2) of 300 and 50: 304.1
#   float32, np.sqrt(a**2 + b**2) of 300 and 400: 500
#   uint16 files with a scale of 0.5 in the header, a - b of 250 and 260: -10
#   uint16, a - b, saved and read by nibabel: 65516
#   uint16, mean_img: 510
#   warned by nilearn: nothing
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/python" -m pip install --quiet --disable-pip-version-check nilearn==0.14.1 nibabel==5.4.2 numpy==2.4.6 scipy==1.17.1
cat > "$work/look.py" <<'PY'
import sys
import warnings
from pathlib import Path

import nibabel
import numpy as np
from nilearn.image import math_img, mean_img

work = Path(sys.argv[1])


def scan(value: float, dtype: str) -> nibabel.Nifti1Image:
    return nibabel.Nifti1Image(np.full((4, 4, 4), value, dtype), np.eye(4))


def one(image: nibabel.Nifti1Image) -> str:
    return f"{np.round(float(np.asanyarray(image.dataobj)[0, 0, 0]), 1):g}"


def calculated(formula: str, dtype: str, a: float, b: float) -> None:
    result = math_img(formula, a=scan(a, dtype), b=scan(b, dtype))
    print(f"{dtype}, {formula} of {a:g} and {b:g}: {one(result)}")


DIFFERENCE, MAGNITUDE = "a - b", "np.sqrt(a**2 + b**2)"
with warnings.catch_warnings(record=True) as warned, np.errstate(invalid="ignore"):
    warnings.simplefilter("always")
    for formula, dtype in (
        (DIFFERENCE, "uint16"),
        ("np.abs(a - b)", "uint16"),
        ("a.astype(float) - b", "uint16"),
        (DIFFERENCE, "int16"),
    ):
        calculated(formula, dtype, 500, 520)
    for dtype in ("int16", "float32"):
        calculated(MAGNITUDE, dtype, 300, 50)
        calculated(MAGNITUDE, dtype, 300, 400)
    for name, value in (("a", 500), ("b", 520)):
        nibabel.save(scan(value, "uint16"), work / f"{name}.nii")
        content = bytearray((work / f"{name}.nii").read_bytes())
        content[112:116] = np.float32(0.5).tobytes()  # scl_slope of nifti1.h
        (work / f"{name}.nii").write_bytes(content)
    difference = one(math_img(DIFFERENCE, a=str(work / "a.nii"), b=str(work / "b.nii")))
    print(f"uint16 files with a scale of 0.5 in the header, {DIFFERENCE} of 250 and 260: {difference}")
    math_img(DIFFERENCE, a=scan(500, "uint16"), b=scan(520, "uint16")).to_filename(work / "difference.nii")
    print(f"uint16, {DIFFERENCE}, saved and read by nibabel: {one(nibabel.load(work / 'difference.nii'))}")
    print(f"uint16, mean_img: {one(mean_img([scan(500, 'uint16'), scan(520, 'uint16')]))}")
told = [str(each.message) for each in warned if "nilearn" in each.filename or "math_img" in str(each.message)]
print("warned by nilearn:", "; ".join(told) or "nothing")
PY
"$work/env/bin/python" "$work/look.py" "$work" > "$work/seen.txt"
cat "$work/seen.txt"
sed -n 's/^#   //p' "$0" > "$work/expected.txt"
cmp "$work/seen.txt" "$work/expected.txt"
