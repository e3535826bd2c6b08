"""A table of what a folder of DICOM or a BIDS tree holds: each series with its facts, its role, and why not.

For the site's terminal. Of DICOM it holds figures and codes; series are numbered, and no identity is in it. Of a BIDS
tree it holds paths.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from minet_core.errors import DataError, FileMissing
from sites.pairing.bids_tree import by_session, scans_of_tree
from sites.pairing.candidates import Found
from sites.pairing.dicom_series import by_study, scans_in
from sites.pairing.file_search import SUFFIXES, is_bids, scan_files, without_bids_copies
from sites.pairing.protocol_drift import SeriesByRole, figures_of, find_drifts, protocol_lines
from sites.pairing.series_choice import SeriesScan, choose_scan, role_of
from sites.scans.dicom.series import Series, read_export, refusals_in_short
from sites.settings.protocol_settings import ProtocolSettings
from sites.settings.scan_files import DicomFiles


def series_table(
    folder: Path, rules: DicomFiles, *, protocol: ProtocolSettings | None = None, files_too: bool = False
) -> dict[str, Any]:
    """What a folder holds, as plain values; nothing is written.

    Parameters
    ----------
    folder
        The folder with the DICOM files, or a BIDS tree with NIfTI files.
    rules
        The site's.
    protocol
        The site's, for what departs from it; None: as it is without a site.
    files_too
        Give the paths of the files that are in no series, which may hold identities.

    Returns
    -------
    dict[str, Any]
        `series` (a list of rows), `studies` (of each: what would be chosen, or why nothing), `left_out` (kinds with
        their numbers), `n_files`, `n_repeated`, `protocol` (the medians of what would be chosen), `drifts` (what
        departs from the site's protocol, FM-D222), and with `files_too` `paths` (of each file that was not taken: path
        and reason). Times in ms.

    Raises
    ------
    FileMissing
        FM-C103: there is no such folder.
    """
    if not folder.is_dir():
        raise FileMissing(
            "the folder with the scans is missing",
            got=folder,
            action="Give an existing folder",
        )
    files, found = scan_files(folder, suffixes=SUFFIXES["nifti"], skip=None)
    if files and is_bids(folder):
        table = _of_tree(folder, files, found, rules, files_too=files_too)
    else:
        table = _of_export(folder, rules, files_too=files_too)
    chosen = table.pop("chosen")
    figures = {label: figures_of(series) for label, series in chosen.items()}
    drifts = find_drifts(figures, ProtocolSettings() if protocol is None else protocol)
    return {**table, "protocol": protocol_lines(chosen), "drifts": [one.as_text() for one in drifts]}


def _of_export(folder: Path, rules: DicomFiles, *, files_too: bool) -> dict[str, Any]:
    export = read_export(folder)
    numbers = _numbers(export.series)
    scans = scans_in(export, rules, name=lambda one: numbers[one.study, one.uid])
    studies, chosen = _choices(by_study(scans).values(), rules)
    return {
        "series": [_row(scan, rules) for scan in scans],
        "studies": studies,
        "chosen": chosen,
        "left_out": refusals_in_short(export),
        "n_files": export.n_files,
        "n_repeated": export.n_repeated,
        "paths": [[export.paths[name], str(failure)] for name, failure in export.refused]
        if files_too
        else [],
    }


def table_text(table: dict[str, Any]) -> str:
    """The table for a person.

    Parameters
    ----------
    table
        As `series_table` gives it.

    Returns
    -------
    str
        Lines; a series is one line with its facts, and one with the reason where it has no role.
    """
    columns = (
        "series",
        "vendor",
        "grid",
        "spacing_mm",
        "te_ms",
        "tr_ms",
        "ti_ms",
        "sequence",
        "fat",
        "agent",
        "role",
    )
    rows = [columns, *(tuple(_cell(row[name]) for name in columns) for row in table["series"])]
    widths = [max(len(row[index]) for row in rows) for index in range(len(columns))]
    lines = []
    for index, row in enumerate(rows):
        lines.append("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
        if index and (why := table["series"][index - 1]["why_not"]):
            lines.append(f"    {why}")
        lines += [f"    {said}" for said in (table["series"][index - 1]["remarks"] if index else ())]
    lines += [f"left out: {one}" for one in table["left_out"]]
    lines += [f"{path}: {why}" for path, why in table["paths"]]
    if table["n_repeated"]:
        lines.append(f"{table['n_repeated']} files hold an object that another file has")
    lines += [f"study {number}: {said}" for number, said in enumerate(table["studies"], start=1)]
    lines += [*table["protocol"], *table["drifts"]]
    lines.append(f"{table['n_files']} files, {len(table['series'])} series, {len(table['studies'])} studies")
    return "\n".join(lines)


def _numbers(series: list[Series]) -> dict[tuple[str, str], str]:
    """Names of series: the study's number and its own, in the order in which they were found."""
    studies: dict[tuple[str, str], int] = {}
    names, counts = {}, dict[int, int]()
    for one in series:
        study = studies.setdefault((one.patient_id, one.study), len(studies) + 1)
        counts[study] = counts.get(study, 0) + 1
        names[one.study, one.uid] = f"{study}.{counts[study]}"
    return names


