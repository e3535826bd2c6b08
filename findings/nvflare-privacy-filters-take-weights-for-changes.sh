#!/bin/sh
# nvflare 2.9.0: the filters PercentilePrivacy and SVTPrivacy take a site's weights for its change of weights. Both are of differences
# ("Only abs diff greater than this percentile is updated"; "The upper limit to truncate abs values of weight diff"), and both filter, as
# they are by default, DataKind.WEIGHTS too, which is what a site sends unless it asks for a difference: FULL is the default of ScriptRunner
# and of FLModel. PercentilePrivacy then clips every weight to 0.01 times the steps that the reply names, and to 0.01 where it names
# none: a norm's weights of 1 become 0.01, a running variance of 40 too, and a site of 100 steps keeps what one of 10 steps loses. SVTPrivacy
# sets nine tenths of the weights to 0, and the others to numbers below 0.01. The model that comes of it has the
# right names and shapes, is aggregated, and is sent to all; what is logged is a largest value and a number of passes. Remedy: sites that
# send differences (params_transfer_type DIFF), and data_kinds=["WEIGHT_DIFF"] in the filter, which then lets full weights through as they are.
#
# Output seen (a layer of weights with a deviation of 0.1, a norm of 1, running variances of 40; the largest value of each, and what is 0):
#   a model of which nothing is said is sent as DataKind.WEIGHTS
#   before: layer 0.39, norm 1.00, variance 40.00; 0% of the layer are 0
#   PercentilePrivacy, no steps named: layer 0.01, norm 0.01, variance 0.01; 10% of the layer are 0
#   PercentilePrivacy, 10 steps: layer 0.10, norm 0.10, variance 0.10; 10% of the layer are 0
#   PercentilePrivacy, 100 steps: layer 0.39, norm 1.00, variance 1.00; 10% of the layer are 0
#   SVTPrivacy: layer 0.00, norm 0.00, variance 0.00; 91% of the layer are 0
#   PercentilePrivacy, of WEIGHT_DIFF: layer 0.39, norm 1.00, variance 40.00; 0% of the layer are 0
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/python" -m pip install --quiet --disable-pip-version-check nvflare==2.9.0 numpy==2.4.6
cat > "$work/look.py" <<'PY'
import logging

import numpy as np
from nvflare.apis.dxo import from_shareable
from nvflare.apis.fl_constant import FLMetaKey
from nvflare.apis.fl_context import FLContext
from nvflare.app_common.abstract.fl_model import FLModel
from nvflare.app_common.filters.percentile_privacy import PercentilePrivacy
from nvflare.app_common.filters.svt_privacy import SVTPrivacy
from nvflare.app_common.utils.fl_model_utils import FLModelUtils

logging.disable(logging.CRITICAL)
draw = np.random.default_rng(0)
WEIGHTS = {
    "layer": draw.normal(0, 0.1, (16, 16, 3, 3)).astype("float32"),
    "norm": np.ones(16, "float32"),
    "variance": np.full(16, 40, "float32"),
}


def answer(n_steps=None):
    meta = {} if n_steps is None else {FLMetaKey.NUM_STEPS_CURRENT_ROUND: n_steps}
    params = {name: value.copy() for name, value in WEIGHTS.items()}
    return FLModelUtils.to_shareable(FLModel(params=params, meta=meta))


def show(case, shareable):
    weights = from_shareable(shareable).data
    largest = ", ".join(f"{name} {np.abs(value).max():.2f}" for name, value in weights.items())
    print(f"{case}: {largest}; {100 * np.mean(weights['layer'] == 0):.0f}% of the layer are 0")


np.random.seed(0)
print(f"a model of which nothing is said is sent as {from_shareable(answer()).data_kind}")
show("before", answer())
show("PercentilePrivacy, no steps named", PercentilePrivacy().process(answer(), FLContext()))
show("PercentilePrivacy, 10 steps", PercentilePrivacy().process(answer(10), FLContext()))
show("PercentilePrivacy, 100 steps", PercentilePrivacy().process(answer(100), FLContext()))
show("SVTPrivacy", SVTPrivacy().process(answer(), FLContext()))
show("PercentilePrivacy, of WEIGHT_DIFF", PercentilePrivacy(data_kinds=["WEIGHT_DIFF"]).process(answer(), FLContext()))
PY
"$work/env/bin/python" "$work/look.py" 2> "$work/log.txt" > "$work/seen.txt" || { tail -5 "$work/log.txt"; exit 1; }
cat "$work/seen.txt"
sed -n 's/^#   //p' "$0" > "$work/expected.txt"
cmp "$work/seen.txt" "$work/expected.txt"
