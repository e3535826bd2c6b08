#!/bin/sh
# nibabel 5.4.2 (scipy 1.17.1): processing.smooth_image smooths in the type of the file. Its Gaussian goes along one axis after the other, and what
# each gives is cut to a whole number before the next one takes it. A mask of 0 and 1 in uint8, as masks are stored, is smoothed to 0
# everywhere, inside too, since a hair below 1 becomes 0. A map of percent loses a part wherever it is smooth, and a count of lesions, which is small, is
# gone. A T1 or T2 of some hundreds is too dark by 1 or 2 units, so nothing shows. A file with a scale, or of real numbers, is right, so what
# was tried on one map is believed of the next. The result has the mask's type, and looks like a patient without lesions. The docstring
# names fwhm, mode, cval and the class of the result, and no type; nothing is raised or warned of. nilearn 0.14.1 (smooth_img) calculates
# in real numbers. (Its smooth_array of unsigned arrays did the same as nibabel: issue 6440 of its repository, mended.) Remedy:
# nibabel.Nifti1Image(image.get_fdata(dtype="float32"), image.affine) beforehand, or nilearn's.
#
# Output seen (a ball of 20 mm in voxels of 1 mm, smoothed by 6 mm; the largest value, and the sum as a part of what it was):
#   a mask of 1, uint8: nibabel 0 and 0.00, nilearn 1.00 and 1.00
#   a mask of 1, float32: nibabel 1.00 and 1.00, nilearn 1.00 and 1.00
#   a mask of 0.5, uint8 with a scale in its file: nibabel 0.50 and 1.00, nilearn 0.50 and 1.00
#   a count of 3, int16: nibabel 0 and 0.00, nilearn 3.00 and 1.00
#   percent of 100, uint8: nibabel 100 and 0.97, nilearn 100.00 and 1.00
#   an image of 500, int16: nibabel 498 and 0.99, nilearn 500.00 and 1.00
#   warned: nothing
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/python" -m pip install --quiet --disable-pip-version-check nibabel==5.4.2 nilearn==0.14.1 scipy==1.17.1 numpy==2.4.6
cat > "$work/look.py" <<'PY'
import pathlib
import sys
import warnings

import nibabel
import numpy as np
from nibabel.processing import smooth_image
from nilearn.image import smooth_img

WORK = pathlib.Path(sys.argv[1])
GRID = np.indices((61, 61, 61)) - 30
BALL = (GRID**2).sum(axis=0) <= 20**2


def said(image, before):
    values = np.asanyarray(image.dataobj)
    top = str(values.max()) if values.dtype.kind in "ui" else f"{values.max():.2f}"
    return f"{top} and {values.sum(dtype=np.float64) / before:.2f}"


def look(name, value, dtype):
    file = WORK / "image.nii"
    # Of a fraction nibabel writes whole numbers with a scale.
    image = nibabel.Nifti1Image((BALL * value).astype(np.float32 if value < 1 else dtype), np.eye(4))
    image.header.set_data_dtype(dtype)
    nibabel.save(image, file)
    image = nibabel.load(file)
    before = image.get_fdata().sum()
    print(f"{name}: nibabel {said(smooth_image(image, 6), before)}, nilearn {said(smooth_img(image, 6), before)}")


with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    look("a mask of 1, uint8", 1, np.uint8)
    look("a mask of 1, float32", 1, np.float32)
    look("a mask of 0.5, uint8 with a scale in its file", 0.5, np.uint8)
    look("a count of 3, int16", 3, np.int16)
    look("percent of 100, uint8", 100, np.uint8)
    look("an image of 500, int16", 500, np.int16)
print("warned:", "; ".join(sorted({str(warning.message) for warning in caught})) or "nothing")
PY
OMP_NUM_THREADS=1 "$work/env/bin/python" "$work/look.py" "$work" > "$work/seen.txt" 2> "$work/errors.txt" || { cat "$work/errors.txt"; exit 1; }
cat "$work/seen.txt" "$work/errors.txt"
test ! -s "$work/errors.txt"
sed -n 's/^#   //p' "$0" > "$work/expected.txt"
cmp "$work/seen.txt" "$work/expected.txt"
