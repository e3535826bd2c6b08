#!/bin/sh
# dicom2nifti 2.6.2: an enhanced MR object whose frames stand in the file against their InStackPositionNumber becomes a mirror
# image. The frames may stand in any order, and each says where it lies (PlanePositionSequence); the number in the stack is a
# second statement of it (PS3.3 C.7.6.16.2.2 and .3). dicom2nifti puts the values by that number, and takes the affine from the
# positions of the file's first and last frame. Where one counts up and the other down, every slice gets the place of its
# opposite: of a sagittal stack left is right, and of a head nobody sees it; of an axial one the neck is on top. Its own checks
# (even distances, one orientation) pass. And a rescale that all frames share stands once, in SharedFunctionalGroupsSequence, as
# it may; dicom2nifti reads the frames' own alone and writes stored values. Nothing is raised, warned of or logged. It is so of
# Siemens', Philips' and other makers' objects. highdicom 0.28.2 and dcm2niix 1.0.20260724 lay every frame where it says, and scale it.
#
# Output seen (six sagittal slices of 100, and a lesion of 500 in the one that is 10 mm to the patient's left):
#   file and numbers agree: dicom2nifti 500 10 mm left, highdicom 500 10 mm left, dcm2niix 500 10 mm left
#   file against numbers: dicom2nifti 500 10 mm right, highdicom 500 10 mm left, dcm2niix 500 10 mm left
#   numbers against file: dicom2nifti 500 10 mm right, highdicom 500 10 mm left, dcm2niix 500 10 mm left
#   the same of Philips: dicom2nifti 500 10 mm right, highdicom 500 10 mm left, dcm2niix 500 10 mm left
#   the same of another maker: dicom2nifti 500 10 mm right, highdicom 500 10 mm left, dcm2niix 500 10 mm left
#   slope of 0.5 in each frame: dicom2nifti 250 10 mm left, highdicom 250 10 mm left, dcm2niix 250 10 mm left
#   slope of 0.5 shared: dicom2nifti 500 10 mm left, highdicom 250 10 mm left, dcm2niix 250 10 mm left
#   warned or logged: nothing
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/python" -m pip install --quiet --disable-pip-version-check \
  dicom2nifti==2.6.2 dcm2niix==1.0.20260724 highdicom==0.28.2 pydicom==3.0.2 nibabel==5.4.2 numpy==2.4.6
cat > "$work/look.py" <<'PY'
import io
import logging
import subprocess
import sys
import warnings
from pathlib import Path

import dicom2nifti
import highdicom
import nibabel
import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

PLACES = (-10, -6, -2, 2, 6, 10)  # mm to the patient's left
KIND = {
    "PixelPresentation": "MONOCHROME",
    "VolumetricProperties": "VOLUME",
    "VolumeBasedCalculationTechnique": "NONE",
    "ComplexImageComponent": "MAGNITUDE",
    "AcquisitionContrast": "T2",
}
TYPE = ["ORIGINAL", "PRIMARY", "T2", "NONE"]
HEAD = {
    "SOPClassUID": "1.2.840.10008.5.1.4.1.1.4.1",
    "SOPInstanceUID": "2.25.1",
    "StudyInstanceUID": "2.25.2",
    "SeriesInstanceUID": "2.25.3",
    "FrameOfReferenceUID": "2.25.4",
    "Modality": "MR",
    "PatientName": "Phantom^One",
    "PatientID": "1",
    "StudyID": "1",
    "SeriesNumber": 1,
    "InstanceNumber": 1,
    "StudyDate": "20260101",
    "StudyTime": "120000",
    "ContentDate": "20260101",
    "ContentTime": "120000",
    "ImageType": TYPE,
    "SamplesPerPixel": 1,
    "PhotometricInterpretation": "MONOCHROME2",
    "BitsAllocated": 16,
    "BitsStored": 16,
    "HighBit": 15,
    "PixelRepresentation": 0,
}


def item(**elements: object) -> Dataset:
    made = Dataset()
    for keyword, value in elements.items():
        setattr(made, keyword, value)
    return made


def scale(slope: float) -> dict[str, list[Dataset]]:
    return {"PixelValueTransformationSequence": [item(RescaleSlope=slope, RescaleIntercept=0, RescaleType="US")]}


def frame(place: int, number: int, groups: dict[str, list[Dataset]]) -> Dataset:
    return item(
        FrameContentSequence=[item(StackID="1", InStackPositionNumber=number, DimensionIndexValues=[1, number])],
        PlanePositionSequence=[item(ImagePositionPatient=[place, -10, 10])],
        **groups,
    )


