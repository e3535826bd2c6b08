#!/bin/sh
# torch 2.13.0: interpolate(..., antialias=True) is another interpolation in an enlargement too, where there is nothing to
# filter. (1) Bicubic is the cubic convolution with a = -0.5 (Keys', Pillow's) in place of -0.75; bilinear stays the same.
# (2) With align_corners=True the places are (i + 0.5) s - 0.5 with the corners' scale s = (n - 1) / (N - 1): the corners do not
# meet, and all of the picture lies (1 - s) / 2 of an input pixel aside. Its documentation says of align_corners "aligned by the
# center points of their corner pixels, preserving the values at the corner pixels", and that with align_corners=False the result
# is Pillow's "for downsampling operation". (3) A network with such a layer is exported to ONNX without an error, and is another:
# Resize with align_corners and antialias does meet the corners, in ONNX Runtime 1.32.0 and in ONNX's own reference.
#
# Output seen:
#   bicubic, twice as large, between two samples of an impulse: -0.0352 -0.1055 0.2617 0.8789 0.8789 0.2617 -0.1055 -0.0352
#   the same with antialias: -0.0234 -0.0703 0.2266 0.8672 0.8672 0.2266 -0.0703 -0.0234
#   cubic convolution, a = -0.75: -0.0352 -0.1055 0.2617 0.8789 0.8789 0.2617 -0.1055 -0.0352
#   cubic convolution, a = -0.5: -0.0234 -0.0703 0.2266 0.8672 0.8672 0.2266 -0.0703 -0.0234
#   bilinear, the same with and without: yes
#   the ramp 0 to 7 on 15 samples, corners aligned: 0 0.5 1 1.5 2 2.5 3 3.5 4 4.5 5 5.5 6 6.5 7
#   the same with antialias: 0 0.25 0.75 1.25 1.75 2.25 2.75 3.25 3.75 4.25 4.75 5.25 5.75 6.25 6.75
#   the same exported, ONNX Runtime: 0 0.5 1 1.5 2 2.5 3 3.5 4 4.5 5 5.5 6 6.5 7
#   the same exported, ONNX's reference: 0 0.5 1 1.5 2 2.5 3 3.5 4 4.5 5 5.5 6 6.5 7
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/python" -m pip install --quiet --disable-pip-version-check \
  torch==2.13.0 numpy==2.4.6 onnx==1.23.2 onnxscript==0.7.2 onnxruntime==1.32.0
cat > "$work/look.py" <<'PY'
import contextlib
import io
import logging
import warnings

import onnxruntime
import torch
from onnx.reference import ReferenceEvaluator
from torch.nn.functional import interpolate


def say(what, values):
    print(f"{what}:", *(f"{float(value):.4f}".rstrip("0").rstrip(".") for value in values))


def keys(distance, a):
    s = abs(distance)
    near, far = (a + 2) * s**3 - (a + 3) * s**2 + 1, a * (s**3 - 5 * s**2 + 8 * s - 4)
    return near if s <= 1 else far if s < 2 else 0


impulse = torch.zeros(1, 1, 16, 16)
impulse[..., 8] = 1
wide = [interpolate(impulse, size=(16, 32), mode="bicubic", antialias=one)[0, 0, 8, 13:21] for one in (False, True)]
say("bicubic, twice as large, between two samples of an impulse", wide[0])
say("the same with antialias", wide[1])
for a in (-0.75, -0.5):
    say(f"cubic convolution, a = {a}", [keys((place + 0.5) / 2 - 0.5 - 8, a) for place in range(13, 21)])
plain, smooth = (interpolate(impulse, size=(16, 32), mode="bilinear", antialias=one) for one in (False, True))
print("bilinear, the same with and without:", "yes" if torch.allclose(plain, smooth) else "no")


class Enlarge(torch.nn.Module):
    def __init__(self, antialias):
        super().__init__()
        self.antialias = antialias

    def forward(self, image):
        return interpolate(image, size=(8, 15), mode="bilinear", align_corners=True, antialias=self.antialias)


ramp = torch.arange(8.0).expand(1, 1, 8, 8).contiguous()
say("the ramp 0 to 7 on 15 samples, corners aligned", Enlarge(False)(ramp)[0, 0, 4])
say("the same with antialias", Enlarge(True)(ramp)[0, 0, 4])
logging.disable(logging.WARNING)  # of torchvision, which is not there
with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
    warnings.simplefilter("ignore")
    model = torch.onnx.export(Enlarge(True).eval(), (ramp,), dynamo=True, verbose=False).model_proto
given = {model.graph.input[0].name: ramp.numpy()}
session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
say("the same exported, ONNX Runtime", session.run(None, given)[0][0, 0, 4])
say("the same exported, ONNX's reference", ReferenceEvaluator(model).run(None, given)[0][0, 0, 4])
PY
"$work/env/bin/python" "$work/look.py" > "$work/seen.txt"
cat "$work/seen.txt"
sed -n 's/^#   //p' "$0" > "$work/expected.txt"
cmp "$work/seen.txt" "$work/expected.txt"
