#!/bin/sh
# pydicom 3.0.2: Dataset.compress with a lossy syntax (JPEG 2000 with j2k_cr, JPEG-LS with jls_error) changes the pixels and
# says nothing of it in the object: LossyImageCompression stays "00" or away, and there is no ratio and no method, though the
# standard wants "01" in an object that was ever compressed so, and its ratio and method beside it (PS3.3 C.7.6.1.1.5).
# ImageType stays ORIGINAL. Once decompressed nothing tells any more: the syntax is Explicit VR Little Endian, the flag says
# "not subjected to lossy compression", and the values are others. What the documentation of compress says is added or updated
# names none of the three elements. Who takes pixels as the scanner made them, or as the truth to train on, cannot go by the flag.
#
# Output seen (a ramp with noise, 12 bits; ratio 20, or an error of up to 5):
#   JPEG 2000: syntax lossy, flag 00, ratio none, method none, type ORIGINAL, values changed yes
#   JPEG 2000 decompressed: syntax native, flag 00, ratio none, method none, type ORIGINAL, values changed yes
#   JPEG-LS: syntax lossy, flag 00, ratio none, method none, type ORIGINAL, values changed yes
#   JPEG-LS decompressed: syntax native, flag 00, ratio none, method none, type ORIGINAL, values changed yes
#   warnings: none
#   the documentation of compress names LossyImageCompression: no
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/python" -m pip install --quiet --disable-pip-version-check pydicom==3.0.2 numpy==2.4.6 \
  pylibjpeg==2.1.0 pylibjpeg-openjpeg==2.6.0 pyjpegls==1.5.1
cat > "$work/look.py" <<'PY'
import warnings

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import JPEG2000, ExplicitVRLittleEndian, JPEGLSNearLossless

SIDE = 64
VALUES = (np.arange(SIDE) * 50 + np.random.default_rng(0).normal(0, 40, (SIDE, SIDE))).clip(0, 4095).astype("<u2")


def image():
    one = Dataset()
    one.SOPClassUID, one.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.4", "2.25.1"
    one.ImageType, one.Modality = ["ORIGINAL", "PRIMARY", "M"], "MR"
    one.Rows = one.Columns = SIDE
    one.SamplesPerPixel, one.PhotometricInterpretation = 1, "MONOCHROME2"
    one.BitsAllocated, one.BitsStored, one.HighBit, one.PixelRepresentation = 16, 12, 11, 0
    one.LossyImageCompression = "00"
    one.PixelData = VALUES.tobytes()
    one.file_meta = FileMetaDataset()
    one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return one


def show(name, one):
    native = one.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    print(
        f"{name}: syntax {'native' if native else 'lossy'}, flag {one.get('LossyImageCompression', 'none')}, "
        f"ratio {one.get('LossyImageCompressionRatio', 'none')}, method {one.get('LossyImageCompressionMethod', 'none')}, "
        f"type {one.ImageType[0]}, values changed {'no' if np.array_equal(one.pixel_array, VALUES) else 'yes'}"
    )


with warnings.catch_warnings(record=True) as seen:
    warnings.simplefilter("always")
    for name, syntax, options in (
        ("JPEG 2000", JPEG2000, {"j2k_cr": [20]}),
        ("JPEG-LS", JPEGLSNearLossless, {"jls_error": 5}),
    ):
        one = image()
        one.compress(syntax, **options)
        show(name, one)
        one.decompress()
        show(f"{name} decompressed", one)
print("warnings:", len(seen) or "none")
named = "lossyimagecompression" in (Dataset.compress.__doc__ or "").lower().replace(" ", "")
print("the documentation of compress names LossyImageCompression:", "yes" if named else "no")
PY
"$work/env/bin/python" "$work/look.py" > "$work/seen.txt" 2> "$work/errors.txt"
cat "$work/seen.txt" "$work/errors.txt"
sed -n 's/^#   //p' "$0" > "$work/expected.txt"
cmp "$work/seen.txt" "$work/expected.txt"
