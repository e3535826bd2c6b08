#!/bin/sh
# MONAI 1.6.1 with torch 2.13.0: GaussianSmooth, GaussianSharpen and their random forms take what is outside the picture for 0. Of a
# flat picture of 1000 the outermost voxel becomes 691 at the default width of one voxel, at a corner 331, and wider blurs reach
# further: a slab of 20 slices has its ends at 60% with a width of 2, and with 4 not one slice is right. A sharpened flat picture has
# a rim of more than four times its value. The random forms stand behind a crop in augmentation, and there the rim is tissue: of a patch of
# 32 voxels a third is another value by more than 5%, and a network learns from patches that are dark where they end. Behind
# a normalisation to mean 0 nobody sees it, for the rim is then grey. The documentation of the transforms says nothing of the
# border, and there is no setting; GaussianFilter, the layer under them, has none either. MedianSmooth repeats the last voxel, and
# scipy 1.17.1's gaussian_filter reflects: both leave 1000. Nothing is raised or warned of. Remedies: crop after smoothing, or
# divide by a flat picture that is smoothed the same way.
#
# Output seen (a flat slab of 20 x 64 x 64 of 1000: in the middle, in the first, second and third slice, and in a corner):
#   GaussianSmooth, 1 voxel: 1000, 691 933 994, 331
#   GaussianSmooth, 2 voxels: 1000, 599 773 894, 215
#   GaussianSmooth, 4 voxels: 987, 550 646 734, 166
#   GaussianSmooth along the rows alone, 2 voxels: 1000, 1000 1000 1000, 599
#   scipy, 4 voxels: 1000, 1000 1000 1000, 1000
#   MedianSmooth, 1 voxel: 1000, 1000 1000 1000, 1000
#   GaussianSharpen of a flat picture of 64 x 64: 1000 in the middle, 4419 at an edge, 39% of it further than a tenth from 1000
#   RandGaussianSmooth of a flat patch of 32 x 32 x 32, a width of 1.14: 326 in a corner, 33% of it further than 5% from 1000
#   warned: nothing
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/python" -m pip install --quiet --disable-pip-version-check \
    monai==1.6.1 torch==2.13.0 scipy==1.17.1 numpy==2.4.6
cat > "$work/look.py" <<'PY'
import warnings
from collections.abc import Callable

import numpy as np
import torch
from monai.transforms import GaussianSharpen, GaussianSmooth, MedianSmooth, RandGaussianSmooth
from scipy.ndimage import gaussian_filter

slab = np.full((20, 64, 64), 1000, np.float32)


def by(transform: Callable[[torch.Tensor], torch.Tensor], picture: np.ndarray) -> np.ndarray:
    return np.asarray(transform(torch.from_numpy(picture)[None])[0])


def say(name: str, result: np.ndarray) -> None:
    first, second, third = (result[number, 32, 32] for number in range(3))
    print(f"{name}: {result[10, 32, 32]:.0f}, {first:.0f} {second:.0f} {third:.0f}, {result[0, 0, 0]:.0f}")


with warnings.catch_warnings(record=True) as warned:
    warnings.simplefilter("always")
    for sigma in (1, 2, 4):
        say(f"GaussianSmooth, {sigma} voxel{'s' * (sigma > 1)}", by(GaussianSmooth(float(sigma)), slab))
    say("GaussianSmooth along the rows alone, 2 voxels", by(GaussianSmooth([0.0, 0.0, 2.0]), slab))
    say("scipy, 4 voxels", gaussian_filter(slab, 4))
    say("MedianSmooth, 1 voxel", by(MedianSmooth(1), slab))
    sharp = by(GaussianSharpen(), slab[0])
    far = np.mean(np.abs(sharp - 1000) > 100)
    print(f"GaussianSharpen of a flat picture of 64 x 64: {sharp[32, 32]:.0f} in the middle, "
          f"{sharp[0, 32]:.0f} at an edge, {far:.0%} of it further than a tenth from 1000")
    smooth = RandGaussianSmooth(prob=1)
    smooth.set_random_state(0)
    patch = by(smooth, np.full((32, 32, 32), 1000, np.float32))
    far = np.mean(np.abs(patch - 1000) > 50)
    print(f"RandGaussianSmooth of a flat patch of 32 x 32 x 32, a width of {smooth.x:.2f}: "
          f"{patch[0, 0, 0]:.0f} in a corner, {far:.0%} of it further than 5% from 1000")
told = [str(one.message) for one in warned if "pad" in str(one.message) or "border" in str(one.message)]
print("warned:", "; ".join(told) or "nothing")
PY
"$work/env/bin/python" "$work/look.py" 2> "$work/log.txt" > "$work/seen.txt" || { tail -5 "$work/log.txt"; exit 1; }
cat "$work/seen.txt"
sed -n 's/^#   //p' "$0" > "$work/expected.txt"
cmp "$work/seen.txt" "$work/expected.txt"
