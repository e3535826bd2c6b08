#!/bin/sh
# nilearn 0.14.1: image.swap_img_hemispheres ("Perform swapping of hemispheres", "Use case: synchronizing ROIs across hemispheres") turns the order of the
# voxels round along x and keeps the affine. The mirror is thus the middle of the image's box, and not the midline of the patient or of a
# template, which is x = 0. Where the box is as wide to the left as to the right, as of FSL's and nilearn's own templates, both are one. Of a box that
# was cropped (crop_img), of one that resampling made by an image's own size, and of every scan as it came, they are apart, and the swapped region lies
# twice that distance aside: a lesion 20 mm to the right comes out 2 mm to the left, in the midline, in place of 20 mm. The mirrored
# region's mean, the asymmetry, is then one of other tissue. A voxel that the box has a side more of (an even number of voxels, 2 mm) is enough for 2 mm.
# A tilted image is refused, so what passes is believed. The documentation has "Assumes that the image is sagitally
# aligned" and "this does not require a change of the affine matrix"; of the middle nothing. Nothing is raised or warned of. Remedy: to
# resample onto a box from -x to x first, or to change the sign of the affine's first row and leave the voxels.
#
# Output seen (a point of an image; x, y and z in mm, to the right, front and top):
#   box from -98 to 98 mm: 20 0 0 becomes -20 0 0
#   the same cropped to -60 to 78 mm: 20 0 0 becomes -2 0 0
#   the same cropped by crop_img to the head, which is wider to the right: 20 0 0 becomes -14 0 0
#   box from -98 to 96 mm: 20 0 0 becomes -22 0 0
#   cropped to -60 to 78 mm, first row's sign changed: 20 0 0 becomes -20 0 0
#   cropped to -60 to 78 mm, resampled onto -98 to 98 mm and swapped: 20 0 0 becomes -20 0 0
#   warned: nothing
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/python" -m pip install --quiet --disable-pip-version-check nilearn==0.14.1 nibabel==5.4.2 scipy==1.17.1 numpy==2.4.6
cat > "$work/look.py" <<'PY'
import warnings

import nibabel
import numpy as np
from nilearn import image


def scan(first, last):
    """A head of 1 from -70 to 76 mm along x, in a box from `first` to `last`, with a point of 9 at 20 mm to the right."""
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = first, -40, -40
    places = np.arange(first, last + 1, 2)
    values = np.zeros((places.size, 41, 41), dtype=np.float32)
    values[(places >= -70) & (places <= 76), 5:-5, 5:-5] = 1
    values[list(places).index(20), 20, 20] = 9
    return nibabel.Nifti1Image(values, affine)


def point(picture):
    where = np.unravel_index(np.argmax(picture.get_fdata()), picture.shape)
    return " ".join(f"{place:.0f}" for place in np.round(nibabel.affines.apply_affine(picture.affine, where)) + 0.0)


def look(name, before, after):
    print(f"{name}: {point(before)} becomes {point(after)}")


with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    whole, cut = scan(-98, 98), scan(-60, 78)
    look("box from -98 to 98 mm", whole, image.swap_img_hemispheres(whole))
    look("the same cropped to -60 to 78 mm", cut, image.swap_img_hemispheres(cut))
    cropped = image.crop_img(whole, copy_header=True)
    look("the same cropped by crop_img to the head, which is wider to the right", cropped, image.swap_img_hemispheres(cropped))
    uneven = scan(-98, 96)
    look("box from -98 to 96 mm", uneven, image.swap_img_hemispheres(uneven))
    mirror = np.diag([-1.0, 1.0, 1.0, 1.0])
    look("cropped to -60 to 78 mm, first row's sign changed", cut, nibabel.Nifti1Image(cut.get_fdata(), mirror @ cut.affine))
    onto = image.resample_to_img(cut, whole, interpolation="nearest", force_resample=True, copy_header=True)
    look("cropped to -60 to 78 mm, resampled onto -98 to 98 mm and swapped", cut, image.swap_img_hemispheres(onto))
about = sorted({str(warning.message) for warning in caught})
print("warned:", "; ".join(about) or "nothing")
PY
OMP_NUM_THREADS=1 "$work/env/bin/python" "$work/look.py" > "$work/seen.txt" 2> "$work/errors.txt" || { cat "$work/errors.txt"; exit 1; }
cat "$work/seen.txt" "$work/errors.txt"
test ! -s "$work/errors.txt"
sed -n 's/^#   //p' "$0" > "$work/expected.txt"
cmp "$work/seen.txt" "$work/expected.txt"
