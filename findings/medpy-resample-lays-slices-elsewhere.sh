#!/bin/sh
# MedPy 0.5.2: medpy.filter.resample ("Re-sample an image to a new voxel-spacing") says a spacing that the result does not have. It
# enlarges by scipy's zoom, which lays the first and the last voxel of the result on those of the picture: of 10 slices 5 mm apart, 45 mm from
# the first to the last, become 50 slices over the same 45 mm, 0.918 mm apart. Into the header it writes the spacing that was asked for, 1 mm, and
# leaves the first voxel's place. So everything lies further away from the first voxel than it is, by up to a voxel of the picture less
# one of the result: the last slice, which lies at 45 mm, is said to lie at 49. The other way round, from 1 mm to 5 mm, it lies nearer. Thick slices, of which one
# resamples first, have the most of it, and a few slices more than many; every distance, volume or speed measured along that axis is 9%
# too large, a lesion drawn in the result lies beside the scan's, and two scans of one patient of unequal thickness, brought to one
# spacing, no longer lie on one another. A flat axis and both ends look as they should. Nothing is raised or warned of it. SimpleITK
# 2.5.7 (Resample) keeps every place. Remedy: that, or scipy.ndimage.affine_transform with the ratio of the spacings as the matrix.
#
# Output seen (a ramp whose value is its own place in mm along the slices; the value that is read at a place of the result):
#   5 mm to 1 mm, MedPy: 50 slices; at 0 mm 0.0, at 20 mm 18.4, at 40 mm 36.7, last slice, said to lie at 49 mm, 45.0
#   5 mm to 1 mm, SimpleITK: at 0 mm 0.0, at 20 mm 20.0, at 40 mm 40.0
#   1 mm to 5 mm, MedPy: 10 slices; at 0 mm 0.0, at 20 mm 21.8, at 40 mm 43.6, last slice, said to lie at 45 mm, 49.0
#   a lesion of 20 mm along the slices, 5 mm to 1 mm: MedPy 22 mm, SimpleITK 20 mm
#   warned, beside names that are to be replaced: nothing
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/python" -m pip install --quiet --disable-pip-version-check MedPy==0.5.2 SimpleITK==2.5.7 scipy==1.17.1 numpy==2.4.6
cat > "$work/look.py" <<'PY'
import pathlib
import sys
import warnings

import numpy as np
import SimpleITK
from medpy.filter import resample
from medpy.io import load, save

WORK = pathlib.Path(sys.argv[1])


def scan(name, values, spacing):
    """A scan of 8 x 8 pixels whose slices have `values`, `spacing` mm apart from 0 mm on."""
    image = SimpleITK.GetImageFromArray(np.broadcast_to(values[:, None, None], (len(values), 8, 8)).astype(np.float32))
    image.SetSpacing((1.0, 1.0, spacing))
    SimpleITK.WriteImage(image, WORK / name)
    return image


def by_medpy(name, spacing):
    values, header = load(str(WORK / name))
    values, header = resample(values, header, (1.0, 1.0, spacing), bspline_order=1)
    save(values, str(WORK / "resampled.nii.gz"), header, force=True)
    return SimpleITK.ReadImage(WORK / "resampled.nii.gz")


def by_simpleitk(image, spacing):
    size = image.GetSize()[0], image.GetSize()[1], int((image.GetSize()[2] - 1) * image.GetSpacing()[2] / spacing) + 1
    return SimpleITK.Resample(image, size, SimpleITK.Transform(), SimpleITK.sitkLinear, image.GetOrigin(),
                              (1.0, 1.0, spacing), image.GetDirection(), 0.0, SimpleITK.sitkFloat32)


def at(image, place):
    return float(image[image.TransformPhysicalPointToIndex((4.0, 4.0, place))])


def read(image):
    return ", ".join(f"at {place} mm {at(image, place):.1f}" for place in (0, 20, 40))


def height(image):
    values = SimpleITK.GetArrayFromImage(image)[:, 4, 4]
    return f"{values.sum() / values.max() * image.GetSpacing()[2]:.0f} mm"


with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    for old, new, count in ((5.0, 1.0, 10), (1.0, 5.0, 50)):
        image = scan("scan.nii.gz", np.arange(count) * old, old)
        result = by_medpy("scan.nii.gz", new)
        last = result.GetSize()[2] - 1
        place = result.TransformIndexToPhysicalPoint((4, 4, last))[2]
        print(f"{old:.0f} mm to {new:.0f} mm, MedPy: {last + 1} slices; {read(result)}, "
              f"last slice, said to lie at {place:.0f} mm, {result[4, 4, last]:.1f}")
        if new < old:
            print(f"{old:.0f} mm to {new:.0f} mm, SimpleITK: {read(by_simpleitk(image, new))}")
    lesion = np.zeros(10)
    lesion[3:7] = 1.0
    image = scan("lesion.nii.gz", lesion, 5.0)
    print(f"a lesion of 20 mm along the slices, 5 mm to 1 mm: MedPy {height(by_medpy('lesion.nii.gz', 1.0))}, "
          f"SimpleITK {height(by_simpleitk(image, 1.0))}")
others = sorted({str(warning.message) for warning in caught if "depreciated" not in str(warning.message)})
print("warned, beside names that are to be replaced:", "; ".join(others) or "nothing")
PY
"$work/env/bin/python" "$work/look.py" "$work" > "$work/seen.txt" 2> "$work/errors.txt" || { cat "$work/errors.txt"; exit 1; }
cat "$work/seen.txt" "$work/errors.txt"
test ! -s "$work/errors.txt"
sed -n 's/^#   //p' "$0" > "$work/expected.txt"
cmp "$work/seen.txt" "$work/expected.txt"
