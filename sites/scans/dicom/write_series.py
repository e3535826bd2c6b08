"""A new series beside its source: never over anything, whole or not at all.

The objects go to a folder of their own that must not hold anything yet. They are written beside it under another name
and moved there when all are on the disk. Files are called by their number.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from minet_core.errors import InvalidSetting, ScanInvalid
from minet_core.runtime.files.atomic_write import replacing
from minet_core.runtime.files.file_failures import failure_of
from sites.scans.dicom.bounded_header import silent_pydicom
from sites.scans.dicom.derived_header import Making, instances_of, read_elements
from sites.scans.dicom.elements import value_of
from sites.scans.dicom.frames import CLASSIC
from sites.scans.dicom.stacks import Stack
from sites.scans.dicom.stored_values import stored_values
from sites.scans.dicom.write_classic import classic_objects
from sites.scans.dicom.write_enhanced import ENHANCED, enhanced_object


@dataclass(frozen=True)
class WrittenSeries:
    """n_files: objects. enhanced: the kind. step: between neighbouring values; no value is off by more than half."""

    n_files: int
    enhanced: bool
    step: float


def require_free(folder: Path, *, sources: Iterable[Path]) -> None:
    """Refuse a folder in which a new series could meet anything else.

    Parameters
    ----------
    folder
        Where the series is to be written.
    sources
        Folders of the scans that it is made from.

    Raises
    ------
    InvalidSetting
        FM-C102: it is a file, holds anything, or lies in a source's folder or around it.
    """
    here = folder.resolve()
    for source in sources:
        there = source.resolve()
        if here == there or here in there.parents or there in here.parents:
            raise InvalidSetting(
                "the output would lie among the scans that it is made from",
                got=folder,
                action="Give a folder of its own",
            )
    if (
        folder.is_symlink()
        or (folder.exists() and not folder.is_dir())
        or (folder.is_dir() and any(folder.iterdir()))
    ):
        raise InvalidSetting(
            "the output folder holds something already",
            got=folder,
            expected="a folder that is empty or not there",
            action="Give another one: no series is written over or beside another",
        )


def write_series(
    folder: Path,
    array: NDArray[np.float32],
    source: Stack,
    reference: Stack,
    *,
    scale: int,
    model_sha256: str,
) -> WrittenSeries:
    """Write a refined image of a stack.

    Parameters
    ----------
    folder
        As `require_free` wants it.
    array
        (slice, row, column) in the order of the stack: slice k at the place of frame k, voxel (scale * i, scale * j)
        where (i, j) was.
    source
        What was refined.
    reference
        What guided it.
    scale
        Factor in the plane.
    model_sha256
        Of the model's file.

    Returns
    -------
    WrittenSeries
        Classic where the source is classic, enhanced where it is enhanced.

    Raises
    ------
    InvalidSetting
        FM-C102: the folder is not free.
    ScanInvalid
        FM-D202: values that are no numbers; a legacy converted source.
    ScanUnreadable
        FM-D201: a source is gone or has changed.
    FileNotWritten
        FM-S504 or another of its kinds.
    """
    require_free(folder, sources=())
    stored = stored_values(array)
    making = Making(scale, model_sha256, stored.slope)
    enhanced = _is_enhanced(source)
    now = datetime.now()
    references = instances_of(reference.frames)
    objects: Iterable[Dataset] = (
        [enhanced_object(stored, source, references, making, now=now)]
        if enhanced
        else classic_objects(stored, source, references, making, now=now)
    )
    return WrittenSeries(_save_all(folder, objects), enhanced, stored.slope)


def _is_enhanced(source: Stack) -> bool:
    first = source.frames[0]
    kind = str(value_of(read_elements(first.path, name=first.name, keywords=["SOPClassUID"]), "SOPClassUID"))
    if kind not in (CLASSIC, ENHANCED):
        raise ScanInvalid(
            "no series is written for this kind of source",
            got="Legacy Converted Enhanced MR Image Storage",
            expected="MR or Enhanced MR Image Storage",
            action="Give the series as the scanner sent it",
        )
    return kind == ENHANCED


def _save_all(folder: Path, objects: Iterable[Dataset]) -> int:
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    count = 0
    try:
        shutil.rmtree(partial, ignore_errors=True)
        for count, one in enumerate(objects, start=1):
            one.file_meta = FileMetaDataset()
            one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
            with replacing(partial / f"{count:05d}.dcm") as temporary, silent_pydicom("the new series"):
                one.save_as(temporary, enforce_file_format=True)
        partial.replace(folder)
    except OSError as failure:
        raise failure_of(failure, "the new series could not be written", path=folder) from failure
    finally:
        with contextlib.suppress(OSError):
            shutil.rmtree(partial, ignore_errors=True)
    return count
