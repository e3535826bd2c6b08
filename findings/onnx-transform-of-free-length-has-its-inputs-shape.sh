#!/bin/sh
# onnx 1.23.2: the output of DFT has `dft_length` values along its axis. Where that is no constant of the graph and the
# input's side is a free dimension, shape inference gives the output the input's dimension by name: two sides are called the
# same that are not. Of a side that is a number it says, rightly, that nothing is known. ONNX Runtime 1.32.0 plans its memory by such
# names: an inverse real transform, of k // 2 + 1 coefficients to k values, is given a buffer that fits the coefficients, and
# ends with "Shape mismatch attempting to re-use buffer", which blames the model's shapes, though the file declares none between.
# The same node runs where the memory is not used again, and both give numpy's values there. The inverse real transforms
# of a network that torch 2.13 exports with free sides are of this kind: it looks as if the runtime had no such transform.
#
# Output seen (9 coefficients to 16 values):
#   inferred for a side named k: 1, 4, k, 1
#   inferred for a side of 9: 1, 4, unknown, 1
#   reference evaluator: as numpy
#   ONNX Runtime: Shape mismatch attempting to re-use buffer
#   ONNX Runtime without re-use: as numpy
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/python" -m pip install --quiet --disable-pip-version-check onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
"$work/env/bin/python" > "$work/seen.txt" <<'PY'
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

onnxruntime.set_default_logger_severity(4)
CONSTANTS = {"zero": [0], "one": [1], "two": [2], "last": [3], "axis": 2}


def transform_of(side):
    """z, with real and imaginary part last, is taken apart and put together again, as exporters write complex numbers."""
    nodes = [
        helper.make_node("Slice", ["z", "zero", "one", "last"], ["real"]),
        helper.make_node("Slice", ["z", "one", "two", "last"], ["imaginary"]),
        helper.make_node("Neg", ["real"], ["negative_real"]),
        helper.make_node("Neg", ["imaginary"], ["negative_imaginary"]),
        helper.make_node("Concat", ["negative_real", "negative_imaginary"], ["negative"], axis=3),
        helper.make_node("DFT", ["negative", "length", "axis"], ["transformed"], inverse=1, onesided=1),
        helper.make_node("Squeeze", ["transformed", "last"], ["squeezed"]),
        helper.make_node("Neg", ["squeezed"], ["out"]),
    ]
    inputs = [
        helper.make_tensor_value_info("z", TensorProto.FLOAT, [1, 4, side, 2]),
        helper.make_tensor_value_info("length", TensorProto.INT64, []),
    ]
    outputs = [helper.make_tensor_value_info("out", TensorProto.FLOAT, [1, 4, "m"])]
    constants = [numpy_helper.from_array(np.array(value, np.int64), name) for name, value in CONSTANTS.items()]
    graph = helper.make_graph(nodes, "graph", inputs, outputs, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def inferred(model):
    values = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph.value_info
    (found,) = (one for one in values if one.name == "transformed")
    sides = [one.dim_value or one.dim_param for one in found.type.tensor_type.shape.dim]
    return ", ".join("unknown" if str(one).startswith("unk") else str(one) for one in sides)


z = np.random.default_rng(0).normal(size=(1, 4, 9, 2)).astype(np.float32)
given = {"z": z, "length": np.array(16, np.int64)}
true = np.fft.irfft(z[..., 0] + 1j * z[..., 1], n=16, axis=2)


def against_numpy(found):
    return "as numpy" if found.shape == true.shape and np.abs(found - true).max() < 1e-5 else f"other, {found.shape}"


def in_runtime(model, *, reuse):
    options = onnxruntime.SessionOptions()
    options.enable_mem_reuse, options.log_severity_level = reuse, 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    try:
        return against_numpy(session.run(None, given)[0])
    except Exception as failure:
        words = "Shape mismatch attempting to re-use buffer"
        return words if words in str(failure) else str(failure)


free = transform_of("k")
onnx.checker.check_model(free, full_check=True)
print("inferred for a side named k:", inferred(free))
print("inferred for a side of 9:", inferred(transform_of(9)))
print("reference evaluator:", against_numpy(ReferenceEvaluator(free).run(None, given)[0]))
print("ONNX Runtime:", in_runtime(free, reuse=True))
print("ONNX Runtime without re-use:", in_runtime(free, reuse=False))
PY
cat "$work/seen.txt"
sed -n 's/^#   //p' "$0" > "$work/expected.txt"
cmp "$work/expected.txt" "$work/seen.txt"
