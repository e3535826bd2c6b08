#!/bin/sh
# dcm2niix 1.0.20260724: what stands in items of ContributingEquipmentSequence (0018,A001) is taken for the image's own.
# The standard has that sequence for other equipment that took part in making or changing an object (PS3.3, SOP Common
# Module): a processing station, a de-identifier. The side-car then names that device's model, serial number, software and
# institution in place of the scanner's; the vendor too where (0008,0070) is none that dcm2niix knows, and by the vendor it
# chooses how it converts. highdicom 0.28.2 adds itself by such an item to each object: a map that it made of a Siemens series,
# with a manufacturer of its own, came out as "Siemens", model "highdicom". It is the same with StudyInstanceUID and
# AccessionNumber in RequestAttributesSequence (0040,0275). Items of OriginalAttributesSequence are passed over, as they
# should be: the source does so for that sequence by name ("ignore Original Attributes", nii_dicom.cpp). Nothing is warned of.
#
# Output seen:
#   as scanned: vendor Philips, model Ingenia, serial 77, software 5.7, institution Hospital, study 2.25.2, accession A1
#   processed elsewhere: vendor Philips, model Station, serial 5, software 9.9, institution Laboratory, study 2.25.2, accession A1
#   processed, vendor not known: vendor GE, model Station, serial 5, software 9.9, institution Laboratory, study 2.25.2, accession A1
#   with another order: vendor Philips, model Ingenia, serial 77, software 5.7, institution Hospital, study 2.25.9, accession A2
#   corrected: vendor Philips, model Ingenia, serial 77, software 5.7, institution Hospital, study 2.25.2, accession A1
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/python" -m pip install --quiet --disable-pip-version-check pydicom==3.0.2 numpy==2.3.5 dcm2niix==1.0.20260724
"$work/env/bin/python" - "$work" > "$work/seen.txt" <<'PY'
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

work = Path(sys.argv[1])
KEYS = {
    "vendor": "Manufacturer", "model": "ManufacturersModelName", "serial": "DeviceSerialNumber",
    "software": "SoftwareVersions", "institution": "InstitutionName", "study": "StudyInstanceUID",
    "accession": "AccessionNumber",
}  # fmt: skip


def item(**values: object) -> Dataset:
    new = Dataset()
    for keyword, value in values.items():
        setattr(new, keyword, value)
    return new


def equipment(manufacturer: str) -> Dataset:
    purpose = item(CodeValue="109102", CodingSchemeDesignator="DCM", CodeMeaning="Processing Equipment")
    return item(
        PurposeOfReferenceCodeSequence=[purpose], Manufacturer=manufacturer, ManufacturerModelName="Station",
        DeviceSerialNumber="5", SoftwareVersions="9.9", InstitutionName="Laboratory",
    )  # fmt: skip


def convert(name: str, **more: object) -> None:
    folder = work / name.replace(" ", "-").replace(",", "")
    folder.mkdir()
    for index in range(4):
        one = item(
            SOPClassUID="1.2.840.10008.5.1.4.1.1.4", SOPInstanceUID=f"2.25.1{index}", StudyInstanceUID="2.25.2",
            SeriesInstanceUID="2.25.3", FrameOfReferenceUID="2.25.4", Modality="MR", Manufacturer="Philips",
            ManufacturerModelName="Ingenia", DeviceSerialNumber="77", SoftwareVersions="5.7",
            InstitutionName="Hospital", AccessionNumber="A1", PatientID="P1", PatientPosition="HFS", SeriesNumber=1,
            InstanceNumber=index + 1, ImageType=["ORIGINAL", "PRIMARY", "M"], EchoTime=10, RepetitionTime=600,
            ScanningSequence="SE", MagneticFieldStrength=3, ImagePositionPatient=[0, 0, 4 * index],
            ImageOrientationPatient=[1, 0, 0, 0, 1, 0], PixelSpacing=[1, 1], SliceThickness=4, Rows=32, Columns=32,
            SamplesPerPixel=1, PhotometricInterpretation="MONOCHROME2", PixelRepresentation=0, BitsAllocated=16,
            BitsStored=16, HighBit=15, PixelData=np.arange(1024, dtype=np.uint16).tobytes(),
        )  # fmt: skip
        for keyword, value in more.items():
            setattr(one, keyword, value)
        one.file_meta = FileMetaDataset()
        one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        one.save_as(folder / f"{index}.dcm", enforce_file_format=True)
    program = Path(sys.executable).parent / "dcm2niix"
    subprocess.run([program, "-b", "y", "-ba", "n", "-f", folder.name, "-o", work, folder], check=True, capture_output=True)
    said = json.loads((work / f"{folder.name}.json").read_text())
    print(f"{name}: " + ", ".join(f"{short} {said.get(key, 'not said')}" for short, key in KEYS.items()))


convert("as scanned")
convert("processed elsewhere", ContributingEquipmentSequence=[equipment("GE MEDICAL SYSTEMS")])
convert(
    "processed, vendor not known", Manufacturer="", ContributingEquipmentSequence=[equipment("GE MEDICAL SYSTEMS")]
)
convert("with another order", RequestAttributesSequence=[item(StudyInstanceUID="2.25.9", AccessionNumber="A2")])
before = item(StudyInstanceUID="2.25.8", AccessionNumber="A0", InstitutionName="Former", DeviceSerialNumber="1")
corrected = item(
    ModifiedAttributesSequence=[before], AttributeModificationDateTime="20260101", ModifyingSystem="PACS",
    SourceOfPreviousValues="", ReasonForTheAttributeModification="CORRECT",
)  # fmt: skip
convert("corrected", OriginalAttributesSequence=[corrected])
PY
cat "$work/seen.txt"
sed -n 's/^#   //p' "$0" > "$work/expected.txt"
cmp "$work/expected.txt" "$work/seen.txt"
