#!/bin/sh
# torchmetrics 1.9.0 with torch 2.13.0: NormalizedRootMeanSquaredError with normalization="l2" divides the root of a MEAN by the norm, which is the root
# of a SUM. The documentation says so in words ("normalizing the RMSE by ... the L2 norm of the target"), and the
# name by which reconstruction papers report ||prediction - target|| / ||target||, with which it is taken for the same, has no number of
# pixels in it. This one falls with the root of that number: of the same error 0.1 it makes 0.0004 in a picture of 256 x 256, half of that in one of
# 512 x 512, and a tenth where a hundred pictures were put in. So of two sites the one with larger matrices or more patients has the
# better model, a metric over an epoch is better than any of its batches, and "0.04%" is far below what any method reaches.
# "mean", "range" and "std" do not depend on it. scikit-image 0.26.0's normalized_root_mse ("euclidean") is the papers'. Nothing is raised or
# warned of. Remedy: times the root of the number of values, or scikit-image's.
#
# Output seen (noise of a tenth of the root mean square, the same everywhere):
#   1 of 64 x 64: l2 0.001579, std 0.20, scikit-image 0.101
#   1 of 256 x 256: l2 0.000391, std 0.20, scikit-image 0.100
#   1 of 512 x 512: l2 0.000195, std 0.20, scikit-image 0.100
#   100 of 256 x 256: l2 0.000039, std 0.20, scikit-image 0.100
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/python" -m pip install --quiet --disable-pip-version-check \
  torchmetrics==1.9.0 torch==2.13.0 numpy==2.4.6 scikit-image==0.26.0
cat > "$work/look.py" <<'PY'
import torch
from skimage.metrics import normalized_root_mse
from torchmetrics.regression import NormalizedRootMeanSquaredError

draw = torch.Generator().manual_seed(0)
for side, n_pictures in ((64, 1), (256, 1), (512, 1), (256, 100)):
    l2, std = NormalizedRootMeanSquaredError("l2"), NormalizedRootMeanSquaredError("std")
    papers = 0.0
    for _ in range(n_pictures):
        target = torch.rand(side, side, generator=draw)
        noise = torch.randn(side, side, generator=draw)
        prediction = target + 0.1 * noise * target.square().mean().sqrt()
        for metric in (l2, std):
            metric.update(prediction.flatten(), target.flatten())
        papers += float(normalized_root_mse(target.numpy(), prediction.numpy())) / n_pictures
    print(
        f"{n_pictures} of {side} x {side}: l2 {float(l2.compute()):.6f}, std {float(std.compute()):.2f}, "
        f"scikit-image {papers:.3f}"
    )
PY
"$work/env/bin/python" "$work/look.py" 2> "$work/log.txt" > "$work/seen.txt" || { tail -5 "$work/log.txt"; exit 1; }
cat "$work/seen.txt"
sed -n 's/^#   //p' "$0" > "$work/expected.txt"
cmp "$work/seen.txt" "$work/expected.txt"
