#!/bin/sh
# dicompare 0.11.1 says whether a session's protocol is a reference's ("truly equivalent, similar, or meaningfully different"). A
# field of several values, for which no tolerance is given, it compares as a set: neither order nor number counts, and these are what
# such fields say. AcquisitionMatrix is rows and columns of frequency, then rows and columns of phase (PS3.3 table C.8-4): the
# places tell along which side of the picture the phase was encoded, and thus where ghosts and folding run, and which side
# has the coarser sampling. 0 256 192 0 and 256 0 0 192 pass for each other, and 192 by 256 for 256 by 192. A pixel of 0.5 x 0.9 mm passes
# for one of 0.9 x 0.5, and a coronal series for a sagittal one, since both ImageOrientationPatient are made of 0, 1 and -1.
# `dicompare build` writes AcquisitionMatrix so, and schemas that come with it (UK Biobank, ABCD) have it so; ABCD's has 0 256 233 0 for
# one acquisition and 256 0 0 233 for another. Other numbers are found, so the check is believed. Nothing is warned of. Where a
# tolerance is given, the values are compared one by one: "tolerance": 0 with each such field is the remedy.
#
# Output seen (a schema that was built of a sagittal series, with two fields added to it; the fields that do not pass):
#   built: AcquisitionMatrix [0, 256, 192, 0]
#   the same again: all 12 pass
#   echo time 80 ms: EchoTime
#   matrix 256 0 0 192: all 12 pass
#   matrix 0 192 256 0: all 12 pass
#   matrix 0 256 256 0: AcquisitionMatrix
#   pixels of 0.9 x 0.5 mm: all 12 pass
#   pixels of 0.5 x 0.8 mm: PixelSpacing
#   coronal: all 12 pass
#   with tolerance 0, the same again: all 12 pass
#   with tolerance 0, matrix 256 0 0 192: AcquisitionMatrix
#   with tolerance 0, pixels of 0.9 x 0.5 mm: PixelSpacing
#   with tolerance 0, coronal: ImageOrientationPatient
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/python" -m pip install --quiet --disable-pip-version-check dicompare==0.11.1 pydicom==2.4.5 numpy==2.4.6
cat > "$work/look.py" <<'PY'
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from dicompare import check_acquisition_compliance, load_dicom_session
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

work = Path(sys.argv[1])
PLANES = {"sagittal": [0, 1, 0, 0, 0, -1], "coronal": [1, 0, 0, 0, 0, -1]}


def scan(
    name: str,
    *,
    matrix: tuple[int, ...] = (0, 256, 192, 0),
    spacing: tuple[float, float] = (0.5, 0.9),
    plane: str = "sagittal",
    echo_time_ms: float = 90,
) -> Path:
    folder = work / name.replace(" ", "-")
    folder.mkdir()
    for number in range(1, 5):
        meta = FileMetaDataset()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.4", f"2.25.10{number}"
        one = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128, is_implicit_VR=False, is_little_endian=True)
        one.SOPClassUID, one.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
        one.StudyInstanceUID, one.SeriesInstanceUID, one.FrameOfReferenceUID = "2.25.2", "2.25.3", "2.25.4"
        one.Modality, one.Manufacturer, one.SeriesNumber, one.InstanceNumber = "MR", "ACME", 1, number
        one.PatientName, one.PatientID, one.StudyID, one.StudyDate, one.StudyTime = "A^B", "1", "1", "20260101", "120000"
        one.ProtocolName = one.SeriesDescription = "T2 TSE"
        one.ImageType, one.ScanningSequence, one.SequenceVariant = ["ORIGINAL", "PRIMARY", "M"], "SE", "SK"
        one.MRAcquisitionType, one.RepetitionTime, one.EchoTime, one.EchoTrainLength = "2D", 3000, echo_time_ms, 12
        one.FlipAngle, one.PixelBandwidth, one.MagneticFieldStrength = 120, 200, 3
        one.AcquisitionMatrix, one.PixelSpacing, one.SliceThickness = list(matrix), list(spacing), 4
        one.ImageOrientationPatient = PLANES[plane]
        one.ImagePositionPatient = [4 * number, 0, 0] if plane == "sagittal" else [0, 4 * number, 0]
        one.Rows = one.Columns = 8
        one.SamplesPerPixel, one.PhotometricInterpretation, one.PixelRepresentation = 1, "MONOCHROME2", 0
        one.BitsAllocated, one.BitsStored, one.HighBit = 16, 16, 15
        one.PixelData = np.full((8, 8), 100 * number, np.uint16).tobytes()
        one.save_as(folder / f"{number}.dcm", write_like_original=False)
    return folder


def look(name: str, **settings: object) -> None:
    session = load_dicom_session(session_dir=str(scan(name, **settings)), show_progress=False)
    records = check_acquisition_compliance(session, acquisition)
    failed = [one["field"] for one in records if one["status"] != "ok"]
    print(f"{name}: {', '.join(failed) or f'all {len(records)} pass'}")


schema = work / "schema.json"
command = [str(Path(sys.executable).with_name("dicompare")), "build", str(scan("reference")), str(schema)]
subprocess.run(command, capture_output=True, check=True)
(acquisition,) = json.loads(schema.read_text())["acquisitions"].values()
(matrix,) = [one for one in acquisition["fields"] if one["field"] == "AcquisitionMatrix"]
print("built:", matrix["field"], matrix["value"])
acquisition["fields"] += [
    {"field": "PixelSpacing", "tag": "0028,0030", "value": [0.5, 0.9], "fieldType": "standard"},
    {"field": "ImageOrientationPatient", "tag": "0020,0037", "value": PLANES["sagittal"], "fieldType": "standard"},
]
look("the same again")
look("echo time 80 ms", echo_time_ms=80)
look("matrix 256 0 0 192", matrix=(256, 0, 0, 192))
look("matrix 0 192 256 0", matrix=(0, 192, 256, 0))
look("matrix 0 256 256 0", matrix=(0, 256, 256, 0))
look("pixels of 0.9 x 0.5 mm", spacing=(0.9, 0.5))
look("pixels of 0.5 x 0.8 mm", spacing=(0.5, 0.8))
look("coronal", plane="coronal")
for one in acquisition["fields"]:
    if isinstance(one["value"], list) and not isinstance(one["value"][0], str):
        one["tolerance"] = 0
look("with tolerance 0, the same again")
look("with tolerance 0, matrix 256 0 0 192", matrix=(256, 0, 0, 192))
look("with tolerance 0, pixels of 0.9 x 0.5 mm", spacing=(0.9, 0.5))
look("with tolerance 0, coronal", plane="coronal")
PY
"$work/env/bin/python" "$work/look.py" "$work" > "$work/seen.txt"
cat "$work/seen.txt"
sed -n 's/^#   //p' "$0" > "$work/expected.txt"
cmp "$work/seen.txt" "$work/expected.txt"
