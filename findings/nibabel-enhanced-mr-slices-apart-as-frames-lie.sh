#!/bin/sh
# nibabel 5.4.2: the wrapper for enhanced MR objects (nicom.dicomwrappers) puts the slices of get_data() in the order of their places,
# and is right in that. But the distance of slices in voxel_sizes and affine is that of two frames whose numbers it takes from the
# wrong list (a frame's place in the stack is used as a frame's number). It comes out right where the frames stand in the file from
# one end of the stack to the other. They may stand in any order (PS3.3 C.7.6.17, and C.7.6.16.2.3 for the place in the stack): of a stack
# in the order of the acquisition the voxels are three or four times as high as they are, or of a distance below 0. With that the
# affine lays the slices to the other side: of an axial stack the neck is on top, of a sagittal one left is right, and of a head nobody
# sees it. With two echoes side by side, as proton density and T2 are, the distance is 0 and the affine flat. SpacingBetweenSlices is
# there and is not read. Nothing is raised or warned of but, at import, that the readers are "highly experimental" and that they
# "only work for Siemens time-series". highdicom 0.28.2 and dcm2niix 1.0.20260724 lay every frame where it says.
#
# Output seen (slices 3 mm apart from 0 mm on, the values 100 to 600; the place in mm where each value lies, and * where it is another's):
#   at import: The DICOM readers are highly experimental, unstable, and only work for Siemens time-series at the moment
#   upwards, nibabel: 0:100 3:200 6:300 9:400 12:500 15:600
#   upwards, highdicom: 0:100 3:200 6:300 9:400 12:500 15:600
#   upwards, dcm2niix: 0:100 3:200 6:300 9:400 12:500 15:600
#   downwards, nibabel: 0:100 3:200 6:300 9:400 12:500 15:600
#   downwards, highdicom: 0:100 3:200 6:300 9:400 12:500 15:600
#   downwards, dcm2niix: 0:100 3:200 6:300 9:400 12:500 15:600
#   odd ones first, nibabel: -45:100* -33:200* -21:300* -9:400* 3:500* 15:600
#   odd ones first, highdicom: 0:100 3:200 6:300 9:400 12:500 15:600
#   odd ones first, dcm2niix: 0:100 3:200 6:300 9:400 12:500 15:600
#   even ones first, nibabel: 15:600 24:500* 33:400* 42:300* 51:200* 60:100*
#   even ones first, highdicom: 0:100 3:200 6:300 9:400 12:500 15:600
#   even ones first, dcm2niix: 0:100 3:200 6:300 9:400 12:500 15:600
#   even ones first, sagittal, nibabel: -45:600* -36:500* -27:400* -18:300* -9:200* 0:100
#   even ones first, sagittal, highdicom: 0:100 3:200 6:300 9:400 12:500 15:600
#   even ones first, sagittal, dcm2niix: 0:100 3:200 6:300 9:400 12:500 15:600
#   echo after echo, nibabel: 0:100 3:200 6:300 9:400 12:500 15:600
#   two echoes side by side, nibabel: 15:100* 15:200* 15:300* 15:400* 15:500* 15:600
#   warned: nothing
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/python" -m pip install --quiet --disable-pip-version-check \
  nibabel==5.4.2 dcm2niix==1.0.20260724 highdicom==0.28.2 pydicom==3.0.2 numpy==2.4.6
cat > "$work/look.py" <<'PY'
import subprocess
import sys
import warnings
from pathlib import Path

import highdicom
import nibabel
import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

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
    "Manufacturer": "SIEMENS",
    "PatientName": "Phantom^One",
    "PatientID": "1",
    "PatientPosition": "HFS",
    "StudyID": "1",
    "SeriesNumber": 1,
    "InstanceNumber": 1,
    "StudyDate": "20260101",
    "StudyTime": "120000",
    "ContentDate": "20260101",
    "ContentTime": "120000",
    "ImageType": TYPE,
    "ManufacturerModelName": "UNKNOWN",
    "DeviceSerialNumber": "1",
    "SoftwareVersions": "1",
    "MagneticFieldStrength": 3.0,
    "ResonantNucleus": "1H",
    "ApplicableSafetyStandardAgency": "IEC",
    "ContentQualification": "RESEARCH",
    "PresentationLUTShape": "IDENTITY",
    "BurnedInAnnotation": "NO",
    "LossyImageCompression": "00",
    "SamplesPerPixel": 1,
    "PhotometricInterpretation": "MONOCHROME2",
    "BitsAllocated": 16,
    "BitsStored": 16,
    "HighBit": 15,
    "PixelRepresentation": 0,
}
POINTERS = {0x00209056: 0x00209111, 0x00209057: 0x00209111, 0x00189082: 0x00189114}
AXIAL, SAGITTAL = [1, 0, 0, 0, 1, 0], [0, 1, 0, 0, 0, -1]


def item(**elements) -> Dataset:
    made = Dataset()
    for keyword, value in elements.items():
        setattr(made, keyword, value)
    return made


def frame(place: int, echo: int, echoes: int, along: int) -> Dataset:
    position = [-10.0, -10.0, -10.0]
    position[along] = 3.0 * place
    index = [1, place + 1] + ([echo] if echoes > 1 else [])
    return item(
        FrameContentSequence=[item(StackID="1", InStackPositionNumber=place + 1, DimensionIndexValues=index)],
        PlanePositionSequence=[item(ImagePositionPatient=position)],
        MREchoSequence=[item(EffectiveEchoTime=20.0 * echo)],
        PixelValueTransformationSequence=[item(RescaleSlope=1, RescaleIntercept=0, RescaleType="US")],
    )


