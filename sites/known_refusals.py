"""Refusals that would come again: of the same scans by the same settings. Kept without a name, and raised again."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from minet_core.errors import (
    AnatomyCutOff,
    FedminetError,
    ImageGhosted,
    ImageSaturated,
    MotionBetweenSlices,
    RegistrationRefused,
    ScanInvalid,
    SignalTooWeak,
)
from sites.duplicates.likeness import Match
from sites.duplicates.same_anatomy import SameAnatomy
from sites.making.make_pair import PairTask
from sites.settings.site_settings import DuplicateSettings
from sites.store.read_before import ReadBefore

KINDS: dict[str, type[FedminetError]] = {
    one.code: one
    for one in (
        ScanInvalid,
        RegistrationRefused,
        SignalTooWeak,
        ImageGhosted,
        ImageSaturated,
        AnatomyCutOff,
        MotionBetweenSlices,
    )
}
"""By code, what depends on the scans and the settings alone: a disk or a decoder may be mended."""
MIN_NAME_LENGTH = 3

_TEXTS = ("what", "got", "expected", "action")


def keep_refusal(before: ReadBefore, task: PairTask, failure: Exception, *, match: Match | None) -> None:
    """Remember a refusal, if it would come again and its text names nothing.

    Parameters
    ----------
    before
        The store's entries.
    task
        What was refused.
    failure
        Why.
    match
        The pair that it is too much like, where that is why.
    """
    if match is not None:
        likeness = task.settings.duplicates.model_dump(mode="json")
        before.keep_refusal(
            task.fingerprint, {"match": dataclasses.asdict(match), "of": task.patient, "by": likeness}
        )
    elif isinstance(failure, FedminetError) and failure.code in KINDS:
        texts = {name: getattr(failure, name) for name in _TEXTS}
        said = {name: None if value is None else str(value) for name, value in texts.items()}
        if not any(name in text for text in said.values() if text for name in _names(task)):
            before.keep_refusal(task.fingerprint, {"code": failure.code, **said})


def keep_exchanged(
    before: ReadBefore,
    fingerprint: str,
    failure: ScanInvalid,
    *,
    others: Iterable[str],
    duplicates: DuplicateSettings,
) -> None:
    """Remember that a pair's contrasts are exchanged, as the store's other pairs tell: else it is made at each ingest.

    Parameters
    ----------
    before
        The store's entries.
    fingerprint
        Of what the pair was made from.
    failure
        The refusal.
    others
        The files of the pairs that the store has without it.
    duplicates
        What the site says of such pairs.
    """
    said = {name: getattr(failure, name) for name in _TEXTS}
    kept = {
        "code": failure.code,
        **{name: None if value is None else str(value) for name, value in said.items()},
    }
    judges = {"others": sorted(others), "by": duplicates.model_dump(mode="json")}
    before.keep_refusal(fingerprint, kept | {"exchanged": judges})


def raise_known(
    known: dict[str, Any] | None, check: SameAnatomy, *, task: PairTask, present: Collection[str]
) -> None:
    """Raise what was remembered, if it still holds.

    Parameters
    ----------
    known
        What `keep_refusal` kept; None: nothing.
    check
        What the ingest compares pairs by.
    task
        What is to be made.
    present
        The files of the store's pairs: a pair is exchanged beside others, and judged anew where one of them has gone.

    Raises
    ------
    ScanInvalid, RegistrationRefused
        The same refusal.
    """
    if known is None:
        return
    duplicates = task.settings.duplicates.model_dump(mode="json")
    if "match" not in known:
        judges = known.get("exchanged")
        if judges is None or (judges["by"] == duplicates and set(judges["others"]) <= set(present)):
            raise KINDS[known["code"]](**{name: known[name] for name in _TEXTS})
    elif known["by"] == duplicates and known["of"] == task.patient:
        check.require_other(Match(**known["match"]))


def _names(task: PairTask) -> list[str]:
    """What of a task no text may hold that is kept. DICOM's files have keyed names in every text."""
    paths = [one for one in (task.candidate.target, task.candidate.reference) if isinstance(one, Path)]
    names = [
        task.candidate.patient_id,
        *(name for path in paths for name in (path.name, path.name.split(".")[0])),
    ]
    names += task.candidate.label.split("/") if paths else []
    return [name for name in names if len(name) >= MIN_NAME_LENGTH]
