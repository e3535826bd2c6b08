#!/bin/sh
# antspyx 0.6.3: ants.dicom_read ("Read a set of dicom files in a directory into a single ANTsImage") stacks the files as the folder
# lists them, and looks at no position but the first file's. The next slice is said to lie in the direction rows x columns, as far on
# as that file's SpacingBetweenSlices says, and 1 mm where it says nothing: in a classic MR object it may (type 3), whatever the
# thickness. So, of files that are named and listed by number: a series that is numbered against that direction is a mirror
# image, of a sagittal one left is right, and of a head nobody sees it; one that is numbered as it was acquired is shuffled; and one
# without a stated distance is squeezed. Files whose names do not end in .dcm are passed over. Nothing is raised, warned of or printed.
# That slices come out of order is issue 183 of its repository, of 2020 and open; sorted names leave mirror and distance as they are.
# SimpleITK 2.5.7 (GetGDCMSeriesFileNames with ImageSeriesReader) lays every slice where it says. Remedy: read by that, and hand the
# array on with its origin, spacing and direction.
#
# Output seen (slices of 100, 200, ... by number; the places along the slices' axis in mm, and * at a value that was taken elsewhere):
#   axial, upwards: ants 0:100 5:200 10:300 15:400, SimpleITK 0:100 5:200 10:300 15:400
#   axial, downwards: ants 15:100 20:200* 25:300* 30:400*, SimpleITK 0:400 5:300 10:200 15:100
#   as acquired: ants 0:100 5:200* 10:300* 15:400, SimpleITK 0:100 5:300 10:200 15:400
#   sagittal, from the right: ants -45:400* -40:300* -35:200* -30:100, SimpleITK -30:100 -25:200 -20:300 -15:400
#   sagittal, from the left: ants -30:400 -25:300 -20:200 -15:100, SimpleITK -30:400 -25:300 -20:200 -15:100
#   distance not said: ants 0:100 1:200* 2:300* 3:400*, SimpleITK 0:100 5:200 10:300 15:400
#   warned: nothing
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/python" -m pip install --quiet --disable-pip-version-check antspyx==0.6.3 SimpleITK==2.5.7 pydicom==3.0.2 numpy==2.3.5
cat > "$work/look.py" <<'PY'
import os
import sys
import warnings
from pathlib import Path

import ants
import numpy as np
import SimpleITK as sitk
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

work = Path(sys.argv[1])
AXIAL, SAGITTAL = (1, 0, 0, 0, 1, 0), (0, 1, 0, 0, 0, -1)


def slice_of(number, position, orientation, spacing):
    one = Dataset()
    one.file_meta = FileMetaDataset()
    one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    one.SOPClassUID, one.SOPInstanceUID = MRImageStorage, f"2.25.1.{number}"
    one.file_meta.MediaStorageSOPClassUID, one.file_meta.MediaStorageSOPInstanceUID = one.SOPClassUID, one.SOPInstanceUID
    one.StudyInstanceUID, one.SeriesInstanceUID, one.FrameOfReferenceUID = "2.25.2", "2.25.3", "2.25.4"
    one.Modality, one.PatientID, one.SeriesNumber, one.InstanceNumber = "MR", "P1", 1, number
    one.ImagePositionPatient, one.ImageOrientationPatient, one.PixelSpacing = list(position), list(orientation), [1, 1]
    one.SliceThickness = 4
    if spacing:
        one.SpacingBetweenSlices = spacing
    one.Rows, one.Columns, one.SamplesPerPixel, one.PhotometricInterpretation = 8, 8, 1, "MONOCHROME2"
    one.BitsAllocated, one.BitsStored, one.HighBit, one.PixelRepresentation = 16, 12, 11, 0
    one.PixelData = np.full((8, 8), 100 * number, np.uint16).tobytes()
    return one


def seen(what, along, orientation=AXIAL, spacing=5):
    folder = work / what.replace(" ", "-").replace(",", "")
    folder.mkdir()
    axis = 2 if orientation is AXIAL else 0
    for number, place in enumerate(along, 1):
        position = [0.0, 0.0, 0.0]
        position[axis] = place
        slice_of(number, position, orientation, spacing).save_as(folder / f"IM{number:04d}.dcm", enforce_file_format=True)
    image = ants.dicom_read(str(folder))
    step = np.asarray(image.direction)[:, 2] * image.spacing[2]
    by_ants = [(image.origin[axis] + step[axis] * index, image.numpy()[0, 0, index]) for index in range(image.shape[2])]
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    stack = reader.Execute()
    by_itk = [
        (stack.TransformIndexToPhysicalPoint((0, 0, index))[axis], stack.GetPixel(0, 0, index)) for index in range(stack.GetSize()[2])
    ]

    def told(found):
        shown = []
        for place, value in sorted(found):
            right = abs(along[int(value) // 100 - 1] - place) < 0.01
            shown.append(f"{round(place, 2) + 0.0:g}:{value:g}{'' if right else '*'}")
        return " ".join(shown)

    print(f"{what}: ants {told(by_ants)}, SimpleITK {told(by_itk)}")


listed = os.listdir
os.listdir = lambda folder: sorted(listed(folder))  # the order that a folder can be hoped to have; it is the file system's own
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    seen("axial, upwards", (0, 5, 10, 15))
    seen("axial, downwards", (15, 10, 5, 0))
    seen("as acquired", (0, 10, 5, 15))
    seen("sagittal, from the right", (-30, -25, -20, -15), SAGITTAL)
    seen("sagittal, from the left", (-15, -20, -25, -30), SAGITTAL)
    seen("distance not said", (0, 5, 10, 15), spacing=None)
print("warned:", "; ".join(sorted({str(one.message) for one in said})) or "nothing")
PY
"$work/env/bin/python" "$work/look.py" "$work" > "$work/seen.txt" 2> "$work/log.txt"
cat "$work/seen.txt" "$work/log.txt"
cat > "$work/expected.txt" <<'TXT'
axial, upwards: ants 0:100 5:200 10:300 15:400, SimpleITK 0:100 5:200 10:300 15:400
axial, downwards: ants 15:100 20:200* 25:300* 30:400*, SimpleITK 0:400 5:300 10:200 15:100
as acquired: ants 0:100 5:200* 10:300* 15:400, SimpleITK 0:100 5:300 10:200 15:400
sagittal, from the right: ants -45:400* -40:300* -35:200* -30:100, SimpleITK -30:100 -25:200 -20:300 -15:400
sagittal, from the left: ants -30:400 -25:300 -20:200 -15:100, SimpleITK -30:400 -25:300 -20:200 -15:100
distance not said: ants 0:100 1:200* 2:300* 3:400*, SimpleITK 0:100 5:200 10:300 15:400
warned: nothing
TXT
cmp "$work/expected.txt" "$work/seen.txt"
