#!/bin/sh
# pydicom 3.0.2: a File-set (DICOMDIR) knows its instances by SOPInstanceUID alone. FileSet.add with a dataset whose UID is there
# already returns the instance that is there, and drops what was given: it is neither compared nor taken. So the way that offers
# itself (load an instance, correct a name or a position, add it) writes the old object again. Removing the instance first
# changes nothing: add then cancels the removal, as its documentation says, and again keeps the old content. Of a new File-set
# the first of two stands for both too, since add writes the file at once and later changes of the dataset are not its own. is_staged is
# False, write and copy succeed, and nothing is raised or warned of: who corrects an export gives away the one that was wrong.
# With new UIDs the files are right, but the directory is not: the patient's record is found by PatientID, and
# has the name of whoever was first. A write between remove and add is the remedy, or a new File-set of the corrected files.
#
# Output seen (three slices of A^B at 0 mm, corrected to C^D at 50 mm):
#   added again: files A^B at 0, directory A^B, staged no
#   removed and added: files A^B at 0, directory A^B, staged no
#   new set, added twice: files A^B at 0, directory A^B, staged yes
#   with new UIDs beside a first one: files A^B at 0 and C^D at 50, directory A^B
#   removed, written, added: files C^D at 50, directory C^D, staged yes
#   warned: nothing
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/python" -m pip install --quiet --disable-pip-version-check pydicom==3.0.2
cat > "$work/look.py" <<'PY'
import sys
import warnings
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.fileset import FileSet
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

work = Path(sys.argv[1])


def slice_of(number, name, position):
    one = Dataset()
    one.file_meta = FileMetaDataset()
    one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    one.SOPClassUID, one.SOPInstanceUID = MRImageStorage, f"2.25.1.{number}"
    one.file_meta.MediaStorageSOPClassUID, one.file_meta.MediaStorageSOPInstanceUID = one.SOPClassUID, one.SOPInstanceUID
    one.PatientName, one.PatientID = name, "P1"
    one.StudyDate, one.StudyTime, one.StudyID, one.AccessionNumber, one.StudyDescription = "20250101", "120000", "1", "A1", "t2"
    one.StudyInstanceUID, one.SeriesInstanceUID, one.Modality, one.SeriesNumber = "2.25.2", "2.25.3", "MR", 1
    one.InstanceNumber, one.ImagePositionPatient = number, [0, 0, position]
    one.ImageOrientationPatient, one.PixelSpacing = [1, 0, 0, 0, 1, 0], [1, 1]
    one.Rows = one.Columns = 4
    one.SamplesPerPixel, one.PhotometricInterpretation, one.PixelRepresentation = 1, "MONOCHROME2", 0
    one.BitsAllocated, one.BitsStored, one.HighBit = 16, 12, 11
    one.PixelData = bytes(32)
    return one


def corrected(instance):
    one = instance.load()
    one.PatientName, one.ImagePositionPatient = "C^D", [0, 0, 50]
    return one


def seen(what, files, staged=None):
    folder = work / what.replace(" ", "-").replace(",", "")
    files.copy(folder)
    read = [dcmread(instance.path) for instance in FileSet(folder / "DICOMDIR")]
    held = sorted({f"{one.PatientName} at {one.ImagePositionPatient[2]:g}" for one in read})
    records = dcmread(folder / "DICOMDIR").DirectoryRecordSequence
    names = sorted({str(one.PatientName) for one in records if one.DirectoryRecordType == "PATIENT"})
    end = "" if staged is None else f", staged {'yes' if staged else 'no'}"
    print(f"{what}: files {' and '.join(held)}, directory {' and '.join(names)}{end}")


def written(name):
    files = FileSet()
    for number in (1, 2, 3):
        files.add(slice_of(number, "A^B", 0))
    files.write(work / name)
    return FileSet(work / name / "DICOMDIR")


with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    warnings.simplefilter("ignore", ResourceWarning)  # the temporary folders of File-sets that are let go
    files = written("first")
    for instance in list(files):
        files.add(corrected(instance))
    seen("added again", files, files.is_staged)

    files = written("second")
    for instance in list(files):
        one = corrected(instance)
        files.remove(instance)
        files.add(one)
    seen("removed and added", files, files.is_staged)

    files = FileSet()
    for number in (1, 2, 3):
        one = slice_of(number, "A^B", 0)
        files.add(one)
        one.PatientName, one.ImagePositionPatient = "C^D", [0, 0, 50]
        files.add(one)
    seen("new set, added twice", files, files.is_staged)

    files = FileSet()
    files.add(slice_of(1, "A^B", 0))
    files.add(slice_of(2, "C^D", 50))
    seen("with new UIDs beside a first one", files)

    files = written("third")
    new = [corrected(instance) for instance in files]
    files.remove(list(files))
    files.write()
    for one in new:
        files.add(one)
    seen("removed, written, added", files, files.is_staged)
print("warned:", "; ".join(sorted({str(one.message) for one in said})) or "nothing")
PY
"$work/env/bin/python" "$work/look.py" "$work" > "$work/seen.txt" 2> "$work/log.txt"
cat "$work/seen.txt" "$work/log.txt"
cat > "$work/expected.txt" <<'TXT'
added again: files A^B at 0, directory A^B, staged no
removed and added: files A^B at 0, directory A^B, staged no
new set, added twice: files A^B at 0, directory A^B, staged yes
with new UIDs beside a first one: files A^B at 0 and C^D at 50, directory A^B
removed, written, added: files C^D at 50, directory C^D, staged yes
warned: nothing
TXT
cmp "$work/expected.txt" "$work/seen.txt"
