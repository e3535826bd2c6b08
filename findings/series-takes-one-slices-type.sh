#!/bin/sh
# SimpleITK 2.5.7, and dcmstack 0.9.0 with nibabel 5.4.2: in a series each slice may have a scale of its own (RescaleSlope and
# RescaleIntercept are the image's), as of PET and of maps that were fitted slice by slice. Both scale each slice by its own, and then
# give the volume the type of one of them: SimpleITK the first one's, dcmstack the one's at the other end. Where that is an empty slice with a
# slope of 1, and thus whole numbers, the fractions of all others are cut off: of an uptake (SUV) of 0.9 is left 0, of a T1 in
# seconds 0 or 1. Where it has no intercept and the others have one, what is below 0 wraps in SimpleITK: -200 is 65336. The same
# series without that slice is right, so most are. Nothing is raised, warned of or printed. That fractions are cut is SimpleITK's issue 1636,
# a "Confirmed Bug" of 2022 and closed; a test of it waits in pull request 1640. dcm2niix 1.0.20260724 and each slice by pydicom are
# right. Remedy: SetOutputPixelType(sitkFloat32), or the slices one by one.
#
# Output seen (four slices from below upwards; their values):
#   all of 0.001: pydicom 0.9 1.4 0.85 0; dcm2niix 0.9 1.4 0.85 0; SimpleITK 0.9 1.4 0.85 0; SimpleITK to sitkFloat32 0.9 1.4 0.85 0; dcmstack 0.9 1.4 0.85 0
#   first one empty: pydicom 0 0.9 1.4 0.85; dcm2niix 0 0.9 1.4 0.85; SimpleITK 0 0 1 0; SimpleITK to sitkFloat32 0 0.9 1.4 0.85; dcmstack 0 0.9 1.4 0.85
#   last one empty: pydicom 0.9 1.4 0.85 0; dcm2niix 0.9 1.4 0.85 0; SimpleITK 0.9 1.4 0.85 0; SimpleITK to sitkFloat32 0.9 1.4 0.85 0; dcmstack 0 1 0 0
#   an intercept in all but the first: pydicom 0 -200 0 200; dcm2niix 0 -200 0 200; SimpleITK 0 65336 0 200; SimpleITK to sitkFloat32 0 -200 0 200; dcmstack 0 -200 0 200
#   warned: nothing
#   printed besides: nothing
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/python" -m pip install --quiet --disable-pip-version-check \
    SimpleITK==2.5.7 dcmstack==0.9.0 nibabel==5.4.2 dcm2niix==1.0.20260724 pydicom==2.4.5 numpy==2.4.6
cat > "$work/look.py" <<'PY'
import subprocess
import sys
import warnings
from pathlib import Path

import dcmstack
import nibabel
import numpy as np
import SimpleITK
from pydicom import dcmread
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.pixel_data_handlers import apply_modality_lut
from pydicom.uid import ExplicitVRLittleEndian

work = Path(sys.argv[1])


def write(folder: Path, stored: list[int], slopes: list[float], intercepts: list[float]) -> list[Path]:
    folder.mkdir()
    paths = []
    for number, (value, slope, intercept) in enumerate(zip(stored, slopes, intercepts), 1):
        meta = FileMetaDataset()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.4", f"2.25.10{number}"
        one = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128, is_implicit_VR=False, is_little_endian=True)
        one.SOPClassUID, one.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
        one.StudyInstanceUID, one.SeriesInstanceUID, one.FrameOfReferenceUID = "2.25.2", "2.25.3", "2.25.4"
        one.Modality, one.Manufacturer, one.SeriesNumber, one.InstanceNumber = "MR", "ACME", 1, number
        one.PatientName, one.PatientID, one.StudyID, one.StudyDate, one.StudyTime = "A^B", "1", "1", "20260101", "120000"
        one.ImageType, one.ProtocolName = ["DERIVED", "PRIMARY", "T1 MAP"], "map"
        one.ImagePositionPatient, one.ImageOrientationPatient = [0, 0, 4 * number], [1, 0, 0, 0, 1, 0]
        one.PixelSpacing, one.SliceThickness = [1, 1], 4
        one.Rows = one.Columns = 8
        one.SamplesPerPixel, one.PhotometricInterpretation, one.PixelRepresentation = 1, "MONOCHROME2", 0
        one.BitsAllocated, one.BitsStored, one.HighBit = 16, 16, 15
        one.RescaleSlope, one.RescaleIntercept = slope, intercept
        one.PixelData = np.full((8, 8), value, np.uint16).tobytes()
        paths.append(folder / f"{number}.dcm")
        one.save_as(paths[-1], write_like_original=False)
    return paths


def text(values: np.ndarray) -> str:
    return " ".join(f"{round(float(value), 3):g}" for value in values)


def look(name: str, stored: list[int], slopes: list[float], intercepts: tuple[float, ...] = (0, 0, 0, 0)) -> None:
    folder = work / name.replace(" ", "-")
    paths = write(folder, stored, slopes, list(intercepts))
    said = {"pydicom": [apply_modality_lut(dcmread(path).pixel_array, dcmread(path))[0, 0] for path in paths]}
    out = work / f"{folder.name}-out"
    out.mkdir()
    command = [str(Path(sys.executable).with_name("dcm2niix")), "-b", "n", "-f", "x", "-o", str(out), str(folder)]
    subprocess.run(command, capture_output=True, check=True)
    (written,) = out.glob("*.nii")
    said["dcm2niix"] = nibabel.load(written).get_fdata()[0, 0]
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder)))
    said["SimpleITK"] = SimpleITK.GetArrayFromImage(reader.Execute())[:, 0, 0]
    reader.SetOutputPixelType(SimpleITK.sitkFloat32)
    said["SimpleITK to sitkFloat32"] = SimpleITK.GetArrayFromImage(reader.Execute())[:, 0, 0]
    (stack,) = dcmstack.parse_and_stack([str(path) for path in paths]).values()
    said["dcmstack"] = stack.to_nifti().get_fdata()[0, 0]
    print(f"{name}: {'; '.join(f'{who} {text(values)}' for who, values in said.items())}")


with warnings.catch_warnings(record=True) as warned:
    warnings.simplefilter("always")
    look("all of 0.001", [900, 1400, 850, 0], [0.001] * 4)
    look("first one empty", [0, 900, 1400, 850], [1, 0.001, 0.001, 0.001])
    look("last one empty", [900, 1400, 850, 0], [0.001, 0.001, 0.001, 1])
    look("an intercept in all but the first", [0, 800, 1000, 1200], [1] * 4, (0, -1000, -1000, -1000))
told = [str(one.message) for one in warned if any(part in one.filename for part in ("SimpleITK", "dcmstack"))]
print("warned:", "; ".join(told) or "nothing")
PY
"$work/env/bin/python" "$work/look.py" "$work" > "$work/seen.txt" 2> "$work/errors.txt"
if [ -s "$work/errors.txt" ]; then cat "$work/errors.txt"; else echo "printed besides: nothing" >> "$work/seen.txt"; fi
cat "$work/seen.txt"
sed -n 's/^#   //p' "$0" > "$work/expected.txt"
cmp "$work/seen.txt" "$work/expected.txt"
