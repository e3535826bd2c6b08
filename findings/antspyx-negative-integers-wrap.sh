#!/bin/sh
# antspyx 0.6.3: ants.from_numpy takes an array of any dtype, and makes the best of one that it has no pixel type for: signed
# integers of every width, which are most of what scanners store, become unsigned of 32 bits. A value below 0 wraps to the top of
# the range: -1 is 4294967295, and air in CT (-1000) is brighter than bone. Values of 0 and above are right, so
# magnitude images pass and a phase image, a field map, a difference of two scans or a CT does not. Everything after it takes the
# values as they are: means, masks, metrics, resampling and the NIfTI file that is written. Nothing is raised, warned of or printed,
# and the docstring says of the argument "image data array". The same values from a file, by image_read, or as float are right: .astype("float32")
# before the call is the remedy.
#
# Output seen (the values -4096, -1, 0 and 4094, two voxels of each):
#   from_numpy, int8 (-1 and 0 alone): unsigned int, 4294967295 0
#   from_numpy, int16: unsigned int, 4294963200 4294967295 0 4094
#   from_numpy, int32: unsigned int, 4294963200 4294967295 0 4094
#   from_numpy, int64: unsigned int, 4294963200 4294967295 0 4094
#   from_numpy, float32: float, -4096 -1 0 4094
#   from_numpy_like a float image, int16: unsigned int, 4294963200 4294967295 0 4094
#   mean of the int16 image: 2147483647, of the values -0.75
#   written and read by nibabel, int16: uint32, 4294963200 4294967295 0 4094
#   the values in a NIfTI file of int16, image_read: float, -4096 -1 0 4094
#   warned: nothing
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/python" -m pip install --quiet --disable-pip-version-check antspyx==0.6.3 nibabel==5.4.2 numpy==2.3.5
cat > "$work/look.py" <<'PY'
import sys
import warnings
from pathlib import Path

import ants
import nibabel
import numpy as np

work = Path(sys.argv[1])
VALUES = np.array([[[-4096, -1], [0, 4094]]] * 2, np.int16)


def said(values: np.ndarray) -> str:
    return " ".join(f"{value:.0f}" for value in values.reshape(-1)[:4])


with warnings.catch_warnings(record=True) as warned:
    warnings.simplefilter("always")
    small = ants.from_numpy(np.array([[[-1, 0]]], np.int8))
    print(f"from_numpy, int8 (-1 and 0 alone): {small.pixeltype}, {said(small.numpy())}")
    for dtype in ("int16", "int32", "int64", "float32"):
        image = ants.from_numpy(VALUES.astype(dtype))
        print(f"from_numpy, {dtype}: {image.pixeltype}, {said(image.numpy())}")
    like = ants.from_numpy_like(VALUES, image)
    print(f"from_numpy_like a float image, int16: {like.pixeltype}, {said(like.numpy())}")
    image = ants.from_numpy(VALUES)
    print(f"mean of the int16 image: {image.mean():.0f}, of the values {VALUES.mean():g}")
    image.to_filename(str(work / "ants.nii"))
    written = nibabel.load(work / "ants.nii")
    print(f"written and read by nibabel, int16: {written.get_data_dtype()}, {said(np.asarray(written.dataobj))}")
    nibabel.save(nibabel.Nifti1Image(VALUES, np.eye(4)), work / "stored.nii")
    read = ants.image_read(str(work / "stored.nii"))
    print(f"the values in a NIfTI file of int16, image_read: {read.pixeltype}, {said(read.numpy())}")
told = [str(one.message) for one in warned if "ants" in one.filename]
print("warned:", "; ".join(told) or "nothing")
PY
"$work/env/bin/python" "$work/look.py" "$work" > "$work/seen.txt"
cat "$work/seen.txt"
sed -n 's/^#   //p' "$0" > "$work/expected.txt"
cmp "$work/seen.txt" "$work/expected.txt"
