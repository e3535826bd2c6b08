"""Super-resolving one DICOM series: DICOM in, a new series out, in the plane of the scanner's own slices.

Which series is the target and which the reference is said by folders that hold one each, or found in a study by the
site's rules. The new series is of the same patient, study and frame of reference: it is for the archive that the
scans come from, and never leaves the site by itself.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

from minet_core.errors import DataError, FileMissing, InvalidSetting, ReferenceMissing, ScanInvalid
from minet_core.runtime.files import atomic_write
from sites.pairing.dicom_series import DicomScan, by_study, scans_in
from sites.pairing.series_choice import choose_scan
from sites.scans.dicom.read_dicom import read_stack
from sites.scans.dicom.series import Series, read_export, refusals_in_short
from sites.scans.dicom.stacks import Stack
from sites.scans.dicom.write_map import MapOf, require_free_file, require_highdicom, write_map
from sites.scans.dicom.write_series import require_free, write_series
from sites.settings.scan_files import DicomFiles
from sites.super_resolution.believed_reference import AS_USUAL, PictureOptions
from sites.super_resolution.cautions import cautions_of_reading
from sites.super_resolution.picture import Model, Scans, make_picture
from sites.super_resolution.refined_grid import refined_grid
from sites.super_resolution.refinement_plane import Plane, parallel_axis, plane_name
from sites.super_resolution.side_car import SuperResolved, require_sidecar

AS_SHOWN = DicomFiles(scale="rescale")
"""Values as the scanner shows them: the new series has the source's window."""


@dataclasses.dataclass(frozen=True)
class SeriesPair:
    """folders: where they were found. remarks: of the choice; nothing in them names a patient."""

    target: DicomScan
    reference: DicomScan
    folders: tuple[Path, ...]
    remarks: tuple[str, ...] = ()


def pair_of_folders(target: Path, reference: Path) -> SeriesPair:
    """The scans of two folders that hold one each.

    Parameters
    ----------
    target, reference
        Folders.

    Returns
    -------
    SeriesPair
        Of one patient.

    Raises
    ------
    FileMissing
        FM-C103: a folder is not there.
    InvalidSetting
        FM-C102: it holds several scans.
    ReferenceMissing
        FM-D203: it holds none.
    SlicesNotOneVolume
        FM-D212: its slices make no volume.
    ScanInvalid
        FM-D202: the scans are of two patients.
    """
    pair = SeriesPair(_only_scan(target, "target"), _only_scan(reference, "reference"), (target, reference))
    return _of_one_patient(pair)


def pair_in_study(folder: Path, rules: DicomFiles) -> SeriesPair:
    """The target and the reference of one study, by the site's rules.

    Parameters
    ----------
    folder
        With the study's files.
    rules
        The site's.

    Returns
    -------
    SeriesPair
        As an ingest would choose them.

    Raises
    ------
    FileMissing
        FM-C103: there is no such folder.
    InvalidSetting
        FM-C102: it holds several studies.
    ReferenceMissing, ScanInvalid
        FM-D203, FM-D202: as `sites.pairing.series_choice.choose_scan`.
    """
    scans = _scans_of(folder, rules, what="study")
    studies = by_study(scans)
    if len(studies) != 1:
        raise InvalidSetting(
            "the folder is no study",
            got=f"{len(studies)} studies with MR images",
            expected="one",
            action="Give the folder of one study; `fedminet site scan` shows what is there",
        )
    target, said = choose_scan(scans, "target", rules)
    reference, more = choose_scan(scans, "reference", rules)
    return SeriesPair(target, reference, (folder,), tuple(one for one in (said, more) if one))


