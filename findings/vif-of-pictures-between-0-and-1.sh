#!/bin/sh
# torchmetrics 1.9.0 with torch 2.13.0, and sewar 0.4.10: visual information fidelity (VIF, pixel domain) has a constant in it, the
# variance of the eye's noise, 2.0 for grey values of 0 to 255. Neither function takes a range, looks at the values or says
# in its documentation what they should be; torchmetrics' example has values around 0 with a deviation of 1. Of pictures between 0 and 1,
# as networks give them, nearly nothing is above that noise: a prediction with a noise of a twentieth of the range has a fidelity
# of more than 1, better than the truth, more noise has more than less, and noise that hides the picture has 0.94. Which of two
# methods is the better one is turned round: a noisy picture is then far ahead of a blurred one, and was far behind. Of
# 12 bits it is the opposite, all figures are too low. Figures of papers and of sites with other units cannot be compared. Nothing is
# raised or warned of. Remedy: 255 / range times both pictures, or a function that asks for the range (piq's vif_p).
#
# Output seen (a smooth picture; noise as a share of the range; the same pictures in other units):
#   noise of 0.02: 0 to 255 0.63, sewar 0.63; 0 to 1 0.998, sewar 0.998; 0 to 4095 0.36, sewar 0.36
#   noise of 0.05: 0 to 255 0.39, sewar 0.39; 0 to 1 1.003, sewar 1.003; 0 to 4095 0.21, sewar 0.21
#   noise of 0.2: 0 to 255 0.13, sewar 0.13; 0 to 1 0.938, sewar 0.938; 0 to 4095 0.06, sewar 0.06
#   blurred by 4 pixels: 0 to 255 0.26, sewar 0.26; 0 to 1 0.162, sewar 0.162; 0 to 4095 0.14, sewar 0.14
#   the class VisualInformationFidelity, noise of 0.05, 0 to 1: 1.003
#   warned: nothing
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/python" -m pip install --quiet --disable-pip-version-check \
    torchmetrics==1.9.0 torch==2.13.0 sewar==0.4.10 scipy==1.17.1 numpy==2.4.6
cat > "$work/look.py" <<'PY'
import warnings

import numpy as np
import sewar
import torch
from scipy.ndimage import gaussian_filter
from torchmetrics.functional.image import visual_information_fidelity
from torchmetrics.image import VisualInformationFidelity


def tensor(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(values)[None, None]


def say(name: str, prediction: np.ndarray) -> None:
    parts = []
    for largest, digits in ((255, 2), (1, 3), (4095, 2)):
        pair = largest * prediction, largest * target
        here = float(visual_information_fidelity(*map(tensor, pair)))
        there = float(sewar.vifp(pair[1], pair[0]))
        parts.append(f"0 to {largest} {here:.{digits}f}, sewar {there:.{digits}f}")
    print(f"{name}: {'; '.join(parts)}")


rng = np.random.default_rng(0)
smooth = gaussian_filter(rng.random((256, 256)), 3)
target = (smooth - smooth.min()) / (smooth.max() - smooth.min())
noisy = {share: np.clip(target + share * rng.standard_normal(target.shape), 0, 1) for share in (0.02, 0.05, 0.2)}
with warnings.catch_warnings(record=True) as warned:
    warnings.simplefilter("always")
    for share, prediction in noisy.items():
        say(f"noise of {share}", prediction)
    say("blurred by 4 pixels", gaussian_filter(target, 4))
    metric = VisualInformationFidelity()
    metric.update(tensor(noisy[0.05]), tensor(target))
    print(f"the class VisualInformationFidelity, noise of 0.05, 0 to 1: {float(metric.compute()):.3f}")
told = [str(one.message) for one in warned if "range" in str(one.message)]
print("warned:", "; ".join(told) or "nothing")
PY
"$work/env/bin/python" "$work/look.py" 2> "$work/log.txt" > "$work/seen.txt" || { tail -5 "$work/log.txt"; exit 1; }
cat "$work/seen.txt"
sed -n 's/^#   //p' "$0" > "$work/expected.txt"
cmp "$work/seen.txt" "$work/expected.txt"
