#!/bin/sh
# nitransforms 25.1.0: a warp of FSL (FNIRT, FUGUE, topup, convertwarp: displacements in mm, one vector a voxel) is read by nitransforms.nonlinear.load(...,
# fmt="fsl") as if its vectors ran along the patient's axes, the first one turned round. They run along the voxels' axes: FSL's coordinates are
# voxels times their size, the first axis turned round if the affine's determinant is above 0. So it is right of axial images that are stored straight, left or right
# first, front and top after it, as FSL's own templates are. Of an oblique one, as most EPI is, every vector is turned aside by the obliqueness;
# of a sagittal or coronal one, or one that runs to the back as ITK's do, a shift to the front becomes one to the right, the top or the back. (2) The vector leads from
# a place in one image's coordinates to one in the other's, and these start at each image's first voxel. With a template and a head, whose
# boxes differ, the difference of the boxes is in the vectors; nitransforms takes it for anatomy, and has no argument for the other image.
# to_filename(..., fmt="fsl") makes the same mistake backwards, so that a round trip passes and FSL gets another warp. Its linear transforms of FSL are right,
# of every orientation. Nothing is raised or warned of. Its issue 157 has that oblique fields of AFNI are open, and names none of FSL.
# fslpy 3.29.1, of FSL's makers, reads the same files as they are. Remedy: fsl.transform.fnirt.readFnirt and fromFnirt, and the field in world coordinates by fmt="itk".
#
# Output seen (where a point of the first image lies in the second one, in mm to the right, front and top of where it lies in the first; it is 2, 6 and 4):
#   axial, stored from right to left: nitransforms 2.0 6.0 4.0, fslpy 2.0 6.0 4.0
#   axial, stored from left to right: nitransforms 2.0 6.0 4.0, fslpy 2.0 6.0 4.0
#   axial, stored from front to back: nitransforms -2.0 -6.0 4.0, fslpy 2.0 6.0 4.0
#   axial, tilted by 20 degrees: nitransforms 2.0 7.0 1.7, fslpy 2.0 6.0 4.0
#   sagittal: nitransforms 6.0 4.0 2.0, fslpy 2.0 6.0 4.0
#   coronal: nitransforms -2.0 4.0 6.0, fslpy 2.0 6.0 4.0
#   a template and a head, both axial from right to left: nitransforms -7.5 -10.5 21.5, fslpy 2.0 6.0 4.0
#   axial, tilted by 20 degrees, written and read by nitransforms: 2.0 6.0 4.0
#   axial, tilted by 20 degrees, written by nitransforms, read by fslpy: 2.0 4.3 5.8
#   the same as a linear transform of FSL: nitransforms 2.0 6.0 4.0, fslpy 2.0 6.0 4.0
#   warned: nothing
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/python" -m pip install --quiet --disable-pip-version-check nitransforms==25.1.0 fslpy==3.29.1 nibabel==5.4.2 \
    scipy==1.15.3 numpy==2.3.5
cat > "$work/look.py" <<'PY'
import pathlib
import sys
import warnings

import nibabel
import nitransforms
import numpy as np
from fsl.data.image import Image
from fsl.transform import affine, flirt, fnirt, nonlinear
from nibabel.eulerangles import euler2mat

WORK = pathlib.Path(sys.argv[1])
SHIFT = np.array([2.0, 6.0, 4.0])
POINT = np.array([[3.0, -5.0, 7.0]])
STRAIGHT = [(-1, 0, 0), (0, 1, 0), (0, 0, 1)]


def image(name, axes, turn=0.0, shape=(40, 44, 38), spacing=2.0, middle=(0.0, 0.0, 0.0)):
    """An empty image around `middle`, whose voxel axes run along `axes` (right, front, top), tilted about the first one."""
    matrix = np.eye(4)
    matrix[:3, :3] = euler2mat(x=np.radians(turn)) @ np.array(axes, dtype=float).T * spacing
    matrix[:3, 3] = np.array(middle) - matrix[:3, :3] @ ((np.array(shape) - 1) / 2)
    nibabel.save(nibabel.Nifti1Image(np.zeros(shape, dtype=np.float32), matrix), WORK / f"{name}.nii.gz")
    return Image(str(WORK / f"{name}.nii.gz"))


