#!/bin/sh
# piq 0.8.0 with torch 2.13.0: ssim, as it is by default, measures a picture of 384 or more pixels on its shorter side at half its
# resolution, from 641 on at a third. The same noise has an SSIM of 0.62 in a picture of 383 pixels and of 0.93 in one
# of 384; a checkerboard of one pixel, as layers that enlarge make it, is 1.00 there, and SSIMLoss neither sees nor trains it away.
# So matrices of 320 and 384 cannot be compared, nor a site with the other, nor a patch with its picture; a batch that is padded to
# one size has another figure. The setting is `downsample`. Its documentation says "Perform average pool before SSIM computation",
# nothing of a size, and above it "To match performance with skimage and tensorflow set 'downsample' = True": it is the other way
# round. With False piq and scikit-image 0.26.0 agree at every size. The rule is one of SSIM's authors' two programs for photographs
# (scikit-image's issue 5192 tells of both). fsim has the same leap, and no setting. Nothing is raised or warned of.
#
# Output seen (cut out of one smooth picture of 0 to 1, with noise of 0.05; scikit-image with the same window, a Gaussian of 1.5):
#   noise, 320 pixels: piq 0.62, downsample=False 0.62, scikit-image 0.62
#   noise, 383 pixels: piq 0.62, downsample=False 0.62, scikit-image 0.62
#   noise, 384 pixels: piq 0.93, downsample=False 0.62, scikit-image 0.62
#   noise, 512 pixels: piq 0.93, downsample=False 0.62, scikit-image 0.62
#   noise, 641 pixels: piq 0.98, downsample=False 0.62, scikit-image 0.62
#   noise, 320 pixels in a frame of 384: piq 0.95, downsample=False 0.73, scikit-image 0.73
#   FSIM of the noise: 383 pixels 0.86, 384 pixels 0.97
#   checkerboard of 0.1, 320 pixels: piq 0.24, downsample=False 0.24, scikit-image 0.24
#   checkerboard of 0.1, 384 pixels: piq 1.00, downsample=False 0.24, scikit-image 0.24
#   SSIMLoss of the checkerboard, 384 pixels: 0.000, its gradient 0.000
#   warned: nothing
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/python" -m pip install --quiet --disable-pip-version-check \
    torch==2.13.0 scikit-image==0.26.0 scipy==1.17.1 numpy==2.4.6
"$work/env/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps piq==0.8.0
cat > "$work/look.py" <<'PY'
import sys
import warnings
from unittest.mock import MagicMock

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from skimage.metrics import structural_similarity

# piq imports torchvision for networks that no measure here uses.
for name in ("torchvision", "torchvision.models"):
    sys.modules[name] = MagicMock()
import piq


def tensor(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(values.astype(np.float32))[None, None]


def checkerboard(side: int) -> np.ndarray:
    rows, columns = np.indices((side, side))
    return 0.1 * (-1.0) ** (rows + columns)


def say(name: str, target: np.ndarray, prediction: np.ndarray) -> None:
    pair = tensor(prediction), tensor(target)
    usual, whole = float(piq.ssim(*pair)), float(piq.ssim(*pair, downsample=False))
    settings = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}
    other = structural_similarity(target, prediction, **settings)
    print(f"{name}: piq {usual:.2f}, downsample=False {whole:.2f}, scikit-image {other:.2f}")


def say_fsim(target: np.ndarray, prediction: np.ndarray) -> None:
    at = {side: (tensor(prediction[:side, :side]), tensor(target[:side, :side])) for side in (383, 384)}
    values = ", ".join(f"{side} pixels {float(piq.fsim(*pair, chromatic=False)):.2f}" for side, pair in at.items())
    print(f"FSIM of the noise: {values}")


rng = np.random.default_rng(0)
smooth = gaussian_filter(rng.random((641, 641)), 3)
smooth = (smooth - smooth.min()) / (smooth.max() - smooth.min())
noise = 0.05 * rng.standard_normal(smooth.shape)
with warnings.catch_warnings(record=True) as warned:
    warnings.simplefilter("always")
    for side in (320, 383, 384, 512, 641):
        target = smooth[:side, :side]
        noisy = np.clip(target + noise[:side, :side], 0, 1)
        say(f"noise, {side} pixels", target, noisy)
        if side == 320:
            framed = np.pad(target, 32), np.pad(noisy, 32)
    say("noise, 320 pixels in a frame of 384", *framed)
    say_fsim(smooth, np.clip(smooth + noise, 0, 1))
    for side in (320, 384):
        target = 0.1 + 0.8 * smooth[:side, :side]
        say(f"checkerboard of 0.1, {side} pixels", target, target + checkerboard(side))
    prediction = tensor(target + checkerboard(side)).requires_grad_()
    loss = piq.SSIMLoss()(prediction, tensor(target))
    loss.backward()
    along = float((prediction.grad * tensor(checkerboard(side))).sum())
    print(f"SSIMLoss of the checkerboard, {side} pixels: {loss.detach():.3f}, its gradient {abs(along):.3f}")
told = [str(one.message) for one in warned if "piq" in one.filename and "size" in str(one.message)]
print("warned:", "; ".join(told) or "nothing")
PY
"$work/env/bin/python" "$work/look.py" 2> "$work/log.txt" > "$work/seen.txt" || { tail -5 "$work/log.txt"; exit 1; }
cat "$work/seen.txt"
sed -n 's/^#   //p' "$0" > "$work/expected.txt"
cmp "$work/seen.txt" "$work/expected.txt"
