#!/bin/sh
# SimpleITK 2.5.7: the frames of an enhanced MR object may stand in any order, and each says where it lies
# (PlanePositionSequence, and InStackPositionNumber for its place in the stack; DICOM PS3.3 C.7.6.16.2.2 and .3). SimpleITK
# stacks them in the order of the file. Where they do not follow one another evenly it takes 1 mm for the distance of slices,
# though SpacingBetweenSlices says 3 mm, and the origin of the first. Nothing is raised or printed: a stack of the acquisition's
# order (odd slices, then even ones) becomes a volume of shuffled slices of a third of its height. highdicom 0.28.2 and dcm2niix
# 1.0.20260724 lay every frame where it says. dciodvfy finds no error in the object. (3D Slicer, by ITK, showed a user such a
# stack shuffled: issue 839 of the repository of dcm2niix.)
#
# Output seen (slices at 0 to 15 mm with the values 100 to 600, the odd ones written first):
#   SimpleITK: at 0 mm 100, at 1 mm 300, at 2 mm 500, at 3 mm 200, at 4 mm 400, at 5 mm 600
#   highdicom: at 0 mm 100, at 3 mm 200, at 6 mm 300, at 9 mm 400, at 12 mm 500, at 15 mm 600
#   dcm2niix: at 0 mm 100, at 3 mm 200, at 6 mm 300, at 9 mm 400, at 12 mm 500, at 15 mm 600
#   warnings: none
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/python" -m pip install --quiet --disable-pip-version-check \
  SimpleITK==2.5.7 dcm2niix==1.0.20260724 highdicom==0.28.2 pydicom==3.0.2 nibabel==5.4.2 numpy==2.4.6
cat > "$work/look.py" <<'PY'
import subprocess
import sys
from pathlib import Path

import highdicom
import nibabel
import numpy as np
import SimpleITK
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

PLACES = (0, 2, 4, 1, 3, 5)
KIND = {
    "PixelPresentation": "MONOCHROME",
    "VolumetricProperties": "VOLUME",
    "VolumeBasedCalculationTechnique": "NONE",
    "ComplexImageComponent": "MAGNITUDE",
    "AcquisitionContrast": "T2",
}
TYPE = ["DERIVED", "PRIMARY", "T2", "RESAMPLED"]
HEAD = {
    "SOPClassUID": "1.2.840.10008.5.1.4.1.1.4.1",
    "SOPInstanceUID": "2.25.1",
    "StudyInstanceUID": "2.25.2",
    "SeriesInstanceUID": "2.25.3",
    "FrameOfReferenceUID": "2.25.4",
    "Modality": "MR",
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


def item(**elements):
    made = Dataset()
    for keyword, value in elements.items():
        setattr(made, keyword, value)
    return made


def frame(place):
    return item(
        FrameContentSequence=[
            item(StackID="1", InStackPositionNumber=place + 1, DimensionIndexValues=[1, place + 1])
        ],
        PlanePositionSequence=[item(ImagePositionPatient=[-10, -10, 3 * place])],
        PixelValueTransformationSequence=[item(RescaleSlope=1, RescaleIntercept=0, RescaleType="US")],
    )


def enhanced():
    made = item(**HEAD, **KIND, Manufacturer="SIEMENS")
    for keyword in ("PatientBirthDate", "PatientSex", "AccessionNumber", "ReferringPhysicianName"):
        setattr(made, keyword, "")
    made.PositionReferenceIndicator, made.AcquisitionContextSequence = "", []
    made.DimensionOrganizationSequence = [item(DimensionOrganizationUID="2.25.5")]
    made.DimensionIndexSequence = [
        item(DimensionOrganizationUID="2.25.5", DimensionIndexPointer=one, FunctionalGroupPointer=0x00209111)
        for one in (0x00209056, 0x00209057)
    ]
    anywhere = item(CodeValue="38266002", CodingSchemeDesignator="SCT", CodeMeaning="Entire body")
    made.SharedFunctionalGroupsSequence = [
        item(
            PlaneOrientationSequence=[item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])],
            PixelMeasuresSequence=[item(PixelSpacing=[1, 1], SliceThickness=3, SpacingBetweenSlices=3)],
            FrameAnatomySequence=[item(FrameLaterality="U", AnatomicRegionSequence=[anywhere])],
            MRImageFrameTypeSequence=[item(FrameType=TYPE, **KIND)],
        )
    ]
    made.PerFrameFunctionalGroupsSequence = [frame(place) for place in PLACES]
    made.NumberOfFrames, made.Rows, made.Columns = len(PLACES), 20, 20
    values = np.repeat(100 * (np.array(PLACES, "<u2") + 1), 20 * 20)
    made.PixelData = values.astype("<u2").tobytes()
    made["PixelData"].VR = "OW"
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return made


def say(who, affine, values):
    """affine: from (slice, ...) or (..., slice) to the patient's mm; its third row is the height."""
    step = max(affine[2, :3], key=abs)
    places = [(affine[2, 3] + step * index, value) for index, value in enumerate(values)]
    print(f"{who}:", ", ".join(f"at {height:g} mm {value:g}" for height, value in sorted(places)))


work = Path(sys.argv[1])
source, out = work / "in", work / "out"
source.mkdir()
out.mkdir()
path = source / "1.dcm"
enhanced().save_as(path, enforce_file_format=True)
image = SimpleITK.ReadImage(str(path))
affine = np.eye(4)
affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
affine[:3, 3] = image.GetOrigin()
say("SimpleITK", affine, SimpleITK.GetArrayFromImage(image)[:, 0, 0])
volume = highdicom.imread(path).get_volume()
say("highdicom", volume.affine, volume.array[:, 0, 0])
command = [str(Path(sys.executable).with_name("dcm2niix")), "-b", "n", "-f", "x", "-o", str(out), str(source)]
subprocess.run(command, capture_output=True, check=True)
(written,) = out.glob("*.nii")
say("dcm2niix", nibabel.load(written).affine, nibabel.load(written).get_fdata()[0, 0])
PY
"$work/env/bin/python" -W always "$work/look.py" "$work" > "$work/seen.txt" 2> "$work/errors.txt" || true
if [ -s "$work/errors.txt" ]; then cat "$work/errors.txt"; else echo "warnings: none" >> "$work/seen.txt"; fi
cat "$work/seen.txt"
sed -n 's/^#   //p' "$0" > "$work/expected.txt"
cmp "$work/seen.txt" "$work/expected.txt"
