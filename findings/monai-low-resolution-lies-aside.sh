#!/bin/sh
# MONAI 1.6.1 with torch 2.13.0: RandSimulateLowResolution, as it is by default, also moves the picture. It takes every
# n-th voxel by torch's mode "nearest", which is the first of each group and not the middle one, and enlarges by "trilinear",
# which lays it on the group's middle: all of the picture lies (1 / zoom - 1) / 2 voxels further along every axis, half a voxel at
# a zoom of 0.5 and one and a half at 0.25, by less in between. The affine is the input's, and so are a label map or the full
# resolution beside it: a network that is trained on such pairs learns to move pictures. Its documentation says "corresponding to
# nnU-Net's SimulateLowResolutionTransform", of batchgenerators; that one, asked for the same (order 0 down, order 3 up), moves
# nothing where groups are odd, and half a voxel the other way, however large, where they are even.
# downsample_mode="area" or "trilinear" leaves the picture in its place; "nearest-exact" only where groups are odd.
#
# Output seen (the middle of a wide spot, in voxels from where it was, along each axis):
#   zoom 1/2, default: 0.5 0.5 0.5
#   zoom 1/3, default: 1.0 1.0 1.0
#   zoom 1/4, default: 1.5 1.5 1.5
#   zoom 1/4, downsample_mode area: 0.0 0.0 0.0
#   zoom 1/3, batchgenerators 0.25.5: 0.0 0.0 0.0
#   affine: as it was
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/python" -m pip install --quiet --disable-pip-version-check monai==1.6.1 torch==2.13.0 numpy==2.4.6 \
  scikit-image==0.26.0 pandas==3.1.1
"$work/env/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps batchgenerators==0.25.5
cat > "$work/look.py" <<'PY'
import numpy as np
import torch
from batchgenerators.augmentations.resample_augmentations import augment_linear_downsampling_scipy
from monai.data import MetaTensor
from monai.transforms import RandSimulateLowResolution

SIDE = 48  # of which 2, 3 and 4 are parts
AFFINE = torch.diag(torch.tensor([2.0, 2.0, 2.0, 1.0], dtype=torch.float64))
line = np.exp(-((np.arange(SIDE) - (SIDE - 1) / 2) ** 2) / (2 * 6.0**2))
spot = (line[:, None, None] * line[:, None] * line).astype(np.float32)


def middle(picture):
    picture = np.asarray(picture, dtype=np.float64)
    sums = [picture.sum(axis=tuple({0, 1, 2} - {axis})) for axis in range(3)]
    return [float(one @ np.arange(SIDE) / one.sum()) for one in sums]


def moved(picture):
    steps = [after - before for after, before in zip(middle(picture), middle(spot))]
    return " ".join(f"{round(step, 1) + 0.0:.1f}" for step in steps)


def simulated(zoom, **options):
    transform = RandSimulateLowResolution(prob=1, zoom_range=(zoom, zoom), **options)
    return transform(MetaTensor(torch.tensor(spot)[None], affine=AFFINE))


for part in (2, 3, 4):
    print(f"zoom 1/{part}, default:", moved(simulated(1 / part)[0]))
print("zoom 1/4, downsample_mode area:", moved(simulated(1 / 4, downsample_mode="area")[0]))
of_nnunet = augment_linear_downsampling_scipy(
    spot[None].copy(), zoom_range=(1 / 3, 1 / 3), per_channel=False, order_downsample=0, order_upsample=3
)
print("zoom 1/3, batchgenerators 0.25.5:", moved(of_nnunet[0]))
print("affine:", "as it was" if torch.equal(simulated(1 / 4).affine, AFFINE) else "another")
PY
"$work/env/bin/python" -W ignore "$work/look.py" > "$work/seen.txt" 2> "$work/errors.txt" || { cat "$work/errors.txt"; exit 1; }
cat "$work/seen.txt"
sed -n 's/^#   //p' "$0" > "$work/expected.txt"
cmp "$work/seen.txt" "$work/expected.txt"
