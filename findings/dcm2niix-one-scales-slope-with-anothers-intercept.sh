#!/bin/sh
# dcm2niix 1.0.20260724: an image of Philips may have two scales, RescaleSlope and RescaleIntercept for what the console shows, and a mapping to real world
# values (RealWorldValueMappingSequence; slope and intercept, in a unit). They are two straight lines, and either may count. dcm2niix takes the
# mapping's intercept where RescaleIntercept is 0, and the mapping's slope where RescaleSlope is 1, each for itself: where one of the two is such and the
# other is not, the picture has one line's slope and the other's intercept, a third one that nobody wrote. A stored 100 that is 200 on the console and 60 in
# the mapping is 210. With Philips' own MR scale (2005,100E) the same happens before it is applied: 5250 in place of 5000. The side-car then says
# "PhilipsRescaleIntercept": 10 of a file in which it is 0. Mappings without an intercept, as of magnitude, show nothing; phase, field maps, temperature and
# maps that a station fitted have one. Nothing is warned of. Of other makers the mapping is not looked at. SimpleITK 2.5.7 takes the
# console's line and highdicom 0.28.2 the mapping's, both as they are. That the mapping is passed over on purpose where Philips' own
# scale is known is issue 493 of its repository; of the mixture none was found. Remedy: one of the two taken out before it is converted.
#
# Output seen (stored value 100; what it is):
#   console 2 x + 0: dcm2niix 200, SimpleITK 200, highdicom 200
#   console 2 x + 0, mapping 0.5 x + 10: dcm2niix 210, SimpleITK 200, highdicom 60
#   console 1 x + -1024, mapping 0.5 x + 10: dcm2niix -974, SimpleITK -924, highdicom 60
#   console 2 x + -100, mapping 0.5 x + 10: dcm2niix 100, SimpleITK 100, highdicom 60
#   console 1 x + 0, mapping 0.5 x + 10: dcm2niix 60, SimpleITK 100, highdicom 60
#   Philips' own scale of 0.02, console 2 x + 0: dcm2niix 5000, side-car 2 x + 0
#   Philips' own scale of 0.02, console 2 x + 0, mapping 0.5 x + 10: dcm2niix 5250, side-car 2 x + 10
#   another maker's, console 2 x + 0, mapping 0.5 x + 10: dcm2niix 200, SimpleITK 200, highdicom 60
#   lines of dcm2niix with "warning" that name a scale: 0
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/python" -m pip install --quiet --disable-pip-version-check dcm2niix==1.0.20260724 SimpleITK==2.5.7 highdicom==0.28.2 \
    pydicom==3.0.2 nibabel==5.4.2 numpy==2.4.6
cat > "$work/look.py" <<'PY'
import json
import pathlib
import shutil
import subprocess
import sys

import highdicom
import nibabel
import numpy as np
import SimpleITK
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

FOLDER = pathlib.Path(sys.argv[1]) / "in"
CONVERT = pathlib.Path(sys.executable).with_name("dcm2niix")
printed = []


def mapping_of(slope, intercept):
    item, unit = Dataset(), Dataset()
    item.RealWorldValueSlope, item.RealWorldValueIntercept = slope, intercept
    item.LUTLabel, item.LUTExplanation = "map", "a map"
    item.add_new(0x00409216, "US", 0)
    item.add_new(0x00409211, "US", 4095)
    unit.CodeValue, unit.CodingSchemeDesignator, unit.CodeMeaning = "1", "UCUM", "no units"
    item.MeasurementUnitsCodeSequence = [unit]
    return item


def write(maker, console, mapping, own_scale):
    """An axial slice of MR whose stored values are 100."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = MRImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = "2.25.1"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.FrameOfReferenceUID = "2.25.2", "2.25.3", "2.25.4"
    dataset.PatientName, dataset.PatientID, dataset.Modality, dataset.Manufacturer = "Phantom", "1", "MR", maker
    dataset.SeriesNumber, dataset.InstanceNumber, dataset.ImageType = 1, 1, ["ORIGINAL", "PRIMARY", "M"]
    dataset.ImagePositionPatient, dataset.ImageOrientationPatient = [0, 0, 0], [1, 0, 0, 0, 1, 0]
    dataset.PixelSpacing, dataset.SliceThickness, dataset.PatientPosition = [1, 1], 3, "HFS"
    dataset.EchoTime, dataset.RepetitionTime, dataset.ScanningSequence = 20, 500, "GR"
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 8, 8, 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 0
    dataset.RescaleSlope, dataset.RescaleIntercept = console
    dataset.RescaleType = "normalized"
    if mapping:
        dataset.RealWorldValueMappingSequence = [mapping_of(*mapping)]
    if own_scale:
        dataset.add_new(0x20050010, "LO", "Philips MR Imaging DD 001")
        dataset.add_new(0x2005100E, "FL", own_scale)
    dataset.PixelData = np.full((8, 8), 100, dtype=np.uint16).tobytes()
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()
    dataset.save_as(FOLDER / "image.dcm", enforce_file_format=True)


def look(console, mapping=None, own_scale=None, maker="Philips"):
    write(maker, console, mapping, own_scale)
    done = subprocess.run([CONVERT, "-f", "out", "-o", FOLDER, FOLDER], check=True, capture_output=True, text=True)
    printed.extend((done.stdout + done.stderr).lower().splitlines())
    value = nibabel.load(FOLDER / "out.nii").get_fdata().flat[0]
    name = f"console {console[0]} x + {console[1]}" + (f", mapping {mapping[0]} x + {mapping[1]}" if mapping else "")
    if own_scale:
        car = json.loads((FOLDER / "out.json").read_text())
        line = f"{car['PhilipsRescaleSlope']:.0f} x + {car['PhilipsRescaleIntercept']:.0f}"
        print(f"Philips' own scale of {own_scale}, {name}: dcm2niix {value:.0f}, side-car {line}")
        return
    other = SimpleITK.ReadImage(FOLDER / "image.dcm")[0, 0, 0]
    third = highdicom.imread(FOLDER / "image.dcm").get_frame(1)[0, 0]
    name = name if maker == "Philips" else f"another maker's, {name}"
    print(f"{name}: dcm2niix {value:.0f}, SimpleITK {other:.0f}, highdicom {third:.0f}")


look((2, 0))
look((2, 0), (0.5, 10))
look((1, -1024), (0.5, 10))
look((2, -100), (0.5, 10))
look((1, 0), (0.5, 10))
look((2, 0), own_scale=0.02)
look((2, 0), (0.5, 10), own_scale=0.02)
look((2, 0), (0.5, 10), maker="ACME")
about = [line for line in printed if "warning" in line and any(word in line for word in ("scal", "slope", "intercept", "rwv"))]
print(f'lines of dcm2niix with "warning" that name a scale: {len(about)}')
PY
"$work/env/bin/python" "$work/look.py" "$work" > "$work/seen.txt" 2> "$work/errors.txt" || { cat "$work/errors.txt"; exit 1; }
cat "$work/seen.txt" "$work/errors.txt"
test ! -s "$work/errors.txt"
sed -n 's/^#   //p' "$0" > "$work/expected.txt"
cmp "$work/seen.txt" "$work/expected.txt"
