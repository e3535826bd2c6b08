#!/bin/sh
# dcm2niix 1.0.20260724: the BIDS side-car of an image that was made with a contrast agent does not say so. The header's
# ContrastBolusAgent and ContrastBolusIngredient (0018,0010 and 0018,1048) are read by nobody, though BIDS has a key of the
# second name. A T1 before and one after gadolinium have the same side-car but for their numbers and descriptions: who
# chooses by side-cars alone has to tell them apart by the entity `ce-`, which a person gives.
#
# Output seen:
#   header: GADOLINIUM
#   keys of the side-car about an agent: []
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/python" -m pip install --quiet --disable-pip-version-check pydicom==3.0.2 numpy==2.3.5 dcm2niix==1.0.20260724
"$work/env/bin/python" - "$work" > "$work/seen.txt" <<'PY'
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

work = Path(sys.argv[1])
(work / "series").mkdir()
for index in range(4):
    one = Dataset()
    one.SOPClassUID, one.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.4", f"2.25.1{index}"
    one.StudyInstanceUID, one.SeriesInstanceUID, one.FrameOfReferenceUID = "2.25.2", "2.25.3", "2.25.4"
    one.Modality, one.Manufacturer, one.PatientID, one.SeriesNumber = "MR", "SIEMENS", "P1", 1
    one.InstanceNumber, one.SeriesDescription, one.ImageType = index + 1, "t1", ["ORIGINAL", "PRIMARY", "M"]
    one.EchoTime, one.RepetitionTime, one.ScanningSequence, one.MagneticFieldStrength = 10, 600, "SE", 3
    one.ContrastBolusAgent, one.ContrastBolusIngredient = "Gadovist", "GADOLINIUM"
    one.ImagePositionPatient, one.ImageOrientationPatient = [0, 0, 4 * index], [1, 0, 0, 0, 1, 0]
    one.PixelSpacing, one.SliceThickness, one.Rows, one.Columns = [1, 1], 4, 32, 32
    one.SamplesPerPixel, one.PhotometricInterpretation, one.PixelRepresentation = 1, "MONOCHROME2", 0
    one.BitsAllocated, one.BitsStored, one.HighBit = 16, 16, 15
    one.PixelData = np.arange(1024, dtype=np.uint16).tobytes()
    one.file_meta = FileMetaDataset()
    one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    one.save_as(work / "series" / f"{index}.dcm", enforce_file_format=True)
print("header:", one.ContrastBolusIngredient)
program = Path(sys.executable).parent / "dcm2niix"
subprocess.run([program, "-b", "y", "-ba", "n", "-f", "t1", "-o", work, work / "series"], check=True, capture_output=True)
keys = json.loads((work / "t1.json").read_text())
print("keys of the side-car about an agent:", sorted(key for key in keys if "contrast" in key.lower() or "bolus" in key.lower()))
PY
cat "$work/seen.txt"
grep -q '^header: GADOLINIUM$' "$work/seen.txt"
grep -q '^keys of the side-car about an agent: \[\]$' "$work/seen.txt"
