#!/bin/sh
# pybids 0.22.0: BIDSLayout.get chooses files by their side-cars too, as by MagneticFieldStrength=3. It compares texts: Python's text of
# the number in the side-car and of the one asked for. So 3 finds "3" and not "3.0", and 3.0 the other way round, which are one number in JSON,
# in Python and in get_metadata. dcm2niix writes whole numbers without a point, what comes through Python as a float has one:
# of a study from two places, or in which some side-cars were written again, a part of the patients is away. The way to look first shows
# nothing, since the list of values that occur has 3 once. The text "3", which the standard does not allow here, is found by 3. With
# regex_search=True a number is a pattern: a repetition time of 3 s finds 30 s. Nothing is raised or warned of; that a key is not known
# at all is an error. The documentation has of filters "values are regexes to filter on". The remedies are both, [3, 3.0], or to
# compare the numbers of get_metadata.
#
# Output seen (the subjects that are found; three side-cars say one thing):
#   values that occur, of repetition times: [2.5, 3, 30]
#   MagneticFieldStrength=3: 01 04
#   MagneticFieldStrength=3.0: 02 03
#   MagneticFieldStrength=[3, 3.0]: 01 02 03 04
#   MagneticFieldStrength=1.5: 05
#   get_metadata, equal to 3: 01 02 03
#   RepetitionTime=3: 01
#   RepetitionTime=3.0: 02 03
#   RepetitionTime=3, regex_search: 01 02 03 04
#   get_metadata, equal to 3: 01 02 03
#   FieldStrength=3: ValueError
#   warned: nothing
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/python" -m pip install --quiet --disable-pip-version-check pybids==0.22.0
cat > "$work/look.py" <<'PY'
import json
import sys
import warnings
from pathlib import Path

from bids import BIDSLayout

SIDE_CARS = {
    "01": '{"MagneticFieldStrength": 3, "RepetitionTime": 3}',
    "02": '{"MagneticFieldStrength": 3.0, "RepetitionTime": 3.0}',
    "03": '{"MagneticFieldStrength": 3e0, "RepetitionTime": 3e0}',
    "04": '{"MagneticFieldStrength": "3", "RepetitionTime": 30}',
    "05": '{"MagneticFieldStrength": 1.5, "RepetitionTime": 2.5}',
}
study = Path(sys.argv[1])
study.mkdir()
(study / "dataset_description.json").write_text(json.dumps({"Name": "study", "BIDSVersion": "1.9.0"}))
for subject, text in SIDE_CARS.items():
    folder = study / f"sub-{subject}" / "anat"
    folder.mkdir(parents=True)
    (folder / f"sub-{subject}_T2w.nii.gz").touch()
    (folder / f"sub-{subject}_T2w.json").write_text(text)


def found(**filters: object) -> str:
    return " ".join(file.entities["subject"] for file in layout.get(extension=".nii.gz", **filters)) or "none"


with warnings.catch_warnings(record=True) as warned:
    warnings.simplefilter("always")
    layout = BIDSLayout(study)
    said = {one: layout.get(subject=one, extension=".nii.gz")[0].get_metadata() for one in SIDE_CARS}
    print("values that occur, of repetition times:", sorted(layout.get_RepetitionTime()))
    print("MagneticFieldStrength=3:", found(MagneticFieldStrength=3))
    print("MagneticFieldStrength=3.0:", found(MagneticFieldStrength=3.0))
    print("MagneticFieldStrength=[3, 3.0]:", found(MagneticFieldStrength=[3, 3.0]))
    print("MagneticFieldStrength=1.5:", found(MagneticFieldStrength=1.5))
    print("get_metadata, equal to 3:", " ".join(one for one, values in said.items() if values["MagneticFieldStrength"] == 3))
    print("RepetitionTime=3:", found(RepetitionTime=3))
    print("RepetitionTime=3.0:", found(RepetitionTime=3.0))
    print("RepetitionTime=3, regex_search:", found(RepetitionTime=3, regex_search=True))
    print("get_metadata, equal to 3:", " ".join(one for one, values in said.items() if values["RepetitionTime"] == 3))
    try:
        found(FieldStrength=3)
    except ValueError:
        print("FieldStrength=3: ValueError")
print("warned:", "; ".join(str(one.message) for one in warned if "bids" in one.filename) or "nothing")
PY
"$work/env/bin/python" "$work/look.py" "$work/study" > "$work/seen.txt"
cat "$work/seen.txt"
sed -n 's/^#   //p' "$0" > "$work/expected.txt"
cmp "$work/seen.txt" "$work/expected.txt"
