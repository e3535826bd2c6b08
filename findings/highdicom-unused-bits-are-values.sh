#!/bin/sh
# highdicom 0.28.2 takes the bits above BitsStored for a part of the value. With 16 bits allocated and 12 stored, four bits of each word are
# no pixel data, and a reader "may not assume" that they are 0 or repeat the sign (PS3.5 8.1.1). (1) Signed values, as of phase, velocity or a difference,
# may thus be written in 12 bits with zeros above: -100 is then 3996 for highdicom, every negative value is brighter than every positive one, and
# only what is 0 or above is right. (2) Until 2004 the standard let graphics stand in those bits, and archives have such scans: a
# voxel under a line or a letter has 4096 more, which is the brightest of the picture. It is so of get_frame, get_stored_frame
# and get_volume, scale and window included; pixel_array and get_volume_from_series are pydicom's, so one object has two values. Values that repeat the sign, as most writers' do, are right, so what
# was tried on one scanner's is believed of another's. Nothing is raised or warned of. pydicom 3.0.2, SimpleITK 2.5.7 and dcm2niix 1.0.20260724
# read the stored bits alone. Remedy: dataset.pixel_array of pydicom, or to write that back (set_pixel_data) before highdicom reads.
#
# Output seen (a voxel of the same object of MR, 12 bits of 16 stored):
#   -100, the sign repeated above: highdicom -100, pydicom -100, SimpleITK -100, dcm2niix -100
#   -100, zeros above: highdicom 3996, pydicom -100, SimpleITK -100, dcm2niix -100
#   100, zeros above: highdicom 100, pydicom 100, SimpleITK 100, dcm2niix 100
#   1000, unsigned, under a line in bit 12: highdicom 5096, pydicom 1000, SimpleITK 1000, dcm2niix 1000
#   -100, zeros above, other ways of highdicom: get_stored_frame 3996, get_volume 3996, volume of a series -100, pixel_array -100
#   warned: nothing
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/python" -m pip install --quiet --disable-pip-version-check highdicom==0.28.2 pydicom==3.0.2 SimpleITK==2.5.7 \
    dcm2niix==1.0.20260724 nibabel==5.4.2 numpy==2.4.6
cat > "$work/look.py" <<'PY'
import pathlib
import shutil
import subprocess
import sys
import warnings

import highdicom
import nibabel
import numpy as np
import pydicom
import SimpleITK
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

WORK = pathlib.Path(sys.argv[1])
CONVERT = pathlib.Path(sys.executable).with_name("dcm2niix")


def image(word, signed, number=1):
    """An axial slice all of whose words of 16 bits are `word`."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = MRImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = f"2.25.10{number}"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.FrameOfReferenceUID = "2.25.2", "2.25.3", "2.25.4"
    dataset.PatientName, dataset.PatientID, dataset.Modality, dataset.Manufacturer = "Phantom", "1", "MR", "Philips"
    dataset.SeriesNumber, dataset.InstanceNumber, dataset.ImageType = 1, number, ["ORIGINAL", "PRIMARY", "M"]
    dataset.ImagePositionPatient, dataset.ImageOrientationPatient = [0, 0, 3 * number], [1, 0, 0, 0, 1, 0]
    dataset.PixelSpacing, dataset.SliceThickness, dataset.PatientPosition = [1, 1], 3, "HFS"
    dataset.EchoTime, dataset.RepetitionTime, dataset.ScanningSequence = 20, 500, "GR"
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 8, 8, 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, int(signed)
    dataset.PixelData = np.full((8, 8), word, dtype=np.uint16).tobytes()
    return dataset


def by_dcm2niix(folder):
    (WORK / "out.nii").unlink(missing_ok=True)
    subprocess.run([CONVERT, "-f", "out", "-o", WORK, folder], check=True, capture_output=True)
    return int(np.asarray(nibabel.load(WORK / "out.nii").dataobj).flat[0])


def look(name, word, signed, graphics=False):
    folder = WORK / "in"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    dataset = image(word, signed)
    if graphics:
        dataset.add_new(0x60000010, "US", 8)
        dataset.add_new(0x60000011, "US", 8)
        dataset.add_new(0x60000040, "CS", "G")
        dataset.add_new(0x60000050, "SS", [1, 1])
        dataset.add_new(0x60000100, "US", 16)
        dataset.add_new(0x60000102, "US", 12)
    dataset.save_as(folder / "image.dcm", enforce_file_format=True)
    read = highdicom.imread(folder / "image.dcm")
    print(f"{name}: highdicom {read.get_frame(1)[0, 0]:.0f}, pydicom {pydicom.dcmread(folder / 'image.dcm').pixel_array[0, 0]}, "
          f"SimpleITK {SimpleITK.ReadImage(folder / 'image.dcm')[0, 0, 0]}, dcm2niix {by_dcm2niix(folder)}")
    return read


with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    look("-100, the sign repeated above", -100 & 0xFFFF, True)
    negative = look("-100, zeros above", -100 & 0x0FFF, True)
    look("100, zeros above", 100, True)
    look("1000, unsigned, under a line in bit 12", 1000 | 1 << 12, False, graphics=True)
    series = highdicom.get_volume_from_series([image(-100 & 0x0FFF, True, number) for number in (1, 2, 3)])
    print(f"-100, zeros above, other ways of highdicom: get_stored_frame {negative.get_stored_frame(1)[0, 0]}, "
          f"get_volume {negative.get_volume().array[0, 0, 0]:.0f}, volume of a series {series.array[0, 0, 0]:.0f}, "
          f"pixel_array {negative.pixel_array[0, 0]}")
print("warned:", "; ".join(sorted({str(warning.message) for warning in caught})) or "nothing")
PY
"$work/env/bin/python" "$work/look.py" "$work" > "$work/seen.txt" 2> "$work/errors.txt" || { cat "$work/errors.txt"; exit 1; }
cat "$work/seen.txt" "$work/errors.txt"
test ! -s "$work/errors.txt"
sed -n 's/^#   //p' "$0" > "$work/expected.txt"
cmp "$work/seen.txt" "$work/expected.txt"
