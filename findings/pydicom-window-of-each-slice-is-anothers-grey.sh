#!/bin/sh
# pydicom 3.0.2: apply_voi_lut and apply_windowing lay a window onto an output range that is the image's own: what BitsStored can hold, times
# RescaleSlope, plus RescaleIntercept. In a series in which each slice has a slope of its own (PET; maps that were fitted slice by slice) the same value, in
# the same window, is thus another grey in every slice: here 1000 in a window of 0 to 2000 becomes 512 in one slice and 4097 in another. That is what
# the window was to prevent. Stacked and divided by the largest, as it is done before a picture is saved or a network sees it, slices of a large
# slope are bright and the others nearly black, and an active lesion is where the slope is large. Series of one slope, as most of MR and CT are, show nothing.
# The range is 12 or 16 bits and seldom 8, so everybody divides. The docstring says of the result "An array with applied windowing operation" and names no
# range. Nothing is raised or warned of. highdicom 0.28.2 (get_frame with apply_voi_transform) takes the range that is asked for, 0 to 1 by
# default. Remedy: that, or the window by hand: (value - center) / width + 0.5.
#
# Output seen (four slices of 1000, window of 0 to 2000: the values after the slope, and after the window; and a shown slice of 8 bits by the stack's largest):
#   slope 0.25: value 1000, pydicom 512, highdicom 0.50, shown 32
#   slope 0.5: value 1000, pydicom 1024, highdicom 0.50, shown 64
#   slope 1: value 1000, pydicom 2049, highdicom 0.50, shown 128
#   slope 2: value 1000, pydicom 4097, highdicom 0.50, shown 255
#   warned: nothing
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/python" -m pip install --quiet --disable-pip-version-check pydicom==3.0.2 highdicom==0.28.2 numpy==2.4.6
cat > "$work/look.py" <<'PY'
import pathlib
import sys
import warnings

import highdicom
import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.pixels import apply_modality_lut, apply_voi_lut
from pydicom.uid import ExplicitVRLittleEndian, PositronEmissionTomographyImageStorage

FILE = pathlib.Path(sys.argv[1]) / "image.dcm"
SLOPES = 0.25, 0.5, 1, 2


def image(values, slope):
    """A slice of PET whose rescaled values are `values`, with a window of 0 to 2000."""
    stored = np.array(values, dtype=np.float64) / slope
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = PositronEmissionTomographyImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = "2.25.1"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.FrameOfReferenceUID = "2.25.2", "2.25.3", "2.25.4"
    dataset.Modality, dataset.InstanceNumber, dataset.PatientID = "PT", 1, "1"
    dataset.ImagePositionPatient, dataset.ImageOrientationPatient = [0, 0, 0], [1, 0, 0, 0, 1, 0]
    dataset.PixelSpacing, dataset.SliceThickness = [1, 1], 3
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, stored.size, 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 0
    dataset.RescaleSlope, dataset.RescaleIntercept, dataset.RescaleType = slope, 0, "US"
    dataset.WindowCenter, dataset.WindowWidth, dataset.VOILUTFunction = 1000, 2000, "LINEAR"
    dataset.PixelData = np.round(stored).astype(np.uint16).tobytes()
    return dataset


def windowed(dataset):
    return apply_voi_lut(apply_modality_lut(dataset.pixel_array, dataset), dataset)


with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    slices = [image([1000, 1000], slope) for slope in SLOPES]
    stack = np.stack([windowed(dataset) for dataset in slices])
    for slope, dataset, ours in zip(SLOPES, slices, stack, strict=True):
        dataset.save_as(FILE, enforce_file_format=True)
        value = apply_modality_lut(dataset.pixel_array, dataset)[0, 0]
        other = highdicom.imread(FILE).get_frame(1, apply_voi_transform=True)[0, 0]
        print(f"slope {slope}: value {value:.0f}, pydicom {ours[0, 0]:.0f}, highdicom {other:.2f}, shown {ours[0, 0] / stack.max() * 255:.0f}")
print("warned:", "; ".join(sorted({str(warning.message) for warning in caught})) or "nothing")
PY
"$work/env/bin/python" "$work/look.py" "$work" > "$work/seen.txt" 2> "$work/errors.txt" || { cat "$work/errors.txt"; exit 1; }
cat "$work/seen.txt" "$work/errors.txt"
test ! -s "$work/errors.txt"
sed -n 's/^#   //p' "$0" > "$work/expected.txt"
cmp "$work/seen.txt" "$work/expected.txt"