def written(path: Path, maker: str, places: tuple[int, ...], numbers: tuple[int, ...], shared: dict, each: dict) -> None:
    """An object with its frames in the order of `places`; numbers: InStackPositionNumber of each."""
    made = item(**HEAD, **KIND, Manufacturer=maker)
    made.DimensionOrganizationSequence = [item(DimensionOrganizationUID="2.25.5")]
    made.DimensionIndexSequence = [
        item(DimensionOrganizationUID="2.25.5", DimensionIndexPointer=one, FunctionalGroupPointer=0x00209111)
        for one in (0x00209056, 0x00209057)
    ]
    made.SharedFunctionalGroupsSequence = [
        item(
            PlaneOrientationSequence=[item(ImageOrientationPatient=[0, 1, 0, 0, 0, -1])],
            PixelMeasuresSequence=[item(PixelSpacing=[1, 1], SliceThickness=4, SpacingBetweenSlices=4)],
            MRImageFrameTypeSequence=[item(FrameType=TYPE, **KIND)],
            **shared,
        )
    ]
    made.PerFrameFunctionalGroupsSequence = [frame(*one, each) for one in zip(places, numbers, strict=True)]
    made.NumberOfFrames, made.Rows, made.Columns = len(places), 20, 20
    made.PixelData = np.stack([np.full((20, 20), 500 if place == 10 else 100, "<u2") for place in places]).tobytes()
    made["PixelData"].VR = "OW"
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    path.parent.mkdir(parents=True)
    made.save_as(path, enforce_file_format=True)


def lesion(values: np.ndarray, affine: np.ndarray, left: int) -> str:
    """The brightest voxel and its side; left: the sign of the first coordinate to the patient's left."""
    brightest = np.unravel_index(values.argmax(), values.shape)
    place = left * float((affine @ [*brightest, 1])[0])
    return f"{values.max():g} {abs(place):g} mm {'left' if place > 0 else 'right'}"


def seen(path: Path) -> str:
    by_dicom2nifti = dicom2nifti.dicom_series_to_nifti(path.parent, path.with_suffix(".nii"))["NII"]
    volume = highdicom.imread(path).get_volume()
    command = [str(Path(sys.executable).with_name("dcm2niix")), "-b", "n", "-f", "niix", "-o", str(work), str(path)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    by_dcm2niix = nibabel.load(work / "niix.nii")
    answers = (
        f"dicom2nifti {lesion(by_dicom2nifti.get_fdata(), by_dicom2nifti.affine, -1)}",
        f"highdicom {lesion(volume.array, volume.affine, 1)}",
        f"dcm2niix {lesion(by_dcm2niix.get_fdata(), by_dcm2niix.affine, -1)}",
    )
    (work / "niix.nii").unlink()
    return ", ".join(answers)


work, log = Path(sys.argv[1]), io.StringIO()
logging.basicConfig(stream=log, level=logging.WARNING)
UP, DOWN, NUMBERS = PLACES, PLACES[::-1], (1, 2, 3, 4, 5, 6)
CASES = {
    "file and numbers agree": ("SIEMENS", UP, NUMBERS, {}, {}),
    "file against numbers": ("SIEMENS", DOWN, NUMBERS[::-1], {}, {}),
    "numbers against file": ("SIEMENS", UP, NUMBERS[::-1], {}, {}),
    "the same of Philips": ("Philips Medical Systems", UP, NUMBERS[::-1], {}, {}),
    "the same of another maker": ("ACME", UP, NUMBERS[::-1], {}, {}),
    "slope of 0.5 in each frame": ("SIEMENS", UP, NUMBERS, {}, scale(0.5)),
    "slope of 0.5 shared": ("SIEMENS", UP, NUMBERS, scale(0.5), {}),
}
with warnings.catch_warnings(record=True) as warned:
    warnings.simplefilter("always")
    for name, case in CASES.items():
        path = work / name.replace(" ", "-") / "1.dcm"
        written(path, *case)
        print(f"{name}:", seen(path))
told = [str(one.message) for one in warned if "dicom2nifti" in one.filename] + log.getvalue().splitlines()
print("warned or logged:", "; ".join(told) or "nothing")
PY
"$work/env/bin/python" "$work/look.py" "$work" > "$work/seen.txt"
cat "$work/seen.txt"
sed -n 's/^#   //p' "$0" > "$work/expected.txt"
cmp "$work/seen.txt" "$work/expected.txt"
