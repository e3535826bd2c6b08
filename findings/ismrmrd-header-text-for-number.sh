#!/bin/sh
# ismrmrd 1.15.0 with xsdata 26.10: a number of the XML header that does not parse stays in the header as text. A matrix of
# "368.0" columns, or a field of view of "161,5" mm, comes back from xsd.CreateFromDocument as a str in a field that is declared
# int or float; there is a ConverterWarning, and no error. Twice such a matrix is then a longer text. An element that the
# schema does not know, in the same header, is an error (ParserError). Who reads files of several writers has to look at
# the type of each number.
#
# Output seen:
#   368 and 161: int, float, no warning
#   368.0 and 161: str, float, ConverterWarning
#   368 and 161,5: int, str, ConverterWarning
#   twice the matrix of 368.0: 368.0368.0
#   an unknown element: ParserError
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/python" -m pip install --quiet --disable-pip-version-check ismrmrd==1.15.0 xsdata==26.10
"$work/env/bin/python" > "$work/seen.txt" <<'PY'
import warnings

from ismrmrd import xsd

HEADER = """<?xml version="1.0"?>
<ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD">
<experimentalConditions><H1resonanceFrequency_Hz>123000000</H1resonanceFrequency_Hz></experimentalConditions>
<encoding>
<encodedSpace>
<matrixSize><x>640</x><y>{columns}</y><z>1</z></matrixSize>
<fieldOfView_mm><x>280</x><y>{view}</y><z>4.5</z></fieldOfView_mm>
</encodedSpace>
<reconSpace>
<matrixSize><x>320</x><y>320</y><z>1</z></matrixSize>
<fieldOfView_mm><x>140</x><y>140</y><z>4.5</z></fieldOfView_mm>
</reconSpace>
<encodingLimits/><trajectory>cartesian</trajectory>
</encoding>{more}
</ismrmrdHeader>"""


def encoded_space(columns, view, more=""):
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        header = xsd.CreateFromDocument(HEADER.format(columns=columns, view=view, more=more))
    return header.encoding[0].encodedSpace, [type(one.message).__name__ for one in seen]


for columns, view in (("368", "161"), ("368.0", "161"), ("368", "161,5")):
    space, warned = encoded_space(columns, view)
    kinds = f"{type(space.matrixSize.y).__name__}, {type(space.fieldOfView_mm.y).__name__}"
    print(f"{columns} and {view}: {kinds}, {', '.join(warned) or 'no warning'}")
print("twice the matrix of 368.0:", 2 * encoded_space("368.0", "161")[0].matrixSize.y)
try:
    encoded_space("368", "161", "<note>of the writer's own</note>")
except Exception as failure:
    print("an unknown element:", type(failure).__name__)
PY
cat "$work/seen.txt"
cat > "$work/expected.txt" <<'TXT'
368 and 161: int, float, no warning
368.0 and 161: str, float, ConverterWarning
368 and 161,5: int, str, ConverterWarning
twice the matrix of 368.0: 368.0368.0
an unknown element: ParserError
TXT
cmp "$work/expected.txt" "$work/seen.txt"