def super_resolve_series(
    model_path: Path,
    pair: SeriesPair,
    out: Path,
    *,
    options: PictureOptions = AS_USUAL,
    progress: Callable[[int, int], None] | None = None,
) -> SuperResolved:
    """Super-resolve one series, guided by another; write a new series and its sidecar.

    Parameters
    ----------
    model_path
        A model's file.
    pair
        As `pair_of_folders` or `pair_in_study` gives it.
    out
        A folder that is empty or not there, for the series alone; the sidecar lies beside it, with its name in .json.
    options
        How the picture is made.
    progress
        Called with (done, in all) as the model goes through the slices.

    Returns
    -------
    SuperResolved
        Its axes are (slice, row, column), slices along the normal of the frames.

    Raises
    ------
    InvalidSetting
        FM-C102: the output's place.
    DataError
        The scans are refused, as `sites.scans.dicom.read_dicom.read_stack` and registration do.
    CheckpointInvalid
        FM-M301: the model's file is none.
    ConfigurationError
        FM-C100: a map is asked for, and highdicom is not installed.
    FileNotWritten
        FM-S504 or another of its kinds.
    """
    require_free(out, sources=pair.folders)
    require_sidecar(out)
    beside = map_of(out)
    if options.uncertainty:
        require_highdicom()
        require_free_file(beside)
    model = Model.read(model_path)
    target, reference = _stack(pair.target), _stack(pair.reference)
    scans = _read(pair, target, reference, scale=model.manifest.scale)
    picture, made = make_picture(model, scans, out, options=options, progress=progress)
    written = write_series(
        out, picture.array, target, reference, scale=model.manifest.scale, model_sha256=model.sha256
    )
    made = dataclasses.replace(made, series=written)
    if picture.errors is not None:
        shown = MapOf(picture.errors.label, picture.errors.sentence, model.sha256)
        write_map(beside, picture.errors.values, target, shown, scale=model.manifest.scale)
        figures = picture.errors.figures(picture.array, file=beside.name)
        made = dataclasses.replace(made, uncertainty=figures)
    atomic_write.write_json(made.sidecar, made.as_json())
    return made


def map_of(out: Path) -> Path:
    """The map's file: beside the series, with its name.

    Parameters
    ----------
    out
        The folder of the series.

    Returns
    -------
    Path
        In the same folder as `out`.
    """
    return out.with_name(f"{out.name}-uncertainty.dcm")


def _read(pair: SeriesPair, target: Stack, reference: Stack, *, scale: int) -> Scans:
    low_res = read_stack(target, contrast="target", what="the target", slice_axis=0)
    guide = read_stack(
        reference,
        contrast="reference",
        what="the reference",
        slice_axis=parallel_axis(target.affine, reference.affine, 0),
    )
    remarks = [
        *cautions_of_reading("target", pair.target.remarks),
        *cautions_of_reading("reference", pair.reference.remarks),
    ]
    plane = Plane(0, plane_name(target.affine, 0), "frames")
    return Scans(low_res, guide, plane, refined_grid(low_res, target.affine, scale=scale), remarks)


def _scans_of(folder: Path, rules: DicomFiles, *, what: str) -> list[DicomScan]:
    if not folder.is_dir():
        raise FileMissing(
            f"the folder of the {what} is missing",
            got=folder,
            expected="a folder of DICOM files",
            action="Give folders for both scans, or NIfTI files for both",
        )
    export = read_export(folder)
    numbers: dict[tuple[str, str], int] = {}

    def name(one: Series) -> str:
        return f"{what} series {numbers.setdefault((one.study, one.uid), len(numbers) + 1)}"

    scans = scans_in(export, rules, name=name)
    if not scans:
        raise ReferenceMissing(
            f"the folder of the {what} holds no MR image",
            got="; ".join(refusals_in_short(export)) or "no file",
            expected="original MR images",
        )
    return scans


def _only_scan(folder: Path, role: str) -> DicomScan:
    scans = _scans_of(folder, AS_SHOWN, what=role)
    if len(scans) != 1:
        raise InvalidSetting(
            f"the folder of the {role} holds several scans",
            got=", ".join(f"{scan.n_frames} slices of {scan.shape[0]} x {scan.shape[1]}" for scan in scans),
            expected="one acquisition",
            action="Give a folder with one series, or the study's with --study",
        )
    return scans[0]


def _of_one_patient(pair: SeriesPair) -> SeriesPair:
    if pair.target.patient_id != pair.reference.patient_id:
        raise ScanInvalid(
            "target and reference are of two patients",
            got="two values of PatientID",
            expected="one",
            action="Give two series of one patient",
        )
    return pair


def _stack(scan: DicomScan) -> Stack:
    if isinstance(scan.outcome, DataError):
        raise scan.outcome
    return scan.outcome
