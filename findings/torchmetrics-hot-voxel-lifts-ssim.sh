#!/bin/sh
# torchmetrics 1.9.0 with torch 2.13.0: structural similarity without data_range has the range "determined from the data (max - min)",
# says its documentation; it is the larger one of the prediction's and the target's, over the whole batch. SSIM's constants are
# parts of that range squared. So one voxel that a network made too bright makes every other error small: the worse picture has
# the better figure, and of two methods the one with spikes wins. The other images of the batch are lifted with it, and a dim image
# has another figure alone than beside a bright one. The class StructuralSimilarityIndexMeasure does the same, a batch at a time.
# Nothing is warned of. scikit-image 0.26.0 refuses real numbers without a range, and torchmetrics' own PSNR has no
# default. data_range, of the target, is the remedy.
#
# Output seen (four images of 0 to 1 and a prediction with noise; then one voxel of the first prediction made brighter):
#   prediction: SSIM of the batch 0.689, of the first 0.684, of the second 0.691
#   one voxel of 2: SSIM of the batch 0.778, of the first 0.774, of the second 0.779
#   one voxel of 10: SSIM of the batch 0.975, of the first 0.974, of the second 0.975
#   one voxel of 100: SSIM of the batch 0.999, of the first 0.998, of the second 1.000
#   one voxel of 100, data_range=1.0: SSIM of the batch 0.688, of the first 0.682, of the second 0.691
#   one voxel of 100, the class over single images: 0.767
#   a tenth of the third image, alone: 0.680
#   a tenth of the third image, beside the others: 0.975
#   scikit-image: ValueError
#   warned: nothing
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/python" -m pip install --quiet --disable-pip-version-check \
    torchmetrics==1.9.0 torch==2.13.0 scikit-image==0.26.0 scipy==1.17.1 numpy==2.4.6
cat > "$work/look.py" <<'PY'
import warnings

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from skimage.metrics import structural_similarity
from torchmetrics.functional.image import structural_similarity_index_measure as ssim
from torchmetrics.image import StructuralSimilarityIndexMeasure

rng = np.random.default_rng(0)
smooth = gaussian_filter(rng.random((4, 200, 200)), (0, 3, 3))
low = smooth.min(axis=(1, 2), keepdims=True)
target = (smooth - low) / (smooth.max(axis=(1, 2), keepdims=True) - low)
noisy = np.clip(target + 0.05 * rng.standard_normal(target.shape), 0, 1)
truth, seen = (torch.from_numpy(values.astype(np.float32))[:, None] for values in (target, noisy))


def say(name: str, prediction: torch.Tensor, **settings: float) -> None:
    batch = float(ssim(prediction, truth, **settings))
    each = ssim(prediction, truth, reduction="none", **settings)
    print(f"{name}: SSIM of the batch {batch:.3f}, of the first {each[0]:.3f}, of the second {each[1]:.3f}")


with warnings.catch_warnings(record=True) as warned:
    warnings.simplefilter("always")
    say("prediction", seen)
    for value in (2, 10, 100):
        bright = seen.clone()
        bright[0, 0, 5, 5] = value
        say(f"one voxel of {value}", bright)
    say("one voxel of 100, data_range=1.0", bright, data_range=1.0)
    metric = StructuralSimilarityIndexMeasure()
    for one, true in zip(bright, truth, strict=True):
        metric.update(one[None], true[None])
    print(f"one voxel of 100, the class over single images: {float(metric.compute()):.3f}")
    dim, dim_truth = seen.clone(), truth.clone()
    dim[2] /= 10
    dim_truth[2] /= 10
    print(f"a tenth of the third image, alone: {float(ssim(dim[2:3], dim_truth[2:3])):.3f}")
    print(f"a tenth of the third image, beside the others: {float(ssim(dim, dim_truth, reduction='none')[2]):.3f}")
    try:
        structural_similarity(target[0], noisy[0])
    except ValueError:
        print("scikit-image: ValueError")
told = [str(one.message) for one in warned if "torchmetrics" in one.filename and "range" in str(one.message)]
print("warned:", "; ".join(told) or "nothing")
PY
"$work/env/bin/python" "$work/look.py" > "$work/seen.txt"
cat "$work/seen.txt"
sed -n 's/^#   //p' "$0" > "$work/expected.txt"
cmp "$work/seen.txt" "$work/expected.txt"
