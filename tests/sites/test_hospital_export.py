"""A hospital's export with real anatomy: five vendors, classic and enhanced, and every kind of trouble beside it.

Exactly the right pairs are in the store, every refusal has its code, and no identity is anywhere.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset
from typer.testing import CliRunner

from fedminet.main import command_line
from sites.scans.nifti import read_nifti
from sites.store.store import Store
from tests.sites.test_dicom_ingest import CONTENT, T1, T2, Planted
from tests.support.dicom_series import WAYS, Header, write_classic, write_enhanced
from tests.support.surrogates import surrogate_folder

pytestmark = [pytest.mark.surrogate, pytest.mark.long]
Scan = tuple[NDArray[np.uint16], NDArray[np.float64]]
PATIENTS = {
    "siemens": "clinical/patient04_study1/{}W",
    "ge": "clinical/patient01_study1/{}W",
    "philips": "clinical/patient12_study1/{}W",
    "uih": "brain_1mm/patient07/{}",
    "canon": "brain_1mm/patient19/{}",
}
ENHANCED = {("siemens", "T1"), ("philips", "T1"), ("philips", "T2"), ("canon", "T2")}
N_IDENTITIES = 286


def real_scan(pattern: str, contrast: str) -> Scan:
    """(slice, row, column) as a scanner would store it, and the affine; every fifth slice of what has 1 mm."""
    folder, _, name = pattern.format(contrast).partition("/")
    volume = read_nifti(surrogate_folder(folder) / f"{name}.nii.gz", contrast=contrast)
    array, affine = volume.magnitude(), np.array(volume.affine)
    if volume.spacing_mm[0] <= 1:
        first, step = 40, 5
        array = array[first:140:step]
        affine[:3, 3] += first * affine[:3, 0]
        affine[:3, 0] *= step
    return np.rint(array).clip(0, 4095).astype(np.uint16), affine


def write_patients(folder: Path, planted: Planted) -> dict[str, NDArray[np.uint16]]:
    """By way, the target as it was stored."""
    targets = {}
    for way, pattern in PATIENTS.items():
        patient, person = planted.name(), planted.name()
        for contrast, times in (("T1", T1), ("T2", T2)):
            array, affine = real_scan(pattern, contrast)
            header = Header(
                patient_id=patient, patient_name=person, series=contrast, description=planted.name(), **times
            )
            place = folder / person / planted.name() / contrast
            spin_echo = elements(EchoPulseSequence="SPIN") if (way, contrast) in ENHANCED else None
            options = {"way": way, "header": header, "change": first_of(planted, spin_echo)}
            if (way, contrast) in ENHANCED:
                write_enhanced(place / "one.dcm", array, affine, **options)  # type: ignore[arg-type]
            else:
                write_classic(place, array, affine, **options)  # type: ignore[arg-type]
            targets[way] = array
    return targets


def first_of(planted: Planted, change: Callable[[Dataset, int], None] | None = None) -> Callable[..., None]:
    def changed(one: Dataset, index: int) -> None:
        if index == 0:
            planted.into(one)
        if change is not None:
            change(one, index)

    return changed


def elements(**values: object) -> Callable[[Dataset, int], None]:
    def change(one: Dataset, index: int) -> None:
        for keyword, value in values.items():
            setattr(one, keyword, value)

    return change


def _askew(one: Dataset, index: int) -> None:
    x, y, z = one.ImagePositionPatient
    one.ImagePositionPatient = [float(x), float(y) + index, float(z)]


def _in_place_of_its_neighbour(one: Dataset, index: int) -> None:
    if index == 3:
        one.ImagePositionPatient = [float(mm) for mm in one.ImagePositionPatient[:2]] + [
            float(one.ImagePositionPatient[2]) - 10.0
        ]


def _mosaic(one: Dataset, index: int) -> None:
    one.ImageType = ["ORIGINAL", "PRIMARY", "M", "MOSAIC"]


def _table(one: Dataset, index: int) -> None:
    table = Dataset()
    table.LUTDescriptor, table.ModalityLUTType, table.LUTData = [2, 0, 16], "US", b"\0\0\1\0"
    one.ModalityLUTSequence = [table]


def _weighted(one: Dataset, index: int) -> None:
    one.DiffusionBValue = 1000.0


IN_PLACE_OF_THE_TARGET: dict[str, Callable[[Dataset, int], None]] = {
    "a gap": elements(),  # a file is removed afterwards
    "askew": _askew,
    "two at one position": _in_place_of_its_neighbour,
    "a mosaic": _mosaic,
    "text burned in": elements(BurnedInAnnotation="YES"),
    "values in a table": _table,
    "a map": elements(ImageType=["DERIVED", "SECONDARY", "MPR"]),
    "a phase image": elements(ImageType=["ORIGINAL", "PRIMARY", "P", "ND"]),
    "diffusion weighted": _weighted,
    "slope zero": elements(RescaleSlope=0, RescaleIntercept=0),
    "no place": elements(ImagePositionPatient=None),
    "colour": elements(PhotometricInterpretation="RGB", SamplesPerPixel=3),
}
"""Each in a study of its own beside a good reference: it has no target, FM-D203."""
REFUSED_BY_FILE = frozenset({"slope zero", "no place"})
"""Each of their files is an MR image, and refused with its code: FM-D202."""


def write_troubles(folder: Path, planted: Planted) -> list[str]:
    """Sixteen kinds; the code of each that is refused as a study, a patient or a file."""
    array, affine = real_scan(PATIENTS["uih"], "T2")
    array, affine = array[::2, ::2, ::2], affine @ np.diag([2.0, 2.0, 2.0, 1.0])
    codes = []
    for number, (kind, change) in enumerate(IN_PLACE_OF_THE_TARGET.items()):
        header = Header(patient_id=planted.name(), study=f"s{number}", series="T1", **T1)
        place = folder / planted.name()
        write_classic(place / "T1", array, affine, header=header)
        target = replace(
            header, series="T2", description=planted.name(), echo_time_ms=100, repetition_time_ms=4500
        )
        paths = write_classic(place / "T2", array, affine, header=target, change=first_of(planted, change))
        if kind == "a gap":
            paths[4].unlink()
        codes += ["FM-D203", *(["FM-D202"] * len(paths) if kind in REFUSED_BY_FILE else [])]
    for series, times in (("T1", T1), ("T2", T2)):  # 13: a patient without a number
        header = Header(patient_id="", study="nameless", series=series, description=planted.name(), **times)
        write_classic(folder / planted.name(), array, affine, header=header, change=first_of(planted))
    codes.append("FM-D202")
    whole = next(iter(sorted((folder).rglob("*.dcm"))))
    broken = folder / planted.name() / f"{planted.name()}.dcm"  # 14: a file that ends in its header
    broken.parent.mkdir()
    broken.write_bytes(whole.read_bytes()[:600])
    codes.append("FM-D201")
    (folder / f"{planted.name()}.txt").write_text(planted.name())  # 15: no DICOM
    return codes


def write_copy(folder: Path, planted: Planted) -> str:
    """16: an examination under another name."""
    patient, person = planted.name(), planted.name()
    for contrast, times in (("T1", T1), ("T2", T2)):
        array, affine = real_scan(PATIENTS["uih"], contrast)
        header = Header(
            patient_id=patient,
            patient_name=person,
            series=f"again {contrast}",
            description=planted.name(),
            **times,
        )
        place = folder / f"zz {person}" / contrast
        write_classic(place, array, affine, header=header, change=first_of(planted))
    return "FM-D202"


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory):
    """A site, its export, and all that was printed."""
    folder, planted = tmp_path_factory.mktemp("hospital"), Planted()
    targets = write_patients(folder / "export", planted)
    codes = write_troubles(folder / "export", planted)
    codes.append(write_copy(folder / "export", planted))
    shutil.copytree(next((folder / "export").iterdir()), folder / "export" / planted.name())  # in two places
    definition = folder / "dicom.yaml"
    content = {**CONTENT, "name": "hospital", "data_kind": "surrogate"}
    content["quality"] = {**content["quality"], "interpolated_target": "remark"}
    definition.write_text(yaml.safe_dump(content))
    printed = []
    for command in (
        ["init", str(folder / "home"), "--definition", str(definition)],
        ["scan", str(folder / "export"), "--site", str(folder / "home"), "--json"],
        ["ingest", str(folder / "home"), str(folder / "export"), "--json", "--processes", "1"],
        ["ingest", str(folder / "home"), str(folder / "export")],
    ):
        result = CliRunner().invoke(command_line(), ["site", *command])
        assert result.exception is None or isinstance(result.exception, SystemExit), result.output
        printed.append(result.output)
    return folder, targets, codes, planted, printed


def test_exactly_the_right_pairs_are_in_the_store_and_every_trouble_has_its_code(hospital) -> None:
    folder, targets, codes, _, printed = hospital
    report = json.loads(printed[2].splitlines()[0])
    assert sorted(one["code"] for one in report["refused"]) == sorted(codes), report["refused"]
    assert len(report["accepted"]) == len(targets)
    store = Store(folder / "home" / "store")
    found = [store.read_pair(record).target.array for record in store.cohort.pairs]
    for way, target in targets.items():
        wanted = target * np.float32(1 if (way, "T2") in ENHANCED else WAYS[way].slope or 1)
        assert sum(one.shape == wanted.shape and np.array_equal(one, wanted) for one in found) == 1, way


def test_why_is_said_of_each_series_and_file(hospital) -> None:
    *_, printed = hospital
    table = json.loads(printed[1].splitlines()[0])
    said = " ".join([*(row["why_not"] for row in table["series"]), *table["left_out"], str(table)])
    for reason in (
        "lacks slices",
        "askew",
        "a mosaic of Siemens",
        "BurnedInAnnotation YES",
        "a modality LUT",
        "DERIVED/SECONDARY/MPR",
        "phase",
        "every voxel alike",
        "no position, orientation or pixel spacing",
        "RGB",
        "FM-D201",
    ):
        assert reason in said, reason
    assert table["n_repeated"] > 0


def test_no_identity_is_anywhere(hospital) -> None:
    folder, *_, planted, printed = hospital
    assert len(planted.names) >= N_IDENTITIES
    export = b"".join(path.read_bytes() for path in (folder / "export").rglob("*") if path.is_file())
    export += "\n".join(str(path) for path in (folder / "export").rglob("*")).encode()
    assert sum(name.encode() in export for name in planted.names) >= N_IDENTITIES, "they are planted"
    identifiers = set()
    for path in (folder / "export").rglob("*.dcm"):
        one = dcmread(path, stop_before_pixels=True, force=True)
        identifiers |= {str(one.get(f"{kind}InstanceUID")) for kind in ("Study", "Series", "SOP")} - {"None"}
    home = folder / "home"
    contents = [
        "\n".join(printed).replace("\n", "").encode(),
        *(str(path).encode() for path in home.rglob("*")),
    ]
    contents += [path.read_bytes() for path in home.rglob("*") if path.is_file()]
    assert len(contents) > 15
    for content in contents:
        assert not [name for name in (*planted.names, *identifiers) if name.encode() in content]
