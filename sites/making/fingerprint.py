"""What a pair is made from, in 32 digits: its files' bytes and every setting that shapes the result; keyed."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

from minet_core.runtime.files.atomic_write import sha256_of_file
from sites.pairing.candidates import Candidate
from sites.pairing.dicom_series import DicomScan, digest_of_scan, frames_of_scan
from sites.processing import PROCESSING
from sites.scans.unreadable import unreadable
from sites.settings.site_settings import SiteSettings
from sites.store.pseudonym import keyed
from sites.store.read_before import ReadBefore


def fingerprint_of(candidate: Candidate, settings: SiteSettings, *, key: bytes, before: ReadBefore) -> str:
    """The fingerprint of a candidate's pair.

    Parameters
    ----------
    candidate
        The two scans.
    settings
        The site's.
    key
        The store's: without it nobody can tell whether a scan of his own is here.
    before
        Knows the digests of files that have not changed.

    Returns
    -------
    str
        Hexadecimal.

    Raises
    ------
    ScanUnreadable
        FM-D201: a file cannot be read.
    """
    digests = [_scan_digest(scan, before=before) for scan in (candidate.target, candidate.reference)]
    if settings.reader == "dicom":
        digests.append(settings.dicom.scale)
    shaping = settings.model_dump(
        mode="json", include={"data_kind", "reader", "roles", "registration", "quality"}
    )
    return keyed(key, "pair", *digests, json.dumps(shaping, sort_keys=True), str(PROCESSING))[:32]


def _scan_digest(scan: Path | DicomScan, *, before: ReadBefore) -> str:
    if isinstance(scan, DicomScan):
        frames = frames_of_scan(scan)
        which = ",".join(sorted(f"{frame.path.absolute()} {frame.index}" for frame in frames))
        return before.digest_of({one.path for one in frames}, partial(digest_of_scan, scan), part=which)
    try:
        return before.digest_of([scan], partial(sha256_of_file, scan))
    except OSError as failure:
        raise unreadable(failure, scan) from failure
