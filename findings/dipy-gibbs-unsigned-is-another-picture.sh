#!/bin/sh
# dipy 1.12.1: gibbs_removal takes an image of any dtype and calculates in it. It compares neighbours by |a - b|, and the two
# shifted images by a - b; between unsigned integers a difference below 0 wraps: 3 - 4 is 65535. So flat places look like steps,
# other shifts are chosen, and half of the voxels of a magnitude image in uint16 become tens of thousands. Signed integers
# do not wrap, but the measure by which shifts are chosen, and the shifted images, are cut to whole numbers: some voxels differ by
# more than their rounding. Nothing is raised or warned of; of the argument the docstring says "Matrix containing one volume".
# dipy's own load_nifti hands over the file's dtype, so a file of uint16 is one line from it, where nibabel's get_fdata gives
# real numbers. The result also replaces the input by default (inplace=True, which the docstring has): before and after, compared
# later, are the same numbers. data.astype("float32") is the remedy for both.
#
# Output seen (a disc of 1000 that rings; the part of its voxels that are more than 2 from the same in float64):
#   float64: none above 2000
#   float32: none above 2000, of the voxels 0.0 differ, input replaced True
#   int16: none above 2000, of the voxels 0.1 differ, input replaced True
#   uint16: some above 50000, of the voxels 1.0 differ, input replaced True
#   uint8, a fifth of it: none above 2000, of the voxels 0.5 differ, input replaced True
#   uint16 from a NIfTI file by load_nifti: uint16, some above 50000
#   warned: nothing
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/python" -m pip install --quiet --disable-pip-version-check dipy==1.12.1 nibabel==5.4.2 numpy==2.4.6 scipy==1.17.1
cat > "$work/look.py" <<'PY'
import sys
import warnings
from pathlib import Path

import nibabel
import numpy as np
from dipy.denoise.gibbs import gibbs_removal
from dipy.io.image import load_nifti

work = Path(sys.argv[1])
side, kept = 256, 64
row, column = np.mgrid[:side, :side] - side // 2
disc = np.where(row**2 + column**2 < 80**2, 1000.0, 0.0)
edge = (side - kept) // 2
lines = np.fft.fftshift(np.fft.fft2(disc))[edge : edge + kept, edge : edge + kept]
ringing = np.abs(np.fft.ifft2(np.fft.ifftshift(lines))) * (kept / side) ** 2
volume = np.rint(np.stack([ringing, ringing], axis=-1))


def largest(values: np.ndarray) -> str:
    return "some above 50000" if values.max() > 50000 else "none above 2000" if values.max() < 2000 else "other"


with warnings.catch_warnings(record=True) as warned:
    warnings.simplefilter("always")
    right = gibbs_removal(volume.copy(), num_processes=1)
    print(f"float64: {largest(right)}")
    for dtype, part, said in (("float32", 1, ""), ("int16", 1, ""), ("uint16", 1, ""), ("uint8", 0.2, ", a fifth of it")):
        scan = np.rint(volume * part).astype(dtype)
        before = scan.copy()
        found = gibbs_removal(scan, num_processes=1)
        wanted = gibbs_removal(before.astype(float), num_processes=1)
        apart = np.abs(found[..., 0].astype(float) - wanted[..., 0])
        replaced = not np.array_equal(before, scan)
        print(f"{dtype}{said}: {largest(found)}, of the voxels {(apart > 2).mean():.1f} differ, input replaced {replaced}")
    nibabel.save(nibabel.Nifti1Image(volume.astype(np.uint16), np.eye(4)), work / "scan.nii")
    data, _ = load_nifti(str(work / "scan.nii"))
    kind = data.dtype
    print(f"uint16 from a NIfTI file by load_nifti: {kind}, {largest(gibbs_removal(data, num_processes=1))}")
told = [str(one.message) for one in warned if "dipy" in one.filename or "gibbs" in str(one.message)]
print("warned:", "; ".join(told) or "nothing")
PY
"$work/env/bin/python" "$work/look.py" "$work" > "$work/seen.txt"
cat "$work/seen.txt"
sed -n 's/^#   //p' "$0" > "$work/expected.txt"
cmp "$work/seen.txt" "$work/expected.txt"
