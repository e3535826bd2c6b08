#!/bin/sh
# fastmri 0.3.0 with torch 2.13.0: UnetDataTransform, which makes the pairs for the package's U-Net, the baseline of many papers, cuts the input and the target
# at six standard deviations of the slice's zero-filled input, above its mean. The truth that is learned and validated by is not the
# file's: what is brighter, as a vessel, an effusion or a cyst in a picture that is dark elsewhere, has one value, the cut, and 1000 is
# 201 there. Where it lies depends on what else is in the slice and on its air: the same vessel has another truth in the next slice. A network that is trained
# so learns to give no more than that. The validation (UnetModule, whose target is this one, times the deviation) has its SSIM and PSNR by the cut
# truth, while fastmri.evaluate takes the file's: a perfect copy of the target has 36 dB there. The largest value that goes with the pair, max_value,
# by which both are measured, is not cut. VarNetDataTransform, of the same package, cuts nothing, so a comparison of the two
# has it in it. The docstring has "Data Transformer for training U-Net models" and "the reconstruction target", and of a cut nothing. Nothing is
# raised or warned of. Remedy: a transform of one's own without the clamps.
#
# Output seen (a slice with tissue of 30 and 80 and a vessel; the vessel's value in the target, times deviation plus mean):
#   vessel of 100: U-Net 100, VarNet 100, max_value 100
#   vessel of 300: U-Net 158, VarNet 300, max_value 300
#   vessel of 1000: U-Net 201, VarNet 1000, max_value 1000
#   vessel of 1000 in a slice with less tissue: U-Net 186
#   PSNR of the U-Net's own target against the file, vessel of 1000: 35.5 dB
#   warned: nothing
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/python" -m pip install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6 scikit-image==0.26.0 \
  h5py==3.16.0 pandas==3.1.1 PyYAML==6.0.4 requests==2.34.2 runstats==2.0.0 tqdm==4.70.1
"$work/env/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps fastmri==0.3.0
cat > "$work/look.py" <<'PY'
import warnings

import numpy as np
import torch
from fastmri.data.transforms import UnetDataTransform, VarNetDataTransform
from fastmri.evaluate import psnr

SIDE = 320  # of the set's reconstructions
row, column = np.mgrid[:SIDE, :SIDE] - SIDE / 2
VESSEL = np.hypot(row - 20, column - 20) < 4


def slice_with(vessel: float, *, half_width: float = 110) -> np.ndarray:
    picture = np.zeros((SIDE, SIDE), dtype=np.float32)
    picture[np.hypot(row / 140, column / half_width) < 1] = 30
    picture[np.hypot((row - 20) / 60, (column + 10) / 40) < 1] = 80
    picture[VESSEL] = vessel
    return picture


def pair(picture: np.ndarray, transform):
    """What the transform makes of a fully sampled slice as a file of the set has it."""
    kspace = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(picture), norm="ortho")).astype(np.complex64)
    attributes = {"max": float(picture.max()), "recon_size": picture.shape, "padding_left": 0, "padding_right": SIDE}
    return transform(kspace, np.ones(SIDE), picture, attributes, "one.h5", 0)


def unet_target(picture: np.ndarray) -> np.ndarray:
    made = pair(picture, UnetDataTransform("singlecoil"))
    return (made.target * made.std + made.mean).numpy()


with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    for value in (100, 300, 1000):
        picture = slice_with(value)
        unet, made = unet_target(picture), pair(picture, VarNetDataTransform())
        varnet = made.target.numpy()
        print(
            f"vessel of {value}: U-Net {unet[VESSEL].mean():.0f}, VarNet {varnet[VESSEL].mean():.0f}, "
            f"max_value {made.max_value:.0f}"
        )
    thin = unet_target(slice_with(1000, half_width=20))
    print(f"vessel of 1000 in a slice with less tissue: U-Net {thin[VESSEL].mean():.0f}")
    figure = psnr(slice_with(1000), unet_target(slice_with(1000)))
    print(f"PSNR of the U-Net's own target against the file, vessel of 1000: {figure:.1f} dB")
print("warned:", "; ".join(sorted({str(one.message)[:60] for one in told})) or "nothing")
PY
"$work/env/bin/python" "$work/look.py" > "$work/seen.txt" 2> "$work/errors.txt" || { cat "$work/errors.txt"; exit 1; }
cat "$work/seen.txt"
sed -n 's/^#   //p' "$0" > "$work/expected.txt"
cmp "$work/seen.txt" "$work/expected.txt"