def enhanced(frames: list[tuple[int, int]], orientation: list[int]) -> Dataset:
    """frames: the place in the stack and the echo of each, in the order of the file."""
    echoes = len({echo for _, echo in frames})
    made = item(**HEAD, **KIND)
    for keyword in ("PatientBirthDate", "PatientSex", "AccessionNumber", "ReferringPhysicianName"):
        setattr(made, keyword, "")
    made.PositionReferenceIndicator, made.AcquisitionContextSequence = "", []
    made.DimensionOrganizationSequence = [item(DimensionOrganizationUID="2.25.5")]
    made.DimensionIndexSequence = [
        item(DimensionOrganizationUID="2.25.5", DimensionIndexPointer=one, FunctionalGroupPointer=group)
        for one, group in list(POINTERS.items())[: 3 if echoes > 1 else 2]
    ]
    anywhere = item(CodeValue="38266002", CodingSchemeDesignator="SCT", CodeMeaning="Entire body")
    made.SharedFunctionalGroupsSequence = [
        item(
            PlaneOrientationSequence=[item(ImageOrientationPatient=orientation)],
            PixelMeasuresSequence=[item(PixelSpacing=[1, 1], SliceThickness=3, SpacingBetweenSlices=3)],
            FrameAnatomySequence=[item(FrameLaterality="U", AnatomicRegionSequence=[anywhere])],
            MRImageFrameTypeSequence=[item(FrameType=TYPE, **KIND)],
        )
    ]
    along = 2 if orientation == AXIAL else 0
    made.PerFrameFunctionalGroupsSequence = [frame(place, echo, echoes, along) for place, echo in frames]
    made.NumberOfFrames, made.Rows, made.Columns = len(frames), 20, 20
    made.PixelData = np.repeat([100 * (place + 1) for place, _ in frames], 20 * 20).astype("<u2").tobytes()
    made["PixelData"].VR = "OW"
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return made


def say(name: str, affine: np.ndarray, values: np.ndarray, *, axis: int, along: int) -> None:
    """affine: to DICOM's mm, its column `axis` is the slices'; along: the patient's axis along which they lie."""
    places = [float(affine[along, 3] + affine[along, axis] * number) + 0.0 for number in range(len(values))]
    said = [(place, f"{place:g}:{value:g}{'*' if abs(place - 3 * (value / 100 - 1)) > 0.01 else ''}") for place, value in zip(places, values)]
    print(f"{name}: {' '.join(text for _, text in sorted(said))}")


def look(name: str, frames: list[tuple[int, int]], orientation: list[int] = AXIAL, others: bool = True) -> None:
    along = 2 if orientation == AXIAL else 0
    source = Path(sys.argv[1]) / name.replace(" ", "-")
    out = source.with_name(source.name + "-out")
    source.mkdir()
    out.mkdir()
    path = source / "1.dcm"
    enhanced(frames, orientation).save_as(path, enforce_file_format=True)
    wrapped = wrapper_from_file(path)
    values = wrapped.get_data()
    say(f"{name}, nibabel", wrapped.affine, values[0, 0] if values.ndim == 3 else values[0, 0, :, 0], axis=2, along=along)
    if not others:
        return
    volume = highdicom.imread(path).get_volume()
    say(f"{name}, highdicom", volume.affine, volume.array[:, 0, 0], axis=0, along=along)
    command = [str(Path(sys.executable).with_name("dcm2niix")), "-b", "n", "-f", "x", "-o", str(out), str(source)]
    subprocess.run(command, capture_output=True, check=True)
    (written,) = out.glob("*.nii")
    image = nibabel.as_closest_canonical(nibabel.load(written))
    values = image.get_fdata()
    values = values[0, 0] if along == 2 else values[:, 0, 0]
    say(f"{name}, dcm2niix", np.diag([-1, -1, 1, 1]) @ image.affine, values, axis=along, along=along)


with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    from nibabel.nicom.dicomwrappers import wrapper_from_file
print("at import:", " ".join(str(told[0].message).split("\n")[0].split()))
with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    look("upwards", [(place, 1) for place in range(6)])
    look("downwards", [(place, 1) for place in range(5, -1, -1)])
    look("odd ones first", [(place, 1) for place in (0, 2, 4, 1, 3, 5)])
    look("even ones first", [(place, 1) for place in (1, 3, 5, 0, 2, 4)])
    look("even ones first, sagittal", [(place, 1) for place in (1, 3, 5, 0, 2, 4)], SAGITTAL)
    look("echo after echo", [(place, echo) for echo in (1, 2) for place in range(6)], others=False)
    look("two echoes side by side", [(place, echo) for place in range(6) for echo in (1, 2)], others=False)
print("warned:", "; ".join(str(one.message) for one in told if "nicom" in one.filename) or "nothing")
PY
"$work/env/bin/python" "$work/look.py" "$work" > "$work/seen.txt"
cat "$work/seen.txt"
sed -n 's/^#   //p' "$0" > "$work/expected.txt"
cmp "$work/seen.txt" "$work/expected.txt"
