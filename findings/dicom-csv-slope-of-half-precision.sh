#!/bin/sh
# dicom-csv 0.5.1: stack_images applies each image's RescaleSlope and RescaleIntercept, and brings both into the smallest type of numpy that holds them.
# Of a fraction that is half precision (float16). It has three digits above 6e-5 and a grid of 6e-8 below that: a map whose slope is small, as ADC in
# mm^2/s or a perfusion in its SI unit, has every value wrong by the slope's rounding: 1e-6 becomes 1.0133e-6, 2e-7 becomes 1.8e-7, which is 11%
# less, and below 3e-8 the whole map is 0. The picture looks as it should, since only its scale is another. Of a series with a slope in each slice, slices
# differ by unequal roundings. The result says float32. And a whole number (2, 20) is brought into the smallest integer type: the product stays in the type of
# the stored values, and wraps: 4000 with a slope of 20 is 14464. Intercepts are rounded alike: 1000.4 becomes 1000.5. Slopes
# of 1 and intercepts of whole numbers, as of CT, are right, so what was tried on CT is believed of maps. Nothing is raised or warned of. pydicom
# 3.0.2's apply_modality_lut takes real numbers of 64 bits, and is the remedy.
#
# Output seen (the stored values 100 and 4000 times the slope, plus the intercept):
#   slope 1, intercept -1024: dicom-csv -924 2976, pydicom -924 2976
#   slope 0.244, intercept 0: dicom-csv 24.402 976.07, pydicom 24.4 976
#   slope 1e-06, intercept 0: dicom-csv 0.00010133 0.0040531, pydicom 0.0001 0.004
#   slope 2e-07, intercept 0: dicom-csv 1.7881e-05 0.00071526, pydicom 2e-05 0.0008
#   slope 2e-08, intercept 0: dicom-csv 0 0, pydicom 2e-06 8e-05
#   slope 20, intercept 0: dicom-csv 2000 14464, pydicom 2000 80000
#   slope 1, intercept 1000.4: dicom-csv 1100.5 5000.5, pydicom 1100.4 5000.4
#   two slices of one value, slopes 2e-07 and 4e-07 of 4000 and 2000: dicom-csv 0.00071526 0.00083447, pydicom 0.0008 0.0008
#   warned: nothing
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/python" -m pip install --quiet --disable-pip-version-check dicom-csv==0.5.1 pydicom==3.0.2 numpy==2.4.6
cat > "$work/look.py" <<'PY'
import warnings

import numpy as np
from dicom_csv import stack_images
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.pixels import apply_modality_lut
from pydicom.uid import ExplicitVRLittleEndian

STORED = 100, 4000


def image(slope, intercept, stored=STORED):
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = 1, len(stored), 1
    dataset.PhotometricInterpretation, dataset.PixelRepresentation = "MONOCHROME2", 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    dataset.RescaleSlope, dataset.RescaleIntercept = str(slope), str(intercept)
    dataset.PixelData = np.array(stored, dtype=np.uint16).tobytes()
    return dataset


def said(values):
    return " ".join(f"{value:.5g}" for value in np.ravel(values))


with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    for slope, intercept in ((1, -1024), (0.244, 0), (1e-6, 0), (2e-7, 0), (2e-8, 0), (20, 0), (1, 1000.4)):
        one = image(slope, intercept)
        print(f"slope {slope}, intercept {intercept}: dicom-csv {said(stack_images([one]))}, "
              f"pydicom {said(apply_modality_lut(one.pixel_array, one))}")
    pair = image(2e-7, 0, [4000]), image(4e-7, 0, [2000])
    print(f"two slices of one value, slopes 2e-07 and 4e-07 of 4000 and 2000: dicom-csv {said(stack_images(pair))}, "
          f"pydicom {said([apply_modality_lut(one.pixel_array, one) for one in pair])}")
print("warned:", "; ".join(sorted({str(warning.message) for warning in caught})) or "nothing")
PY
"$work/env/bin/python" "$work/look.py" > "$work/seen.txt" 2> "$work/errors.txt" || { cat "$work/errors.txt"; exit 1; }
cat "$work/seen.txt" "$work/errors.txt"
test ! -s "$work/errors.txt"
sed -n 's/^#   //p' "$0" > "$work/expected.txt"
cmp "$work/seen.txt" "$work/expected.txt"
