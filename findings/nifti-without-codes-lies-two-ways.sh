#!/bin/sh
# nibabel 5.4.2 and SimpleITK 2.5.7: a NIfTI-1 header whose sform_code and qform_code are 0 gives voxel sizes alone (METHOD 1 of
# nifti1.h: "No particular spatial orientation is attached to these (x,y,z) coordinates"). nibabel lays the axes to the patient's
# left, front and top; SimpleITK to the left, back and top. The one picture is the other in a mirror, so no turn brings them
# together, and of a head nobody sees it. SimpleITK writes its own answer with a code of 1 (scanner), so what was unknown is a
# fact in the copy, and nibabel then believes the mirror image of what it read in the original. Neither says anything.
#
# Output seen:
#   codes of the original (0, 0): nibabel L A S, SimpleITK L P S
#   codes of SimpleITK's copy (1, 1): nibabel L P S, SimpleITK L P S
#   voxels of the copy, in the file: same
#   original and copy, as nibabel lays them: mirrored
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/python" -m pip install --quiet --disable-pip-version-check nibabel==5.4.2 SimpleITK==2.5.7 numpy==2.4.6
cat > "$work/look.py" <<'PY'
import sys

import nibabel
import numpy as np
import SimpleITK

original, copy = f"{sys.argv[1]}/original.nii", f"{sys.argv[1]}/copy.nii"
image = nibabel.Nifti1Image(np.arange(24, dtype=np.int16).reshape(2, 3, 4), None)
image.header.set_zooms((1.0, 1.2, 3.0))
image.to_filename(original)
SimpleITK.WriteImage(SimpleITK.ReadImage(original), copy)


def of_simpleitk(path):
    image = SimpleITK.ReadImage(path)
    direction = np.reshape(image.GetDirection(), (3, 3)) * np.array([[-1], [-1], [1]])  # to the right, front and top
    return nibabel.aff2axcodes(nibabel.affines.from_matvec(direction))


def codes(path):
    header = nibabel.load(path).header
    return int(header["sform_code"]), int(header["qform_code"])


for name, path in (("the original", original), ("SimpleITK's copy", copy)):
    read = nibabel.aff2axcodes(nibabel.load(path).affine)
    print(f"codes of {name} {codes(path)}: nibabel {' '.join(read)}, SimpleITK {' '.join(of_simpleitk(path))}")
one, other = nibabel.load(original), nibabel.load(copy)
same = np.array_equal(one.get_fdata(), other.get_fdata())
print("voxels of the copy, in the file:", "same" if same else "others")
hands = [np.sign(np.linalg.det(image.affine)) for image in (one, other)]
print("original and copy, as nibabel lays them:", "mirrored" if hands[0] != hands[1] else "alike")
PY
"$work/env/bin/python" -W always "$work/look.py" "$work" > "$work/seen.txt" 2> "$work/errors.txt"
cat "$work/seen.txt" "$work/errors.txt"
test ! -s "$work/errors.txt"
sed -n 's/^#   //p' "$0" > "$work/expected.txt"
cmp "$work/seen.txt" "$work/expected.txt"
