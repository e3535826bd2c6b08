#!/bin/sh
# pydicom 3.0.2: dcmread takes a file that ends inside the value of an element for a whole one. The value is as long as what
# is there, and is converted: a position of -17.6875 mm in a file that was cut after "-17" is read as -17.0. There is no
# exception and no warning. Only a file that ends inside a tag or a length is refused. Who reads the header of a file that may
# be cut off has to check that what follows the header is there, as by the size that rows, columns and bits declare.
#
# Output seen:
#   whole: [-118.125, -143.344, -17.6875]
#   cut inside the value: [-118.125, -143.344, -17.0], no warning
#   cut inside the length: EOFError or no such element
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/python" -m pip install --quiet --disable-pip-version-check pydicom==3.0.2
"$work/env/bin/python" > "$work/seen.txt" <<'PY'
import io
import warnings

from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

one = Dataset()
one.SOPClassUID, one.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.4", "2.25.1"
one.ImagePositionPatient = ["-118.125", "-143.344", "-17.6875"]
one.file_meta = FileMetaDataset()
one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
stream = io.BytesIO()
one.save_as(stream, enforce_file_format=True)
content = stream.getvalue()
at = content.index(b"-118.125")


def read(content):
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            found = dcmread(io.BytesIO(content)).get("ImagePositionPatient")
        except Exception as failure:
            return type(failure).__name__
        if found is None:
            return "no such element"
        return f"{[float(number) for number in found]}" + (", a warning" if said else ", no warning")


print("whole:", read(content).removesuffix(", no warning"))
print("cut inside the value:", read(content[: at + len("-118.125\\-143.344\\-17")]))
ended = read(content[: at - 1])
print("cut inside the length:", "EOFError or no such element" if ended in ("EOFError", "no such element") else ended)
PY
cat "$work/seen.txt"
grep -q '^whole: \[-118.125, -143.344, -17.6875\]$' "$work/seen.txt"
grep -q '^cut inside the value: \[-118.125, -143.344, -17.0\], no warning$' "$work/seen.txt"
grep -q '^cut inside the length: EOFError or no such element$' "$work/seen.txt"
