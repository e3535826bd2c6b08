#!/bin/sh
# safetensors 0.8.0 with numpy 2.3.5: safetensors.numpy.save_file writes the memory of an array that is not in C order as
# it lies, under the array's shape. What is read back has the right shape and dtype and its values in other places; nothing
# is raised. safetensors 0.7.0 wrote the values in their places. np.ascontiguousarray before the call is the remedy.
#
# Output seen:
#   0.7.0 fortran order: same
#   0.7.0 transposed view: same
#   0.8.0 fortran order: other values
#   0.8.0 transposed view: other values
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
cat > "$work/look.py" <<'PY'
import sys

import numpy as np
import safetensors
from safetensors.numpy import load_file, save_file

array = np.arange(6, dtype=np.float32).reshape(2, 3)
for name, given in (("fortran order", np.asfortranarray(array)), ("transposed view", array.T)):
    save_file({"a": given}, sys.argv[1])
    same = np.array_equal(load_file(sys.argv[1])["a"], given)
    print(safetensors.__version__, f"{name}:", "same" if same else "other values")
PY
for version in 0.7.0 0.8.0; do
  "$work/env/bin/python" -m pip install --quiet --disable-pip-version-check "safetensors==$version" numpy==2.3.5
  "$work/env/bin/python" "$work/look.py" "$work/file.safetensors" >> "$work/seen.txt"
done
cat "$work/seen.txt"
cat > "$work/expected.txt" <<'TXT'
0.7.0 fortran order: same
0.7.0 transposed view: same
0.8.0 fortran order: other values
0.8.0 transposed view: other values
TXT
cmp "$work/expected.txt" "$work/seen.txt"
