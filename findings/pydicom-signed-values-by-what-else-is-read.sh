#!/bin/sh
# pydicom 3.0.2: dcmread with specific_tags, which is the quick way to look through many headers, gives other values than a whole
# header. The values that stand for pixels (padding, smallest and largest, ends of a real world value mapping) have no type of their own in a
# file of Implicit VR, the default of DICOM: they are signed where PixelRepresentation is 1. Of a file in which that one was not asked for,
# pydicom takes them for unsigned. So the padding of a CT is 63536 and not -2000, no voxel is equal to it, and what lies outside the scan
# is in the mean; a window or a histogram that starts at the smallest value starts above the largest. A slice of a whole header
# (dataset[0x00280106:0x00280108]) does the same for what was not looked at before. The documentation of specific_tags has that
# SpecificCharacterSet is always returned, since text needs it; PixelRepresentation, which numbers need, is not. Explicit VR
# is right, and so are values from 0 to 32767. Nothing is raised or warned of. Remedy: "PixelRepresentation" in the list.
#
# Output seen (a picture in int16 from -2000, its padding, to 1200; Implicit VR where nothing is said):
#   whole header: smallest -2000, largest 1200, padding -2000, mapped -1000 to 1200
#   specific_tags: smallest 63536, largest 1200, padding 63536, mapped 64536 to 1200
#   specific_tags, explicit VR: smallest -2000, largest 1200, padding -2000, mapped -1000 to 1200
#   specific_tags with PixelRepresentation: smallest -2000, largest 1200, padding -2000, mapped -1000 to 1200
#   a slice of the whole header: smallest 63536 largest 1200
#   mean of what is no padding, padding by whole header: 100, of 16 voxels
#   mean of what is no padding, padding by specific_tags: -1475, of 64 voxels
#   warned: nothing
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/python" -m pip install --quiet --disable-pip-version-check pydicom==3.0.2 numpy==2.4.6
cat > "$work/look.py" <<'PY'
import sys
import warnings
from pathlib import Path

import numpy as np
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian

LOOKED_FOR = ["SmallestImagePixelValue", "LargestImagePixelValue", "PixelPaddingValue", "RealWorldValueMappingSequence"]


def write(path: Path, *, implicit: bool) -> None:
    values = np.full((8, 8), -2000, np.int16)
    values[2:6, 2:6] = np.linspace(-1000, 1200, 16).reshape(4, 4)
    one = Dataset()
    one.SOPClassUID, one.SOPInstanceUID, one.StudyInstanceUID, one.SeriesInstanceUID = CTImageStorage, "2.25.1", "2.25.2", "2.25.3"
    one.Modality, one.PatientName, one.PatientID, one.InstanceNumber = "CT", "A^B", "1", 1
    one.Rows, one.Columns, one.SamplesPerPixel, one.PhotometricInterpretation = 8, 8, 1, "MONOCHROME2"
    one.BitsAllocated, one.BitsStored, one.HighBit, one.PixelRepresentation = 16, 16, 15, 1
    one.RescaleIntercept, one.RescaleSlope = 0, 1
    one.SmallestImagePixelValue, one.LargestImagePixelValue, one.PixelPaddingValue = -2000, 1200, -2000
    mapping = Dataset()
    mapping.LUTLabel, mapping.RealWorldValueIntercept, mapping.RealWorldValueSlope = "HU", 0.0, 1.0
    mapping.RealWorldValueFirstValueMapped, mapping.RealWorldValueLastValueMapped = -1000, 1200
    one.RealWorldValueMappingSequence = [mapping]
    one.PixelData = values.tobytes()
    for item in (one, mapping):
        for element in item:
            element.VR = "SS" if element.VR == "US or SS" else element.VR
    one.file_meta = FileMetaDataset()
    one.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
    one.save_as(path, enforce_file_format=True)


def say(name: str, header: Dataset) -> None:
    (mapping,) = header.RealWorldValueMappingSequence
    print(
        f"{name}: smallest {header.SmallestImagePixelValue}, largest {header.LargestImagePixelValue}, "
        f"padding {header.PixelPaddingValue}, mapped {mapping.RealWorldValueFirstValueMapped} "
        f"to {mapping.RealWorldValueLastValueMapped}"
    )


implicit, explicit = Path(sys.argv[1]) / "implicit.dcm", Path(sys.argv[1]) / "explicit.dcm"
write(implicit, implicit=True)
write(explicit, implicit=False)
with warnings.catch_warnings(record=True) as warned:
    warnings.simplefilter("always")
    say("whole header", dcmread(implicit, stop_before_pixels=True))
    few = dcmread(implicit, specific_tags=LOOKED_FOR)
    say("specific_tags", few)
    say("specific_tags, explicit VR", dcmread(explicit, specific_tags=LOOKED_FOR))
    say("specific_tags with PixelRepresentation", dcmread(implicit, specific_tags=[*LOOKED_FOR, "PixelRepresentation"]))
    part = dcmread(implicit)[0x00280106:0x00280108]
    print("a slice of the whole header: smallest", part.SmallestImagePixelValue, "largest", part.LargestImagePixelValue)
    picture = dcmread(implicit).pixel_array
    for name, padding in (("whole header", dcmread(implicit).PixelPaddingValue), ("specific_tags", few.PixelPaddingValue)):
        inside = picture[picture != padding]
        print(f"mean of what is no padding, padding by {name}: {inside.mean():.0f}, of {inside.size} voxels")
print("warned:", "; ".join(str(one.message) for one in warned) or "nothing")
PY
"$work/env/bin/python" "$work/look.py" "$work" > "$work/seen.txt"
cat "$work/seen.txt"
sed -n 's/^#   //p' "$0" > "$work/expected.txt"
cmp "$work/seen.txt" "$work/expected.txt"
