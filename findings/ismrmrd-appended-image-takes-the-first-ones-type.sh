#!/bin/sh
# ismrmrd 1.15.0: Dataset.append_image keeps all images of one name in one HDF5 dataset, whose type is that of the first. An image
# of another type that is appended later is converted to it: of a T1 in seconds, a phase in radians or a difference that follows a
# magnitude of uint16 the fractions are cut off, what is negative becomes 0, and what is too large the largest number.
# Each image has a header of its own, which keeps its own type. So read_image gives an array of float32 that has lost
# its fractions: nothing in it tells. Nothing is raised, warned of or printed; of a complex image after a real one
# it is an OSError, and of another size a TypeError, so that the two mistakes that show are believed to be all. append_array does
# the same. A comment in append_image has it that equality is checked there, and no line does. Remedies: a name for each type of image,
# or the first image as float.
#
# Output seen (uint16 of 1000 first, but in the last line; then the type and the values said):
#   float32 0.75 1.3: float32 0 1
#   float32 -3.1 3.1: float32 0 3
#   float32 -0.5 70000.5: float32 0 65535
#   int16 -7 7: int16 0 7
#   float64 0.25 4095.5: float64 0 4095
#   array of float64 0.75 1.3, after uint16: uint16 0 1
#   float32 0.75 1.3 under another name: float32 0.75 1.3
#   float32 0.75 1.3 after a float32: float32 0.75 1.3
#   warned: nothing
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/python" -m pip install --quiet --disable-pip-version-check ismrmrd==1.15.0 h5py==3.16.0 numpy==2.3.5
cat > "$work/look.py" <<'PY'
import sys
import warnings
from pathlib import Path

import ismrmrd
import numpy as np

work = Path(sys.argv[1])
FIRST = np.full((2, 4), 1000, np.uint16)


def said_of(array):
    return " ".join(f"{number:.7g}" for number in np.unique(array))


def appended(file, values, dtype, first=FIRST, name="image_0"):
    later = np.resize(np.asarray(values, dtype), (2, 4))
    data = ismrmrd.Dataset(work / file, "dataset", True)
    data.append_image("image_0", ismrmrd.Image.from_array(first, transpose=False))
    data.append_image(name, ismrmrd.Image.from_array(later, transpose=False))
    data.close()
    data = ismrmrd.Dataset(work / file, "dataset", False)
    found = data.read_image(name, data.number_of_images(name) - 1).data
    data.close()
    return f"{found.dtype} {said_of(found)}"


with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    cases = [("float32", (0.75, 1.3)), ("float32", (-3.1, 3.1)), ("float32", (-0.5, 70000.5)), ("int16", (-7, 7)), ("float64", (0.25, 4095.5))]
    for number, (dtype, values) in enumerate(cases):
        print(f"{dtype} {said_of(np.asarray(values))}: {appended(f'{number}.h5', values, dtype)}")
    data = ismrmrd.Dataset(work / "array.h5", "dataset", True)
    data.append_array("map", FIRST)
    data.append_array("map", np.resize([0.75, 1.3], (2, 4)))
    found = data.read_array("map", 1)
    print(f"array of float64 0.75 1.3, after uint16: {found.dtype} {said_of(found)}")
    data.close()
    print("float32 0.75 1.3 under another name:", appended("name.h5", (0.75, 1.3), "float32", name="image_1"))
    print("float32 0.75 1.3 after a float32:", appended("float.h5", (0.75, 1.3), "float32", first=FIRST.astype(np.float32)))
print("warned:", "; ".join(sorted({str(one.message) for one in said})) or "nothing")
PY
"$work/env/bin/python" "$work/look.py" "$work" > "$work/seen.txt" 2> "$work/log.txt"
cat "$work/seen.txt" "$work/log.txt"
cat > "$work/expected.txt" <<'TXT'
float32 0.75 1.3: float32 0 1
float32 -3.1 3.1: float32 0 3
float32 -0.5 70000.5: float32 0 65535
int16 -7 7: int16 0 7
float64 0.25 4095.5: float64 0 4095
array of float64 0.75 1.3, after uint16: uint16 0 1
float32 0.75 1.3 under another name: float32 0.75 1.3
float32 0.75 1.3 after a float32: float32 0.75 1.3
warned: nothing
TXT
cmp "$work/expected.txt" "$work/seen.txt"