def said(vector):
    return " ".join(f"{value + 0:.1f}" for value in np.round(vector, 1) + 0.0)


def by_fslpy(source, reference, **more):
    field = fnirt.readFnirt(str(WORK / "warp.nii.gz"), source, reference, defType="relative", **more)
    return said((field.transform(POINT, "world", "world") - POINT)[0])


def by_nitransforms():
    return said((nitransforms.nonlinear.load(WORK / "warp.nii.gz", fmt="fsl").map(POINT) - POINT)[0])


def write_warp(source, reference):
    """The shift as FSL has it: from the reference's coordinates to the source's."""
    shifts = np.broadcast_to(SHIFT, (*reference.shape, 3)).astype(np.float32)
    field = nonlinear.DeformationField(
        shifts, source, reference, srcSpace="world", refSpace="world", defType="relative", header=reference.header
    )
    fnirt.toFnirt(field).save(str(WORK / "warp.nii.gz"))


with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    for name, axes, turn in (
        ("axial, stored from right to left", STRAIGHT, 0),
        ("axial, stored from left to right", [(1, 0, 0), (0, 1, 0), (0, 0, 1)], 0),
        ("axial, stored from front to back", [(1, 0, 0), (0, -1, 0), (0, 0, 1)], 0),
        ("axial, tilted by 20 degrees", STRAIGHT, 20),
        ("sagittal", [(0, 1, 0), (0, 0, 1), (1, 0, 0)], 0),
        ("coronal", [(-1, 0, 0), (0, 0, 1), (0, 1, 0)], 0),
    ):
        both = image("both", axes, turn)
        write_warp(both, both)
        print(f"{name}: nitransforms {by_nitransforms()}, fslpy {by_fslpy(both, both)}")
    template = image("template", STRAIGHT, shape=(91, 109, 91), middle=(0, -18, 18))
    head = image("head", STRAIGHT, shape=(200, 220, 180), spacing=1.0, middle=(0, 0, 0))
    write_warp(head, template)
    print(f"a template and a head, both axial from right to left: nitransforms {by_nitransforms()}, fslpy {by_fslpy(head, template)}")
    tilted = image("tilted", STRAIGHT, 20)
    field = np.broadcast_to(SHIFT, (*tilted.shape, 3)).astype(np.float32)
    ours = nitransforms.nonlinear.DenseFieldTransform(nibabel.Nifti1Image(field, tilted.voxToWorldMat))
    ours.to_filename(WORK / "warp.nii.gz", fmt="fsl")
    print(f"axial, tilted by 20 degrees, written and read by nitransforms: {by_nitransforms()}")
    print(f"axial, tilted by 20 degrees, written by nitransforms, read by fslpy: {by_fslpy(tilted, tilted, intent=2006)}")
    shift = affine.compose([1, 1, 1], -SHIFT, [0, 0, 0])
    linear = flirt.toFlirt(shift, tilted, tilted, "world", "world")
    np.savetxt(WORK / "linear.mat", linear)
    read = nitransforms.linear.load(WORK / "linear.mat", fmt="fsl", reference=WORK / "tilted.nii.gz", moving=WORK / "tilted.nii.gz")
    back = np.linalg.inv(flirt.fromFlirt(linear, tilted, tilted, "world", "world"))
    print(f"the same as a linear transform of FSL: nitransforms {said((read.map(POINT) - POINT)[0])}, fslpy {said(back[:3, 3])}")
print("warned:", "; ".join(sorted({str(warning.message) for warning in caught})) or "nothing")
PY
OMP_NUM_THREADS=1 "$work/env/bin/python" "$work/look.py" "$work" > "$work/seen.txt" 2> "$work/errors.txt" || { cat "$work/errors.txt"; exit 1; }
cat "$work/seen.txt" "$work/errors.txt"
test ! -s "$work/errors.txt"
sed -n 's/^#   //p' "$0" > "$work/expected.txt"
cmp "$work/seen.txt" "$work/expected.txt"
