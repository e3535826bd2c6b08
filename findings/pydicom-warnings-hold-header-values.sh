#!/bin/sh
# pydicom 3.0.2: what it warns of a header holds the header's values, and goes both to Python's warnings and to the logger
# "pydicom". warnings.simplefilter("ignore") leaves the second one: a program that logs then has the text of an invalid element,
# which may be a patient's name, in its log. config.settings.reading_validation_mode = config.IGNORE silences both, also for
# the UID that get_decoder makes of a transfer syntax; as it is delivered, get_decoder(text) logs the text.
#
# Output seen:
#   warnings ignored: the logger has the value
#   get_decoder: the logger has the value
#   reading_validation_mode IGNORE: the logger has nothing
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/python" -m pip install --quiet --disable-pip-version-check pydicom==3.0.2
"$work/env/bin/python" > "$work/seen.txt" <<'PY'
import io
import logging
import warnings

from pydicom import config, dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.pixels import get_decoder
from pydicom.uid import ExplicitVRLittleEndian

log = io.StringIO()
logging.basicConfig(stream=log, level=logging.WARNING)
warnings.simplefilter("ignore")

one = Dataset()
one.SOPClassUID, one.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.4", "2.25.1"
one.StudyInstanceUID = "2.25.123"
one.file_meta = FileMetaDataset()
one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
stream = io.BytesIO()
one.save_as(stream, enforce_file_format=True)
content = stream.getvalue().replace(b"2.25.123", b"DOE^JANE")  # a name in the place of an identifier


def logged(action):
    log.truncate(0)
    log.seek(0)
    try:
        action()
    except Exception:
        pass
    return "the logger has the value" if "DOE^JANE" in log.getvalue() else "the logger has nothing"


print("warnings ignored:", logged(lambda: dcmread(io.BytesIO(content)).StudyInstanceUID))
print("get_decoder:", logged(lambda: get_decoder("DOE^JANE")))
config.settings.reading_validation_mode = config.IGNORE
print("reading_validation_mode IGNORE:", logged(lambda: dcmread(io.BytesIO(content)).StudyInstanceUID))
PY
cat "$work/seen.txt"
grep -q '^warnings ignored: the logger has the value$' "$work/seen.txt"
grep -q '^reading_validation_mode IGNORE: the logger has nothing$' "$work/seen.txt"
grep -q '^get_decoder: the logger has the value$' "$work/seen.txt"
