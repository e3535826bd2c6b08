#!/bin/sh
# SimpleITK 2.5.7: Shrink by an even factor says that its values lie where none of them was taken. "The physical centers of
# the input and output will be the same", says its documentation, and so the first voxel of a picture that is shrunk by 2 is said to
# lie half an input voxel into it. But the algorithm is "a simple subsample": the value is that of the voxel behind, half a voxel
# further on. Whatever is in the picture thus lies half an input voxel before its place, along every axis that is shrunk by an
# even number, however large; of an odd one all is right. BinShrink, which averages, is right for both. Who makes low
# resolution by Shrink, and compares or registers by the geometry that it writes, has the pair half a voxel apart.
#
# Output seen (the value of each voxel is its own place in mm, and voxels are of 1 mm):
#   by 2, said: 0.5 2.5 4.5 6.5 8.5 10.5
#   by 2, values: 1 3 5 7 9 11
#   by 3, said: 1 4 7 10
#   by 3, values: 1 4 7 10
#   by 4, said: 1.5 5.5 9.5
#   by 4, values: 2 6 10
#   BinShrink by 4, said: 1.5 5.5 9.5
#   BinShrink by 4, values: 1.5 5.5 9.5
#   by 2, resampled to the input's grid: 2.5 3.5 4.5 5.5 6.5 7.5 in place of 2 3 4 5 6 7
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/python" -m pip install --quiet --disable-pip-version-check SimpleITK==2.5.7 numpy==2.4.6
cat > "$work/look.py" <<'PY'
import numpy as np
import SimpleITK

ramp = SimpleITK.GetImageFromArray(np.tile(np.arange(12, dtype=np.float32), (2, 1)))


def show(name, image):
    places = [image.TransformIndexToPhysicalPoint((index, 0))[0] for index in range(image.GetWidth())]
    print(f"{name}, said:", *(f"{place:g}" for place in places))
    print(f"{name}, values:", *(f"{value:g}" for value in SimpleITK.GetArrayFromImage(image)[0]))


for factor in (2, 3, 4):
    show(f"by {factor}", SimpleITK.Shrink(ramp, (factor, 1)))
show("BinShrink by 4", SimpleITK.BinShrink(ramp, (4, 1)))
again = SimpleITK.Resample(SimpleITK.Shrink(ramp, (2, 1)), ramp, SimpleITK.Transform(), SimpleITK.sitkLinear)
inner = SimpleITK.GetArrayFromImage(again)[0, 2:8], SimpleITK.GetArrayFromImage(ramp)[0, 2:8]
texts = [" ".join(f"{value:g}" for value in one) for one in inner]
print("by 2, resampled to the input's grid:", " in place of ".join(texts))
PY
"$work/env/bin/python" -W always "$work/look.py" > "$work/seen.txt" 2> "$work/errors.txt"
cat "$work/seen.txt" "$work/errors.txt"
test ! -s "$work/errors.txt"
sed -n 's/^#   //p' "$0" > "$work/expected.txt"
cmp "$work/seen.txt" "$work/expected.txt"
