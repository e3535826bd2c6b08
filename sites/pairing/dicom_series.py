"""Which series of a study is the target and which the reference: by the site's rules, with the reason where not.

Acquisition facts come first. A description, which people type and vendors translate, only tells apart series that meet
the facts. Of several, the rules' order of preference decides, and the choice is said; where it does not decide, the
study is refused. No text that leaves here holds a value of a header but figures and DICOM's own codes.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from minet_core.errors import DataError, ReferenceMissing, ScanInvalid
from minet_core.imaging.volume import Volume
from minet_core.runtime.files.atomic_write import sha256_of_file
from sites.scans.dicom.acquisition_facts import AcquisitionFacts
from sites.scans.dicom.frames import Frame
from sites.scans.dicom.read_dicom import Scale, read_stack
from sites.scans.dicom.series import Export, Series
from sites.scans.dicom.stacks import Stack, outcome_of
from sites.scans.unreadable import unreadable
from sites.settings.site_settings import DicomFiles, Preference, SeriesRule

Role = Literal["target", "reference"]


@dataclass(frozen=True)
class DicomScan:
    """One acquisition of a study: what would be one volume.

    label: a name without identity. outcome: the stack, or why it makes none. described: the roles whose expression is
    found in a description. diffusion: some frame of the series is diffusion-weighted. The identifiers are the
    hospital's, and in no text of this object.
    """

    label: str
    n_frames: int
    shape: tuple[int, int]
    facts: AcquisitionFacts
    outcome: Stack | DataError
    remarks: tuple[str, ...]
    described: frozenset[Role]
    diffusion: bool
    patient_id: str = field(repr=False)
    study: str = field(repr=False)

    def __str__(self) -> str:
        return self.label


def scans_in(export: Export, rules: DicomFiles, *, name: Callable[[Series], str]) -> list[DicomScan]:
    """Every acquisition that a folder holds.

    Parameters
    ----------
    export
        What was found there.
    rules
        The site's.
    name
        Gives a series its name, without identity.

    Returns
    -------
    list[DicomScan]
        In the order of the export; acquisitions of one series are numbered.
    """
    scans = []
    for series in export.series:
        groups = series.groups()
        for number, group in enumerate(groups, start=1):
            label = name(series) + (f" ({number} of {len(groups)})" if len(groups) > 1 else "")
            facts = group[0].facts
            scans.append(
                DicomScan(
                    label=label,
                    n_frames=len(group),
                    shape=group[0].shape,
                    facts=facts,
                    outcome=outcome_of(group, what=label),
                    remarks=tuple(sorted(series.remarks)),
                    described=_described(facts, rules),
                    diffusion=any((frame.facts.b_value_s_mm2 or 0) > 0 for frame in series.frames),
                    patient_id=series.patient_id,
                    study=series.study,
                )
            )
    return scans


def why_not(scan: DicomScan, rule: SeriesRule) -> list[str]:
    """What of a rule a scan does not meet.

    Parameters
    ----------
    scan
        One acquisition.
    rule
        Of a role.

    Returns
    -------
    list[str]
        One clause a fact, with the figure and what was asked; empty where it meets all.
    """
    facts = scan.facts
    reasons = [
        _outside(name, value, interval)
        for name, value, interval in (
            ("TE", facts.echo_time_s, rule.echo_time_s),
            ("TR", facts.repetition_time_s, rule.repetition_time_s),
            ("TI", facts.inversion_time_s, rule.inversion_time_s),
        )
    ]
    reasons += [
        f"{name}: {'yes' if given else 'no' if given is False else 'not said'}"
        for name, given, asked in (
            ("inversion", facts.inversion_time_s is not None, rule.inverted),
            ("fat suppression", facts.fat_suppressed, rule.fat_suppressed),
            ("contrast agent", facts.contrast_agent, rule.contrast_agent),
        )
        if asked is not None and bool(given) != asked
    ]
    if rule.three_dimensional is not None and facts.is_3d != rule.three_dimensional:
        reasons.append({True: "3D", False: "2D", None: "2D or 3D not said"}[facts.is_3d])
    if rule.sequence and not set(rule.sequence) & set(facts.sequence):
        reasons.append(f"sequence {_codes(facts.sequence)}, not {_codes(rule.sequence)}")
    reasons += _lacking("ScanOptions", facts.options, rule.options, rule.not_options)
    reasons += _lacking("ImageType", facts.image_type, rule.image_type, rule.not_image_type)
    return [reason for reason in reasons if reason]


def role_of(scan: DicomScan, rules: DicomFiles) -> tuple[Role | None, str]:
    """The role that a scan could have, and why it has none.

    Parameters
    ----------
    scan
        One acquisition.
    rules
        The site's.

    Returns
    -------
    tuple[Role | None, str]
        The text is empty where there is a role.
    """
    if isinstance(scan.outcome, DataError):
        return None, f"{scan.outcome.code}: {scan.outcome.what.replace(scan.label, 'it')}; {scan.outcome.got}"
    if scan.diffusion:
        return None, "its series is diffusion-weighted"
    reasons = {role: why_not(scan, rule) for role, rule in _of_roles(rules)}
    fitting: list[Role] = [role for role, found in reasons.items() if not found]
    if len(fitting) > 1:
        return None, "it meets both rules"
    if fitting:
        return fitting[0], ""
    return None, "; ".join(f"no {role}: {', '.join(found)}" for role, found in reasons.items())


def choose_scan(scans: Sequence[DicomScan], role: Role, rules: DicomFiles) -> tuple[DicomScan, str]:
    """The scan of a study for a role.

    Parameters
    ----------
    scans
        Of one study.
    role
        Which.
    rules
        The site's.

    Returns
    -------
    tuple[DicomScan, str]
        And what is to be said of the choice; empty where there was none to make.

    Raises
    ------
    ReferenceMissing
        FM-D203: none; with the reason of each.
    ScanInvalid
        FM-D202: several that no preference tells apart.
    """
    fitting = [scan for scan in scans if role_of(scan, rules)[0] == role]
    if not fitting:
        reasons = [f"{scan.label}: {role_of(scan, rules)[1] or 'the other role'}" for scan in scans]
        raise ReferenceMissing(
            f"a study has no series for the {role}",
            got=" | ".join(reasons) or "no MR image",
            expected=f"one that meets dicom.{role} of site.yaml",
            action="See `fedminet site scan`",
        )
    left = list(fitting)
    said: list[str] = []
    for preference in rules.prefer:
        best = _best(left, preference, role)
        if len(best) < len(left):
            said.append(preference)
        left = best
    if len(left) > 1:
        raise ScanInvalid(
            f"several series of a study could be the {role}",
            got=", ".join(scan.label for scan in left),
            expected="one",
            action=f"Make dicom.{role} of site.yaml narrower, or add to dicom.prefer",
        )
    if len(fitting) == 1:
        return left[0], ""
    others = ", ".join(scan.label for scan in fitting if scan is not left[0])
    return left[0], f"{left[0].label} is the {role} by {', '.join(said)}; passed over: {others}"


def by_study(scans: Sequence[DicomScan]) -> dict[tuple[str, str], list[DicomScan]]:
    """The scans of each study.

    Parameters
    ----------
    scans
        Of a folder.

    Returns
    -------
    dict[tuple[str, str], list[DicomScan]]
        By the hospital's identifiers of patient and study: two patients under one study are two.
    """
    found: dict[tuple[str, str], list[DicomScan]] = defaultdict(list)
    for scan in scans:
        found[scan.patient_id, scan.study].append(scan)
    return dict(found)


def read_scan(scan: DicomScan, *, contrast: str, scale: Scale) -> Volume:
    """The volume of a scan.

    Parameters
    ----------
    scan
        One acquisition.
    contrast
        The contrast's name for the volume, such as "T2".
    scale
        Which numbers a voxel has.

    Returns
    -------
    Volume
        As `sites.scans.dicom.read_dicom.read_stack` gives it.

    Raises
    ------
    DataError
        Its stack is none, or as `read_stack` refuses it.
    """
    return read_stack(_stack(scan), contrast=contrast, what=scan.label, scale=scale)


def frames_of_scan(scan: DicomScan) -> tuple[Frame, ...]:
    """The frames of a scan.

    Parameters
    ----------
    scan
        One acquisition.

    Returns
    -------
    tuple[Frame, ...]
        In the order of their places.

    Raises
    ------
    DataError
        Its stack is none.
    """
    return _stack(scan).frames


def digest_of_scan(scan: DicomScan) -> str:
    """What a scan is made from: the bytes of its files, and which of their frames.

    Parameters
    ----------
    scan
        One acquisition.

    Returns
    -------
    str
        64 hexadecimal digits, the same whatever the files are called and wherever they lie.

    Raises
    ------
    ScanUnreadable
        FM-D201: a file is gone, or the disk cannot read it.
    """
    indices: dict[Path, list[int]] = defaultdict(list)
    for frame in _stack(scan).frames:
        indices[frame.path].append(frame.index)
    parts = []
    for path, of_file in indices.items():
        try:
            parts.append(f"{sha256_of_file(path)} {sorted(of_file)}")
        except OSError as failure:
            raise unreadable(
                OSError(failure.errno, os.strerror(failure.errno or 0)), Path(scan.label)
            ) from None
    return hashlib.sha256("\n".join(sorted(parts)).encode()).hexdigest()


def _of_roles(rules: DicomFiles) -> list[tuple[Role, SeriesRule]]:
    return [("target", rules.target), ("reference", rules.reference)]


def _described(facts: AcquisitionFacts, rules: DicomFiles) -> frozenset[Role]:
    return frozenset(
        role
        for role, rule in _of_roles(rules)
        if rule.description is not None
        and any(re.search(rule.description, text, re.IGNORECASE) for text in facts.descriptions)
    )


def _best(scans: list[DicomScan], preference: Preference, role: Role) -> list[DicomScan]:
    """Those that are best by one preference; all where it tells none apart."""
    measures: dict[Preference, Callable[[DicomScan], float]] = {
        "description": lambda scan: 0.0 if role in scan.described else 1.0,
        "more_slices": lambda scan: -scan.n_frames,
        "finer_plane": lambda scan: round(max(_stack(scan).spacing_mm[1:]), 3),
        "thinner_slices": lambda scan: round(_stack(scan).spacing_mm[0], 3),
    }
    values = [measures[preference](scan) for scan in scans]
    return [scan for scan, value in zip(scans, values, strict=True) if value == min(values)]


def _stack(scan: DicomScan) -> Stack:
    if isinstance(scan.outcome, DataError):
        raise scan.outcome
    return scan.outcome


def _outside(name: str, value: float | None, interval: tuple[float, float] | None) -> str:
    if interval is None or (value is not None and interval[0] <= value <= interval[1]):
        return ""
    asked = f"{interval[0] * 1000:g} to {interval[1] * 1000:g} ms"
    return f"{name} {'not said' if value is None else f'{value * 1000:.6g} ms'}, not {asked}"


def _lacking(name: str, given: Sequence[str], wanted: Sequence[str], unwanted: Sequence[str]) -> list[str]:
    return [f"no {one} in {name}" for one in wanted if one not in given] + [
        f"{one} in {name}" for one in unwanted if one in given
    ]


def _codes(codes: Sequence[str]) -> str:
    return "/".join(codes) or "not said"
