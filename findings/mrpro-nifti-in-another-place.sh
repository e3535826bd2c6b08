#!/bin/sh
# mrpro 0.261015: IData.to_nifti ("Save image data as NIFTI file") writes an image of another size, in another place, and
# mirrored. Its affine has columns of length 1 whatever the voxels measure; the position in it is in metres, where readers take
# millimetres, and is the middle of the picture, where the affine's last column is the place of the first voxel; and axes and
# position, which DICOM gives towards left, back and top, are handed on as NIfTI's, towards right, front and top. The sizes do stand
# in pixdim, in metres and without a unit, but the sform's code of 2 says that the affine counts. Of a DICOM scan the axis of
# the slices is reversed too, so that all three axes point the wrong way: no turn brings the picture back, and of a head nobody
# sees that left is right. Whoever measures a volume in it, or lays it over the scan, has a wrong number. Nothing is raised
# or warned of; mrpro has no reader of NIfTI that a round trip would try. SimpleITK 2.5.7 reads and writes the same DICOM file as it lies.
#
# Output seen (12 rows, 0.5 mm apart, 16 columns, 0.8 mm apart, six slices, 4 mm apart; axes of rows, columns and slices):
#   SimpleITK: sizes 0.5 x 0.8 x 4, pixdim 0.5 x 0.8 x 4, unit mm
#   SimpleITK: axes towards P L S, marker at [37.6, -24.5, 108.0]
#   mrpro: sizes 1 x 1 x 1, pixdim 0.0005 x 0.0008 x 0.004, unit unknown
#   mrpro: axes towards A R I, marker at [2.97, 9.02, -1.89]
#   warned: nothing
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/python" -m pip install --quiet --disable-pip-version-check \
  mrpro==0.261015 torch==2.13.0 SimpleITK==2.5.7 pydicom==3.0.2 nibabel==5.4.2 numpy==2.4.6
cat > "$work/look.py" <<'PY'
import sys
import warnings
from pathlib import Path
from types import ModuleType

import nibabel
import numpy as np
import SimpleITK
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

# mrpro imports torchvision for its phantoms alone, and torchvision does not load beside every build of torch.
for name in ("torchvision", "torchvision.transforms", "torchvision.transforms.functional"):
    sys.modules[name] = ModuleType(name)
from mrpro.data import IData  # noqa: E402

work = Path(sys.argv[1])


def item(**elements: object) -> Dataset:
    made = Dataset()
    for keyword, value in elements.items():
        setattr(made, keyword, value)
    return made


def written(path: Path) -> None:
    """An axial 3D scan: six frames of 12 rows, 0.5 mm apart, and 16 columns, 0.8 mm apart; a marker in one voxel."""
    made = item(SOPClassUID="1.2.840.10008.5.1.4.1.1.4.1", SOPInstanceUID="2.25.1", StudyInstanceUID="2.25.2")
    made.SeriesInstanceUID, made.FrameOfReferenceUID, made.Modality = "2.25.3", "2.25.4", "MR"
    made.PatientID, made.SeriesNumber, made.InstanceNumber, made.MRAcquisitionType = "1", 1, 1, "3D"
    made.SharedFunctionalGroupsSequence = [
        item(
            PlaneOrientationSequence=[item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])],
            PixelMeasuresSequence=[item(PixelSpacing=[0.5, 0.8], SliceThickness=4, SpacingBetweenSlices=4)],
        )
    ]
    made.PerFrameFunctionalGroupsSequence = [
        item(
            FrameContentSequence=[item(StackID="1", InStackPositionNumber=frame + 1)],
            PlanePositionSequence=[item(ImagePositionPatient=[-40, 20, 4 * frame + 100])],
        )
        for frame in range(6)
    ]
    values = np.full((6, 12, 16), 10, np.uint16)
    values[2, 9, 3] = 1000
    made.NumberOfFrames, made.Rows, made.Columns = values.shape
    made.SamplesPerPixel, made.PhotometricInterpretation, made.PixelRepresentation = 1, "MONOCHROME2", 0
    made.BitsAllocated, made.BitsStored, made.HighBit = 16, 16, 15
    made.PixelData = values.tobytes()
    made["PixelData"].VR = "OW"
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.save_as(path, enforce_file_format=True)


def said(who: str, path: Path) -> None:
    image = nibabel.load(path)
    values = np.squeeze(np.asarray(image.dataobj))
    order = [values.shape.index(n) for n in (12, 16, 6)]  # of rows, columns and slices
    marker = np.unravel_index(values.argmax(), values.shape)
    place = [round(float(value), 2) for value in (image.affine @ [*marker, 1])[:3]]
    sizes = nibabel.affines.voxel_sizes(image.affine)[order]
    pixdim = image.header["pixdim"][1:4][order]
    towards = [nibabel.aff2axcodes(image.affine)[axis] for axis in order]
    print(f"{who}: sizes {said_sizes(sizes)}, pixdim {said_sizes(pixdim)}, unit {image.header.get_xyzt_units()[0]}")
    print(f"{who}: axes towards {' '.join(towards)}, marker at {place}")


def said_sizes(values: np.ndarray) -> str:
    return " x ".join(f"{value:.3g}" for value in values)


with warnings.catch_warnings(record=True) as warned:
    warnings.simplefilter("always")
    written(work / "1.dcm")
    SimpleITK.WriteImage(SimpleITK.ReadImage(str(work / "1.dcm")), work / "itk.nii")
    said("SimpleITK", work / "itk.nii")
    IData.from_dicom_files(work / "1.dcm").to_nifti(work / "mrpro.nii", magnitude_only=True)
    said("mrpro", work / "mrpro.nii")
told = [str(one.message) for one in warned if "mrpro" in one.filename]
print("warned:", "; ".join(told) or "nothing")
PY
"$work/env/bin/python" "$work/look.py" "$work" > "$work/seen.txt"
cat "$work/seen.txt"
sed -n 's/^#   //p' "$0" > "$work/expected.txt"
cmp "$work/seen.txt" "$work/expected.txt"
