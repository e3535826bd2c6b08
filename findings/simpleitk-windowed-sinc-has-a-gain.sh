#!/bin/sh
# SimpleITK 2.5.7: Resample with a windowed sinc, which is chosen to keep values and edges best, does not keep the mean. The
# weights of the samples along an axis are not made to add up to 1, and the window's shape decides what they add up to: of a flat
# picture of 1000 a place midway between voxels is 1011 by Hamming's window, 996 by Lanczos', 999 by Blackman's, and on
# a voxel it is 1000. So a picture that is enlarged twice has every other line brighter, a turned one has waves, and a map in
# units (T1, ADC) that is moved by half a voxel along three axes is another by 1.1%, everywhere. Linear interpolation and
# B-splines keep 1000. Nothing is raised or printed, and the documentation of Resample says nothing of it. sitkBSpline is
# the remedy, or dividing by a flat picture that is resampled the same way.
#
# Output seen (a flat picture of 1000; far from its edges):
#   Hamming, moved by 0, 0.25 and 0.5 voxels along each axis: 1000.0 1008.5 1010.9; twice as large: 1000.0 to 1010.9
#   Cosine, moved by 0, 0.25 and 0.5 voxels along each axis: 1000.0 998.4 997.1; twice as large: 997.1 to 1000.0
#   Welch, moved by 0, 0.25 and 0.5 voxels along each axis: 1000.0 999.0 998.2; twice as large: 998.2 to 1000.0
#   Lanczos, moved by 0, 0.25 and 0.5 voxels along each axis: 1000.0 998.0 996.2; twice as large: 996.2 to 1000.0
#   Blackman, moved by 0, 0.25 and 0.5 voxels along each axis: 1000.0 999.3 998.7; twice as large: 998.7 to 1000.0
#   Linear, moved by 0, 0.25 and 0.5 voxels along each axis: 1000.0 1000.0 1000.0; twice as large: 1000.0 to 1000.0
#   BSpline, moved by 0, 0.25 and 0.5 voxels along each axis: 1000.0 1000.0 1000.0; twice as large: 1000.0 to 1000.0
#   Hamming, turned by 6 degrees in the plane: 1001.6 to 1007.2
#   Hamming, half a voxel along one axis: the weights add up to 1.0036, a flat picture becomes 1.0036
#   printed: nothing
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/python" -m pip install --quiet --disable-pip-version-check SimpleITK==2.5.7 numpy==2.4.6
cat > "$work/look.py" <<'PY'
import numpy as np
import SimpleITK as sitk

SIDE = 32
flat = sitk.GetImageFromArray(np.full((SIDE, SIDE, SIDE), 1000, np.float32))
middle = slice(SIDE // 4, 3 * SIDE // 4)


def values(image: sitk.Image) -> np.ndarray:
    return sitk.GetArrayFromImage(image)


def moved(image: sitk.Image, voxels: tuple[float, float, float], interpolator: int) -> np.ndarray:
    return values(sitk.Resample(image, image, sitk.TranslationTransform(3, voxels), interpolator))


NAMES = [f"{name}WindowedSinc" for name in ("Hamming", "Cosine", "Welch", "Lanczos", "Blackman")] + ["Linear", "BSpline"]
for name in NAMES:
    interpolator = getattr(sitk, f"sitk{name}")
    moves = (float(moved(flat, (by, by, by), interpolator)[16, 16, 16]) for by in (0, 0.25, 0.5))
    large = values(
        sitk.Resample(flat, (2 * SIDE,) * 3, sitk.Transform(), interpolator, (0.0,) * 3, (0.5,) * 3, flat.GetDirection())
    )[SIDE // 2 : SIDE, SIDE // 2 : SIDE, SIDE // 2 : SIDE]
    said = " ".join(f"{value:.1f}" for value in moves)
    short = name.removesuffix("WindowedSinc")
    print(
        f"{short}, moved by 0, 0.25 and 0.5 voxels along each axis: {said}; "
        f"twice as large: {large.min():.1f} to {large.max():.1f}"
    )
turn = sitk.Euler3DTransform(((SIDE - 1) / 2,) * 3, 0.0, 0.0, np.radians(6))
turned = values(sitk.Resample(flat, flat, turn, sitk.sitkHammingWindowedSinc))[middle, middle, middle]
print(f"Hamming, turned by 6 degrees in the plane: {turned.min():.1f} to {turned.max():.1f}")
point = np.zeros((SIDE, SIDE, SIDE), np.float32)
point[16, 16, 16] = 1
line = moved(sitk.GetImageFromArray(point), (0.5, 0, 0), sitk.sitkHammingWindowedSinc)[16, 16]
one_axis = moved(flat, (0.5, 0, 0), sitk.sitkHammingWindowedSinc)[16, 16, 16] / 1000
print(f"Hamming, half a voxel along one axis: the weights add up to {line.sum():.4f}, a flat picture becomes {one_axis:.4f}")
PY
"$work/env/bin/python" "$work/look.py" > "$work/seen.txt" 2> "$work/printed.txt"
if [ -s "$work/printed.txt" ]; then said=$(cat "$work/printed.txt"); else said=nothing; fi
echo "printed: $said" >> "$work/seen.txt"
cat "$work/seen.txt"
sed -n 's/^#   //p' "$0" > "$work/expected.txt"
cmp "$work/seen.txt" "$work/expected.txt"
