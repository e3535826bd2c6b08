#!/bin/sh
# dicom-anonymizer 2.1.0: after it every scan whose header has ContrastBolusAgent (0018,0010) has a contrast agent. The element is
# of type 2, and may be empty; scanners write it so where nothing was given. The de-identification profile asks for Z/D: "Z unless D is
# required to maintain IOD conformance" (PS3.15 table E.1-1a). Of type 2 empty conforms, so Z is enough, and an empty one would have stayed
# empty. dicom-anonymizer's action for Z/D always writes a dummy, "ANONYMIZED", in place of a name and in place of none. T1 before
# and T1 after gadolinium can no longer be told apart by it, and who sorts by "an agent is named" finds that all patients
# had one. ContrastBolusStartTime, the other trace, is removed. Names come into being likewise where none was (ProtocolName,
# DeviceSerialNumber). Nothing is raised or warned of. Remedy: a rule of one's own for the element.
#
# Output seen (ContrastBolusAgent before and after):
#   no agent: '' to 'ANONYMIZED'
#   gadolinium: 'GADOLINIUM' to 'ANONYMIZED'
#   said by a word: 'NONE' to 'ANONYMIZED'
#   no such element: away to away
#   no agent, a rule of one's own: '' to ''
#   gadolinium, a rule of one's own: 'GADOLINIUM' to 'GADOLINIUM'
#   the protocol's name, not said: '' to 'ANONYMIZED'
#   warned: nothing
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/python" -m pip install --quiet --disable-pip-version-check dicom-anonymizer==2.1.0 pydicom==3.0.2
cat > "$work/look.py" <<'PY'
import warnings

from dicomanonymizer import anonymize_dataset, keep
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage


def after(agent, keyword="ContrastBolusAgent", **rules):
    one = Dataset()
    one.file_meta = FileMetaDataset()
    one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    one.SOPClassUID, one.SOPInstanceUID, one.Modality = MRImageStorage, "2.25.1", "MR"
    one.PatientName, one.PatientID, one.ScanningSequence = "A^B", "P1", "SE"
    if agent is not None:
        setattr(one, keyword, agent)
    anonymize_dataset(one, **rules)
    return f"{'away' if agent is None else repr(agent)} to {repr(one.get(keyword)) if keyword in one else 'away'}"


own = {"extra_anonymization_rules": {(0x0018, 0x0010): keep}}
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    print("no agent:", after(""))
    print("gadolinium:", after("GADOLINIUM"))
    print("said by a word:", after("NONE"))
    print("no such element:", after(None))
    print("no agent, a rule of one's own:", after("", **own))
    print("gadolinium, a rule of one's own:", after("GADOLINIUM", **own))
    print("the protocol's name, not said:", after("", keyword="ProtocolName"))
print("warned:", "; ".join(sorted({str(one.message) for one in said})) or "nothing")
PY
"$work/env/bin/python" "$work/look.py" > "$work/seen.txt" 2> "$work/log.txt"
cat "$work/seen.txt" "$work/log.txt"
cat > "$work/expected.txt" <<'TXT'
no agent: '' to 'ANONYMIZED'
gadolinium: 'GADOLINIUM' to 'ANONYMIZED'
said by a word: 'NONE' to 'ANONYMIZED'
no such element: away to away
no agent, a rule of one's own: '' to ''
gadolinium, a rule of one's own: 'GADOLINIUM' to 'GADOLINIUM'
the protocol's name, not said: '' to 'ANONYMIZED'
warned: nothing
TXT
cmp "$work/expected.txt" "$work/seen.txt"
