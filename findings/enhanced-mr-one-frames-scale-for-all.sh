#!/bin/sh
# SimpleITK 2.5.7 and dcm2niix 1.0.20260724: an enhanced MR object may have a rescale of its own in every frame
# (PixelValueTransformationSequence among the per-frame functional groups, DICOM PS3.3 C.7.6.16.2.9). SimpleITK scales every
# frame by the first frame's slope. dcm2niix scales every frame by the last frame's, if the manufacturer is not Philips; of
# Philips it scales each by its own (its maintainer says so in the repository's issue 853). Neither warns: the slices are as
# bright as they are stored. highdicom 0.28.2 gives each frame its own. dciodvfy finds no error in the object.
#
# Output seen (one voxel of each of six slices, all stored as 100):
#   as the standard has it: 100 50 25 200 300 400
#   highdicom: 100 50 25 200 300 400
#   SimpleITK: 100 100 100 100 100 100
#   dcm2niix, SIEMENS: 400 400 400 400 400 400
#   dcm2niix, GE MEDICAL SYSTEMS: 400 400 400 400 400 400
#   dcm2niix, UIH: 400 400 400 400 400 400
#   dcm2niix, Philips Medical Systems: 100 50 25 200 300 400
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

SLOPES = (1, 0.5, 0.25, 2, 3, 4)
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


def frame(number, slope):
    return item(
        FrameContentSequence=[item(StackID="1", InStackPositionNumber=number, DimensionIndexValues=[1, number])],
        PlanePositionSequence=[item(ImagePositionPatient=[-10, -10, 3 * number])],
        PixelValueTransformationSequence=[item(RescaleSlope=slope, RescaleIntercept=0, RescaleType="US")],
    )


def enhanced(manufacturer):
    made = item(**HEAD, **KIND, Manufacturer=manufacturer)
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
    made.PerFrameFunctionalGroupsSequence = [frame(number, slope) for number, slope in enumerate(SLOPES, 1)]
    made.NumberOfFrames, made.Rows, made.Columns = len(SLOPES), 20, 20
    made.PixelData = np.full((len(SLOPES), 20, 20), 100, "<u2").tobytes()
    made["PixelData"].VR = "OW"
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return made


def say(who, values):
    print(f"{who}:", *(f"{value:g}" for value in values))


work = Path(sys.argv[1])
say("as the standard has it", [100 * slope for slope in SLOPES])
for manufacturer in ("SIEMENS", "GE MEDICAL SYSTEMS", "UIH", "Philips Medical Systems"):
    source, out = work / manufacturer / "in", work / manufacturer / "out"
    source.mkdir(parents=True)
    out.mkdir()
    path = source / "1.dcm"
    enhanced(manufacturer).save_as(path, enforce_file_format=True)
    if manufacturer == "SIEMENS":
        of_highdicom = highdicom.imread(path).get_volume()
        upwards = np.argsort(of_highdicom.affine[2, 0] * np.arange(len(SLOPES)))
        say("highdicom", of_highdicom.array[upwards, 0, 0])
        say("SimpleITK", SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path)))[:, 0, 0])
    command = [str(Path(sys.executable).with_name("dcm2niix")), "-b", "n", "-f", "x", "-o", str(out), str(source)]
    told = subprocess.run(command, capture_output=True, text=True, check=True)
    if "Philips" not in manufacturer and "slope" in told.stdout.lower():
        print("a word of slopes, of", manufacturer, file=sys.stderr)
    (image,) = out.glob("*.nii")
    say(f"dcm2niix, {manufacturer}", nibabel.load(image).get_fdata()[0, 0])
PY
"$work/env/bin/python" -W always "$work/look.py" "$work" > "$work/seen.txt" 2> "$work/errors.txt" || true
if [ -s "$work/errors.txt" ]; then cat "$work/errors.txt"; else echo "warnings: none" >> "$work/seen.txt"; fi
cat "$work/seen.txt"
cat > "$work/expected.txt" <<'TXT'
as the standard has it: 100 50 25 200 300 400
highdicom: 100 50 25 200 300 400
SimpleITK: 100 100 100 100 100 100
dcm2niix, SIEMENS: 400 400 400 400 400 400
dcm2niix, GE MEDICAL SYSTEMS: 400 400 400 400 400 400
dcm2niix, UIH: 400 400 400 400 400 400
dcm2niix, Philips Medical Systems: 100 50 25 200 300 400
warnings: none
TXT
cmp "$work/seen.txt" "$work/expected.txt"
