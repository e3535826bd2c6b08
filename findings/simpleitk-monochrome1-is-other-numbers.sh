#!/bin/sh
# SimpleITK 2.5.7 (ITK 5.4): an object whose PhotometricInterpretation is MONOCHROME1 is read with other values. Each stored value is
# taken from the largest that the stored bits hold (4095, 65535), and slope and intercept come after it. The standard speaks of
# display alone: "The minimum sample value is intended to be displayed as white after any VOI gray scale transformations have been
# performed" (PS3.3 C.7.6.3.1.2), and what a value stands for is the rescale's matter, before that. So a map that is to be shown with its low values white has
# other numbers: an ADC of 800 is 3295, and its mean and every threshold are of nothing. Of signed values the two add up to
# -1, and a difference changes its sign. GetMetaData still says MONOCHROME1, so who inverts for display by it undoes it; what is
# written to DICOM is MONOCHROME2. ITK read such objects as they are once, and SimpleITK's notebooks said so in 2020 (pull request 257).
# pydicom 3.0.2 (apply_modality_lut), dcm2niix 1.0.20260724 and dicom2nifti 2.6.2 give what was meant. highdicom 0.28.2 does as SimpleITK,
# says so, and can be told not to (apply_presentation_lut). Nothing is raised or warned of. Remedy: the header's word set to MONOCHROME2 in a copy.
#
# Output seen (what is stored, of 12 bits where nothing is said; all but the first MONOCHROME1):
#   800, MONOCHROME2: pydicom 800, SimpleITK 800, dcm2niix 800, dicom2nifti 800, highdicom 800, highdicom without 800
#   800: pydicom 800, SimpleITK 3295, dcm2niix 800, dicom2nifti 800, highdicom 3295, highdicom without 800
#   800, slope of 0.5: pydicom 400, SimpleITK 1647.5, dcm2niix 400, dicom2nifti 400, highdicom 1647.5, highdicom without 400
#   800, 16 bits: pydicom 800, SimpleITK 64735, dcm2niix 800, dicom2nifti 800, highdicom 64735, highdicom without 800
#   800, 16 bits, signed: pydicom 800, SimpleITK -801, dcm2niix 800, dicom2nifti 800, highdicom -801, highdicom without 800
#   -800, 16 bits, signed: pydicom -800, SimpleITK 799, dcm2niix -800, dicom2nifti -800, highdicom 799, highdicom without -800
#   what SimpleITK says of it: MONOCHROME1
#   what SimpleITK writes of it: MONOCHROME2, 3295
#   warned: nothing
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/python" -m pip install --quiet --disable-pip-version-check \
  SimpleITK==2.5.7 dcm2niix==1.0.20260724 dicom2nifti==2.6.2 highdicom==0.28.2 pydicom==3.0.2 nibabel==5.4.2 numpy==2.3.5
cat > "$work/look.py" <<'PY'
import subprocess
import sys
import warnings
from pathlib import Path

import dicom2nifti
import highdicom
import nibabel
import numpy as np
import pydicom
import SimpleITK as sitk
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.pixels import apply_modality_lut
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

work = Path(sys.argv[1])


def slice_of(number, stored, bits, signed, slope, photometric):
    one = Dataset()
    one.file_meta = FileMetaDataset()
    one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    one.SOPClassUID, one.SOPInstanceUID = MRImageStorage, f"2.25.1.{number}"
    one.file_meta.MediaStorageSOPClassUID, one.file_meta.MediaStorageSOPInstanceUID = one.SOPClassUID, one.SOPInstanceUID
    one.StudyInstanceUID, one.SeriesInstanceUID, one.FrameOfReferenceUID = "2.25.2", "2.25.3", "2.25.4"
    one.ImageType, one.Manufacturer = ["DERIVED", "PRIMARY", "ADC"], "SIEMENS"
    one.StudyDate = one.SeriesDate = "20250101"
    one.StudyTime = one.SeriesTime = "120000"
    one.PatientName, one.PatientID, one.PatientBirthDate, one.PatientSex = "A^B", "P1", "", ""
    one.StudyID, one.AccessionNumber, one.ReferringPhysicianName, one.PositionReferenceIndicator = "1", "", "", ""
    one.Modality, one.SeriesNumber, one.InstanceNumber = "MR", 1, number
    one.ImagePositionPatient, one.ImageOrientationPatient, one.PixelSpacing = [0, 0, 5 * number], [1, 0, 0, 0, 1, 0], [1, 1]
    one.SliceThickness = one.SpacingBetweenSlices = 5
    one.Rows, one.Columns, one.SamplesPerPixel, one.PhotometricInterpretation = 16, 16, 1, photometric
    one.BitsAllocated, one.BitsStored, one.HighBit, one.PixelRepresentation = 16, bits, bits - 1, int(signed)
    one.RescaleSlope, one.RescaleIntercept, one.RescaleType = slope, 0, "US"
    one.PixelData = np.full((16, 16), stored, np.int16 if signed else np.uint16).tobytes()
    return one


