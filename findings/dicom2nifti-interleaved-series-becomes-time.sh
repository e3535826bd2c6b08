#!/bin/sh
# dicom2nifti 2.6.2: classic DICOM, one file a slice, in which InstanceNumber follows the acquisition (first the odd slices, then
# the even ones). The standard makes that number no order in space ("A number that identifies this image", PS3.3 C.7.6.1), and
# each file says where it lies. dicom2nifti goes through the files by number, takes the jump back for the start of a new time
# point, whatever the vendor, and writes a series of 4 dimensions: half the slices, twice as far apart, and the other half as a
# second time, laid on the first one's places, a slice beside its own. Nothing is raised or logged. A program that takes the
# first volume has half the patient; the time series' mean is two slices mixed. With a number of slices that does not
# divide it does stop, with MISSING_DICOM_FILES, of a series that is complete. dcm2niix 1.0.20260724 and SimpleITK 2.5.7 give one
# volume. dicom2nifti does so too where the numbers follow the places: renumbering copies of the files is the remedy.
#
# Output seen (slices at 0 to 21 mm with the values 100 to 800; * marks values that stand in another place than they were taken):
#   numbers by place, dicom2nifti: at 0 mm 100, at 3 mm 200, at 6 mm 300, at 9 mm 400, at 12 mm 500, at 15 mm 600, at 18 mm 700, at 21 mm 800
#   interleaved, dicom2nifti, ACME: time 1: at 0 mm 100, at 6 mm 300, at 12 mm 500, at 18 mm 700; time 2: at 0 mm 200*, at 6 mm 400*, at 12 mm 600*, at 18 mm 800*
#   interleaved, dicom2nifti, SIEMENS: the same
#   interleaved, dicom2nifti, GE MEDICAL SYSTEMS: the same
#   interleaved, dicom2nifti, Philips Medical Systems: the same
#   logged: nothing
#   interleaved, 7 slices, dicom2nifti: MISSING_DICOM_FILES
#   interleaved, dcm2niix: at 0 mm 100, at 3 mm 200, at 6 mm 300, at 9 mm 400, at 12 mm 500, at 15 mm 600, at 18 mm 700, at 21 mm 800
#   interleaved, SimpleITK: at 0 mm 100, at 3 mm 200, at 6 mm 300, at 9 mm 400, at 12 mm 500, at 15 mm 600, at 18 mm 700, at 21 mm 800
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/python" -m pip install --quiet --disable-pip-version-check \
  dicom2nifti==2.6.2 dcm2niix==1.0.20260724 SimpleITK==2.5.7 pydicom==3.0.2 nibabel==5.4.2 numpy==2.4.6
cat > "$work/look.py" <<'PY'
import io
import logging
import subprocess
import sys
from pathlib import Path

import dicom2nifti
import nibabel
import numpy as np
import SimpleITK
from dicom2nifti.exceptions import ConversionError
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

work = Path(sys.argv[1])
log = io.StringIO()
logging.basicConfig(stream=log, level=logging.WARNING)


def written(name: str, numbers: list[int], vendor: str = "ACME") -> Path:
    """A folder of slices 3 mm apart, from the feet up; numbers: InstanceNumber of each."""
    folder = work / name
    folder.mkdir()
    for place, number in enumerate(numbers):
        one = Dataset()
        one.SOPClassUID, one.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.4", f"2.25.1{place}"
        one.StudyInstanceUID, one.SeriesInstanceUID, one.FrameOfReferenceUID = "2.25.2", "2.25.3", "2.25.4"
        one.Modality, one.Manufacturer, one.PatientID = "MR", vendor, "P1"
        one.SeriesNumber, one.InstanceNumber, one.AcquisitionNumber = 1, number, 1
        one.ImageType, one.ScanningSequence, one.EchoTime, one.RepetitionTime = ["ORIGINAL", "PRIMARY"], "SE", 10, 600
        one.ImagePositionPatient, one.ImageOrientationPatient = [0, 0, 3 * place], [1, 0, 0, 0, 1, 0]
        one.PixelSpacing, one.SliceThickness, one.SpacingBetweenSlices = [1, 1], 3, 3
        one.Rows, one.Columns = 16, 16
        one.SamplesPerPixel, one.PhotometricInterpretation, one.PixelRepresentation = 1, "MONOCHROME2", 0
        one.BitsAllocated, one.BitsStored, one.HighBit = 16, 16, 15
        one.PixelData = np.full((16, 16), 100 * (place + 1), np.uint16).tobytes()
        one.file_meta = FileMetaDataset()
        one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        one.save_as(folder / f"{number:02d}.dcm", enforce_file_format=True)
    return folder


def said(values: np.ndarray, affine: np.ndarray) -> str:
    """What stands where along the slices of one volume."""
    parts = []
    for index in range(values.shape[2]):
        place = float((affine @ [0, 0, index, 1])[2])
        value = float(values[0, 0, index])
        parts.append(f"at {place:.0f} mm {value:.0f}" + ("" if value == 100 * (place / 3 + 1) else "*"))
    return ", ".join(parts)


def shown(image: nibabel.Nifti1Image) -> str:
    values = np.asarray(image.dataobj)
    if values.ndim == 3:
        return said(values, image.affine)
    times = range(values.shape[3])
    return "; ".join(f"time {time + 1}: {said(values[..., time], image.affine)}" for time in times)


def by_dicom2nifti(folder: Path) -> str:
    try:
        return shown(dicom2nifti.dicom_series_to_nifti(folder, work / f"{folder.name}.nii")["NII"])
    except ConversionError as error:
        return str(error)


INTERLEAVED = [1, 5, 2, 6, 3, 7, 4, 8]
print("numbers by place, dicom2nifti:", by_dicom2nifti(written("ordered", list(range(1, 9)))))
first = None
for number, vendor in enumerate(("ACME", "SIEMENS", "GE MEDICAL SYSTEMS", "Philips Medical Systems")):
    answer = by_dicom2nifti(written(f"interleaved{number}", INTERLEAVED, vendor))
    print(f"interleaved, dicom2nifti, {vendor}:", "the same" if answer == first else answer)
    first = first or answer
print("logged:", log.getvalue() or "nothing")
print("interleaved, 7 slices, dicom2nifti:", by_dicom2nifti(written("seven", [1, 5, 2, 6, 3, 7, 4])))
series = work / "interleaved0"
command = [Path(sys.executable).parent / "dcm2niix", "-b", "n", "-f", "out", "-o", work, series]
subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
print("interleaved, dcm2niix:", shown(nibabel.load(work / "out.nii")))
reader = SimpleITK.ImageSeriesReader()
reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(series)))
SimpleITK.WriteImage(reader.Execute(), work / "itk.nii")
print("interleaved, SimpleITK:", shown(nibabel.load(work / "itk.nii")))
PY
"$work/env/bin/python" "$work/look.py" "$work" > "$work/seen.txt"
cat "$work/seen.txt"
sed -n 's/^#   //p' "$0" > "$work/expected.txt"
cmp "$work/seen.txt" "$work/expected.txt"
