"""Whether the side-cars beside two files that were chosen by their names say that each is the other.

A name is what somebody wrote; the echo time in a side-car is what the scanner did. By names nothing else is asked of a
side-car: one that is not there, or says no echo time, stands against nothing.
"""

from __future__ import annotations

import json
from pathlib import Path

from minet_core.errors import ScanInvalid
from sites.pairing.file_choice import stem_of
from sites.scans.side_cars import MAX_BYTES
from sites.settings.scan_files import DicomFiles

Span = tuple[float, float] | None


def require_named_right(target: Path, reference: Path, rules: DicomFiles) -> None:
    """Refuse a pair of files whose echo times are each in the other's span and not in its own.

    Parameters
    ----------
    target, reference
        As chosen by their names; a side-car has the same name in .json.
    rules
        The site's spans of both echo times.

    Raises
    ------
    ScanInvalid
        FM-D202.
    """
    of_target, of_reference = echo_time_s(target), echo_time_s(reference)
    spans: tuple[Span, Span] = (rules.target.echo_time_s, rules.reference.echo_time_s)
    if of_target is None or of_reference is None or None in spans:
        return
    lies_right = _within(of_target, spans[0]) or _within(of_reference, spans[1])
    if not lies_right and _within(of_target, spans[1]) and _within(of_reference, spans[0]):
        raise ScanInvalid(
            "target and reference are exchanged, as their side-cars say",
            got=f"TE {of_target:g} s beside {target.name}, {of_reference:g} s beside {reference.name}",
            expected=f"{_as_text(spans[0])} s of the target, {_as_text(spans[1])} s of the reference",
            action="Name each file by what it shows, or correct the spans (dicom.target, dicom.reference) in site.yaml",
        )


def echo_time_s(path: Path) -> float | None:
    """EchoTime of the side-car beside a file.

    Parameters
    ----------
    path
        Of a NIfTI file.

    Returns
    -------
    float or None
        s; None where no side-car says it.
    """
    car = path.with_name(f"{stem_of(path)}.json")
    try:
        if not car.is_file() or car.stat().st_size > MAX_BYTES:
            return None
        content = json.loads(car.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    found = content.get("EchoTime") if isinstance(content, dict) else None
    return float(found) if isinstance(found, int | float) and not isinstance(found, bool) else None


def _within(value: float, span: Span) -> bool:
    return span is not None and span[0] <= value <= span[1]


def _as_text(span: Span) -> str:
    return "" if span is None else f"{span[0]:g} to {span[1]:g}"
