#!/bin/sh
# nibabel 5.4.2: a map of real numbers is written with the header of the image that it was made from, as
# MGHImage(values, image.affine, image.header); FreeSurfer's own volumes (orig.mgz, T1.mgz, brain.mgz) are of 8 bits. The
# header's type decides, and MGH has no scale: every value is rounded to a whole number and clipped to the type's range, and NaN is
# 0. Of a probability two values are left, of a T1 map in ms one value. Nothing is raised or warned of. The same line with a NIfTI
# header keeps the numbers to the precision of a scale that nibabel finds, and with an Analyze header, which has no scale
# either, it is refused: WriterError. So what was tried on NIfTI is believed of .mgz. A NIfTI file of scaled integers that is
# saved as .mgz becomes float and keeps its numbers. image.header.set_data_dtype("float32"), or no header, is the remedy.
#
# Output seen (the values 0.1, 0.4, 0.6, 0.9 and 1; 650, 850, 1200, 3500 and 4000; and -0.4, NaN):
#   .mgz, header of uint8, probability: 0 0 1 1 1
#   .mgz, header of int16, probability: 0 0 1 1 1
#   .mgz, header of float32, probability: 0.1 0.4 0.6 0.9 1
#   .nii, header of uint8, probability: 0.1 0.4 0.6 0.9 1
#   .img, header of uint8, probability: WriterError
#   .mgz, header of uint8, T1 in ms: 255 255 255 255 255
#   .mgz, header of int16, T1 in ms: 650 850 1200 3500 4000
#   .nii, header of uint8, T1 in ms: 650 847.1 1202 3501 4000
#   .img, header of uint8, T1 in ms: WriterError
#   .mgz, header of uint8, -0.4 and NaN: 0 0
#   .nii of scaled uint8, saved as .mgz, probability: 0.1 0.4 0.6 0.9 1
#   warned: nothing
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/python" -m pip install --quiet --disable-pip-version-check nibabel==5.4.2 numpy==2.4.6
cat > "$work/look.py" <<'PY'
import sys
import warnings
from pathlib import Path

import nibabel
import numpy as np
from nibabel.arraywriters import WriterError

work = Path(sys.argv[1])
KINDS = {".mgz": nibabel.MGHImage, ".nii": nibabel.Nifti1Image, ".img": nibabel.AnalyzeImage}


def said(path: Path) -> str:
    return " ".join(f"{value:.4g}" if value > 5 else f"{value + 0:.2g}" for value in nibabel.load(path).get_fdata().ravel())


def kept(suffix: str, dtype: str, values: list[float]) -> str:
    """What is in a file of real numbers that is written with the header of an image of another type."""
    kind, path = KINDS[suffix], work / f"map{suffix}"
    image = kind(np.zeros((1, 1, len(values)), dtype), np.eye(4))
    try:
        nibabel.save(kind(np.array(values).reshape(image.shape), image.affine, image.header), path)
    except WriterError as error:
        return type(error).__name__
    return said(path)


PROBABILITY, T1_MS = [0.1, 0.4, 0.6, 0.9, 1.0], [650.0, 850.0, 1200.0, 3500.0, 4000.0]
with warnings.catch_warnings(record=True) as warned:
    warnings.simplefilter("always")
    for suffix, dtype in ((".mgz", "uint8"), (".mgz", "int16"), (".mgz", "float32"), (".nii", "uint8"), (".img", "uint8")):
        print(f"{suffix}, header of {dtype}, probability:", kept(suffix, dtype, PROBABILITY))
    for suffix, dtype in ((".mgz", "uint8"), (".mgz", "int16"), (".nii", "uint8"), (".img", "uint8")):
        print(f"{suffix}, header of {dtype}, T1 in ms:", kept(suffix, dtype, T1_MS))
    print(".mgz, header of uint8, -0.4 and NaN:", kept(".mgz", "uint8", [-0.4, float("nan")]))
    kept(".nii", "uint8", PROBABILITY)
    nibabel.save(nibabel.load(work / "map.nii"), work / "converted.mgz")
    print(".nii of scaled uint8, saved as .mgz, probability:", said(work / "converted.mgz"))
told = [str(one.message) for one in warned if "nibabel" in one.filename]
print("warned:", "; ".join(told) or "nothing")
PY
"$work/env/bin/python" "$work/look.py" "$work" > "$work/seen.txt"
cat "$work/seen.txt"
sed -n 's/^#   //p' "$0" > "$work/expected.txt"
cmp "$work/seen.txt" "$work/expected.txt"