def first(values):
    return f"{float(np.asarray(values).ravel()[0]):g}"


def seen(what, stored, bits=12, signed=False, slope=1, photometric="MONOCHROME1"):
    folder = work / what.replace(" ", "-").replace(",", "")
    for number in range(1, 6):
        (folder / "in").mkdir(parents=True, exist_ok=True)
        one = slice_of(number, stored, bits, signed, slope, photometric)
        one.save_as(folder / "in" / f"{number}.dcm", enforce_file_format=True)
    path = folder / "in" / "1.dcm"
    one = pydicom.dcmread(path)
    image = sitk.ReadImage(str(path))
    found = {"pydicom": apply_modality_lut(one.pixel_array, one), "SimpleITK": sitk.GetArrayFromImage(image)}
    subprocess.run([work / "env/bin/dcm2niix", "-b", "n", "-f", "x", "-o", folder, folder / "in"], check=True, capture_output=True)
    found["dcm2niix"] = nibabel.load(folder / "x.nii").get_fdata()
    dicom2nifti.dicom_series_to_nifti(str(folder / "in"), str(folder / "y.nii"))
    found["dicom2nifti"] = nibabel.load(folder / "y.nii").get_fdata()
    read = highdicom.imread(path)
    found["highdicom"] = read.get_frame(1)
    found["highdicom without"] = read.get_frame(1, apply_presentation_lut=False)
    print(f"{what}: {', '.join(f'{name} {first(values)}' for name, values in found.items())}")
    return image


with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    seen("800, MONOCHROME2", 800, photometric="MONOCHROME2")
    image = seen("800", 800)
    seen("800, slope of 0.5", 800, slope=0.5)
    seen("800, 16 bits", 800, bits=16)
    seen("800, 16 bits, signed", 800, bits=16, signed=True)
    seen("-800, 16 bits, signed", -800, bits=16, signed=True)
sitk.WriteImage(image, str(work / "again.dcm"))
again = pydicom.dcmread(work / "again.dcm")
print(f"what SimpleITK says of it: {image.GetMetaData('0028|0004').strip()}")
print(f"what SimpleITK writes of it: {again.PhotometricInterpretation}, {first(again.pixel_array)}")
print("warned:", "; ".join(sorted({str(one.message) for one in said})) or "nothing")
PY
"$work/env/bin/python" "$work/look.py" "$work" > "$work/seen.txt" 2> "$work/log.txt"
cat "$work/seen.txt" "$work/log.txt"
cat > "$work/expected.txt" <<'TXT'
800, MONOCHROME2: pydicom 800, SimpleITK 800, dcm2niix 800, dicom2nifti 800, highdicom 800, highdicom without 800
800: pydicom 800, SimpleITK 3295, dcm2niix 800, dicom2nifti 800, highdicom 3295, highdicom without 800
800, slope of 0.5: pydicom 400, SimpleITK 1647.5, dcm2niix 400, dicom2nifti 400, highdicom 1647.5, highdicom without 400
800, 16 bits: pydicom 800, SimpleITK 64735, dcm2niix 800, dicom2nifti 800, highdicom 64735, highdicom without 800
800, 16 bits, signed: pydicom 800, SimpleITK -801, dcm2niix 800, dicom2nifti 800, highdicom -801, highdicom without 800
-800, 16 bits, signed: pydicom -800, SimpleITK 799, dcm2niix -800, dicom2nifti -800, highdicom 799, highdicom without -800
what SimpleITK says of it: MONOCHROME1
what SimpleITK writes of it: MONOCHROME2, 3295
warned: nothing
TXT
cmp "$work/expected.txt" "$work/seen.txt"
