"""Which series of a study is the target and which the reference: by the site's rules, with the reason where not.

Acquisition facts come first. A description, which people type and vendors translate, only tells apart series that meet
the facts. Of several, the rules' order of preference decides, and the choice is said; where it does not decide, the
study is refused. The rules are the same whether the facts are of a DICOM header or of a BIDS side-car. No text that
leaves here holds a value of them but figures and DICOM's own codes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import Literal, Protocol, TypeVar

from minet_core.errors import DataError, ReferenceMissing, ScanInvalid
from sites.scans.dicom.acquisition_facts import AcquisitionFacts
from sites.settings.scan_files import DicomFiles, Preference, SeriesRule

Role = Literal["target", "reference"]


class SeriesScan(Protocol):
    """One acquisition of a study, as the rules see it.

    label: a name for people. n_frames: of its slices. shape: (rows, columns). failure: why it makes no volume.
    spacing_mm: (slice, row, column), None where there is a failure. described: the roles whose expression is found in a
    description. diffusion: some image of its series is diffusion-weighted. run: a repetition's number, 0 where there is
    none.
    """

    @property
    def label(self) -> str: ...
    @property
    def n_frames(self) -> int: ...
    @property
    def shape(self) -> tuple[int, int]: ...
    @property
    def facts(self) -> AcquisitionFacts: ...
    @property
    def failure(self) -> DataError | None: ...
    @property
    def spacing_mm(self) -> tuple[float, float, float] | None: ...
    @property
    def remarks(self) -> tuple[str, ...]: ...
    @property
    def described(self) -> frozenset[Role]: ...
    @property
    def diffusion(self) -> bool: ...
    @property
    def run(self) -> int: ...


Scan = TypeVar("Scan", bound=SeriesScan)


def why_not(scan: SeriesScan, rule: SeriesRule) -> list[str]:
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


def role_of(scan: SeriesScan, rules: DicomFiles) -> tuple[Role | None, str]:
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
    if scan.failure is not None:
        return None, f"{scan.failure.code}: {scan.failure.what.replace(scan.label, 'it')}; {scan.failure.got}"
    if scan.diffusion:
        return None, "its series is diffusion-weighted"
    reasons = {role: why_not(scan, rule) for role, rule in rules_of_roles(rules)}
    fitting: list[Role] = [role for role, found in reasons.items() if not found]
    if len(fitting) > 1:
        return None, "it meets both rules"
    if fitting:
        return fitting[0], ""
    return None, "; ".join(f"no {role}: {', '.join(found)}" for role, found in reasons.items())


def choose_scan(scans: Sequence[Scan], role: Role, rules: DicomFiles) -> tuple[Scan, str]:
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


def rules_of_roles(rules: DicomFiles) -> list[tuple[Role, SeriesRule]]:
    """Each role with its rule.

    Parameters
    ----------
    rules
        The site's.

    Returns
    -------
    list[tuple[Role, SeriesRule]]
        The target is first.
    """
    return [("target", rules.target), ("reference", rules.reference)]


def described_as(descriptions: Sequence[str], rules: DicomFiles) -> frozenset[Role]:
    """The roles whose expression is found in a description.

    Parameters
    ----------
    descriptions
        Texts that people typed.
    rules
        The site's.

    Returns
    -------
    frozenset[Role]
        Empty where no rule has an expression.
    """
    return frozenset(
        role
        for role, rule in rules_of_roles(rules)
        if rule.description is not None
        and any(re.search(rule.description, text, re.IGNORECASE) for text in descriptions)
    )


def _best(scans: list[Scan], preference: Preference, role: Role) -> list[Scan]:
    """Those that are best by one preference; all where it tells none apart."""
    measures: dict[Preference, Callable[[SeriesScan], float]] = {
        "description": lambda scan: 0.0 if role in scan.described else 1.0,
        "more_slices": lambda scan: -scan.n_frames,
        "finer_plane": lambda scan: round(max(_spacing(scan)[1:]), 3),
        "last_run": lambda scan: -scan.run,
        "thinner_slices": lambda scan: round(_spacing(scan)[0], 3),
    }
    values = [measures[preference](scan) for scan in scans]
    return [scan for scan, value in zip(scans, values, strict=True) if value == min(values)]


def _spacing(scan: SeriesScan) -> tuple[float, float, float]:
    return scan.spacing_mm or (math.inf, math.inf, math.inf)


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