def _of_tree(
    folder: Path, files: Sequence[Path], found: Found, rules: DicomFiles, *, files_too: bool
) -> dict[str, Any]:
    kept = without_bids_copies(files, found, source=folder)
    scans = scans_of_tree(kept, found, rules, source=folder)
    studies, chosen = _choices(by_session(scans).values(), rules)
    return {
        "series": [_row(scan, rules) for scan in scans],
        "studies": studies,
        "chosen": chosen,
        "left_out": [
            *(one.removeprefix("left out: ") for one in found.remarks),
            *(one.message for one in found.refused),
        ],
        "n_files": len(files),
        "n_repeated": 0,
        "paths": [[label, "left out"] for label in found.ignored] if files_too else [],
    }


def _row(scan: SeriesScan, rules: DicomFiles) -> dict[str, Any]:
    facts, (role, why) = scan.facts, role_of(scan, rules)
    spacing = None if scan.spacing_mm is None else [round(one, 3) for one in scan.spacing_mm]
    return {
        "series": scan.label,
        "vendor": facts.vendor,
        "grid": [scan.n_frames, *scan.shape],
        "spacing_mm": spacing,
        "te_ms": _ms(facts.echo_time_s),
        "tr_ms": _ms(facts.repetition_time_s),
        "ti_ms": _ms(facts.inversion_time_s),
        "sequence": list(facts.sequence),
        "options": list(facts.options),
        "image_type": list(facts.image_type),
        "fat": facts.fat_suppressed,
        "agent": facts.contrast_agent,
        "role": role,
        "why_not": why,
        "remarks": list(scan.remarks),
    }


def _choices(
    studies: Iterable[Sequence[SeriesScan]], rules: DicomFiles
) -> tuple[list[str], dict[str, SeriesByRole]]:
    """What an ingest would take of each study, as text and, by the study's number, as series."""
    said, chosen = list[str](), dict[str, SeriesByRole]()
    for number, scans in enumerate(studies, start=1):
        try:
            target, why = choose_scan(scans, "target", rules)
            reference, more = choose_scan(scans, "reference", rules)
        except DataError as failure:
            said.append(f"{failure.code}: {failure.what}")
            continue
        names = f"target {target.label}, reference {reference.label}"
        said.append("; ".join(one for one in (names, why, more) if one))
        chosen[f"study {number}"] = {"target": target, "reference": reference}
    return said, chosen


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 3)


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ("/" if value and isinstance(value[0], str) else " x ").join(str(one) for one in value) or "-"
    return f"{value:g}" if isinstance(value, float) else str(value)
