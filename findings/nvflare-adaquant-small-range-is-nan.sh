#!/bin/sh
# nvflare 2.9.0 with torch 2.13.0: the filters ModelQuantizer("adaquant") and ModelDequantizer choose the number of levels of an array by
# its range in absolute numbers: the root of 4436 times the range (32 bits, a weight of 0.01), to the next power of two, less one. An
# array of a range below 0.00023 gets no level, is divided by 0, and arrives as NaN, every value; to 0.0009 it gets one bit. So much is
# what one step of Adam at 1e-4 makes of a layer that began at one value, as norms and zero biases do: sent as weights, the norm is NaN
# after it, and so is the mean of all sites; sent as differences (WEIGHT_DIFF), which are that small by their nature, the whole model
# is. Where a site trains longer before it answers the model arrives, its differences in three bits or less: what is coarse is decided
# by the learning rate. The filter's log says how many MB it saved, and of the rest nothing; the docstring calls the weight of 0.01 a
# "trade-off between quantization size and error". An array of one value is right. Remedy: float16, which keeps every array,
# or a look for NaN at all that arrives, before the mean.
#
# Output seen (uniform values of a range; then a network of two convolutions and a GroupNorm between them):
#   range 1: 128 values, off by 0.8%
#   range 0.1: 32 values, off by 3.2%
#   range 0.01: 8 values, off by 14.6%
#   range 0.001: 4 values, off by 32.8%
#   range 0.0008: 2 values, off by 102.0%
#   range 0.0002: NaN, all
#   weights after 1 step of Adam: NaN in 1.weight 1.bias, a picture of the network is NaN
#   differences after 1 step of Adam: NaN in 0.weight 0.bias 1.weight 1.bias 3.weight, a picture of the network is NaN
#   weights after 1 step of Adam, float16: NaN in nothing, a picture of the network is off by 0%
#   weights after 20 steps of Adam: NaN in nothing, a picture of the network is off by 5%
#   differences after 20 steps of Adam: NaN in nothing, a picture of the network is off by 3%
#   logged of NaN or of levels, warned of NaN: nothing
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/python" -m pip install --quiet --disable-pip-version-check nvflare==2.9.0 torch==2.13.0 numpy==2.4.6
cat > "$work/look.py" <<'PY'
import logging
import sys
import warnings
from unittest.mock import MagicMock

import torch
from nvflare.apis.dxo import DXO, DataKind
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable

# The filters import bitsandbytes for their other kinds, which need a GPU.
for name in ("bitsandbytes", "bitsandbytes.functional"):
    sys.modules[name] = MagicMock()
from nvflare.app_opt.pt.quantization.dequantizer import ModelDequantizer
from nvflare.app_opt.pt.quantization.quantizer import ModelQuantizer

Arrays = dict[str, torch.Tensor]
told: list[str] = []


class Kept(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        told.append(record.getMessage())


def arrived(arrays: Arrays, kind: str = "adaquant", data_kind: str = DataKind.WEIGHTS) -> Arrays:
    dxo = DXO(data_kind, data={name: values.clone() for name, values in arrays.items()})
    sent = ModelQuantizer(kind).process_dxo(dxo, Shareable(), FLContext())
    return ModelDequantizer().process_dxo(sent, Shareable(), FLContext()).data


def say_range(width: float) -> None:
    values = (torch.rand(1000) - 0.5) * width
    result = arrived({"values": values})["values"]
    off = float((result - values).norm() / values.norm())
    alike = "NaN, all" if result.isnan().all() else f"{len(result.unique())} values, off by {off:.1%}"
    print(f"range {width:g}: {alike}")


def say(name: str, result: Arrays) -> None:
    wrong = " ".join(key for key, values in result.items() if values.isnan().any())
    with torch.no_grad():
        expected = network(picture)
        seen = torch.func.functional_call(network, result, picture)
    off = float((seen - expected).norm() / expected.norm())
    print(f"{name}: NaN in {wrong or 'nothing'}, a picture of the network is {'NaN' if off != off else f'off by {off:.0%}'}")


logging.basicConfig(handlers=[Kept()], level=logging.INFO)
torch.set_num_threads(1)
with warnings.catch_warnings(record=True) as warned:
    warnings.simplefilter("always")
    torch.manual_seed(0)
    for width in (1, 0.1, 0.01, 0.001, 0.0008, 0.0002):
        say_range(width)
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(1, 32, 3, padding=1), torch.nn.GroupNorm(4, 32), torch.nn.ReLU(), torch.nn.Conv2d(32, 1, 3, padding=1)
    )
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4)
    before = {name: values.clone() for name, values in network.state_dict().items()}
    picture = torch.rand(4, 1, 32, 32)
    for step in range(1, 21):
        optimizer.zero_grad()
        ((network(picture) - picture) ** 2).mean().backward()
        optimizer.step()
        if step in (1, 20):
            weights = {name: values.clone() for name, values in network.state_dict().items()}
            steps = f"{step} step{'s' * (step > 1)} of Adam"
            say(f"weights after {steps}", arrived(weights))
            differences = {name: values - before[name] for name, values in weights.items()}
            moved = arrived(differences, data_kind=DataKind.WEIGHT_DIFF)
            say(f"differences after {steps}", {name: before[name] + values for name, values in moved.items()})
        if step == 1:
            say(f"weights after {steps}, float16", arrived(weights, "float16"))
told += [str(one.message) for one in warned]
hits = [line for line in told if "nan" in line.lower() or "level" in line]
print("logged of NaN or of levels, warned of NaN:", "; ".join(hits) or "nothing")
PY
"$work/env/bin/python" "$work/look.py" 2> "$work/log.txt" > "$work/seen.txt" || { tail -5 "$work/log.txt"; exit 1; }
cat "$work/seen.txt"
sed -n 's/^#   //p' "$0" > "$work/expected.txt"
cmp "$work/seen.txt" "$work/expected.txt"
