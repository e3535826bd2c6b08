"""Small files that say much: each is refused by what it declares, before it takes memory, a disk or time."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import nibabel
import numpy as np
import pytest

from minet_core.checkpoint import load_model, save_checkpoint
from minet_core.checkpoint_manifest import describe
from minet_core.errors import (
    BackupDamaged,
    CheckpointInvalid,
    ConfigurationError,
    InvalidSetting,
    RunDamaged,
    ScanInvalid,
    StoreDamaged,
)
from minet_core.imaging.volume import Pair
from minet_core.models.registry import build_model
from minet_core.protocol.cohort_declaration import read_declaration
from minet_core.settings.federation import FederationSettings, ModelSettings
from minet_core.settings.yaml_file import read_settings
from minet_core.weights.manifest import learnable
from server.backup.restore import restore
from server.runs.checked_page import SEAL, read_page
from sites.pairing.pair_lists import _read
from sites.scans.nifti import read_nifti
from sites.store.pair_file import open_pair, write_pair
from tests.support.small_scans import make_volume

FEW = 48 << 20
"""Bytes of Python and numpy; each of these files said hundreds of megabytes and more."""


@contextmanager
def in_little_memory() -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < FEW
    finally:
        tracemalloc.stop()


def test_a_settings_file_whose_aliases_multiply_is_refused(tmp_path: Path) -> None:
    lines = ["x0: &x0 [a, b]"] + [f"x{n}: &x{n} [{', '.join([f'*x{n - 1}'] * 9)}]" for n in range(1, 9)]
    (tmp_path / "f.yaml").write_text("\n".join([*lines, "name: *x8\n"]))
    with in_little_memory(), pytest.raises(ConfigurationError, match="says over 100000 values"):
        read_settings(tmp_path / "f.yaml", FederationSettings)


@pytest.mark.parametrize(
    "text", ["name: &x [*x]", "name: 2001-99-99", "name: !!float abc", f"name: {'9' * 5000}"]
)
def test_a_value_that_yaml_cannot_make_is_no_crash(tmp_path: Path, text: str) -> None:
    (tmp_path / "f.yaml").write_text(text)
    with pytest.raises(ConfigurationError):
        read_settings(tmp_path / "f.yaml", FederationSettings)


def test_a_shared_value_may_have_an_alias(tmp_path: Path) -> None:
    text = "name: trial\nsites: &members [sms, umr]\nparticipation: {quorum: 1, required: *members}\n"
    (tmp_path / "f.yaml").write_text(text)
    assert read_settings(tmp_path / "f.yaml", FederationSettings).participation.required == ("sms", "umr")


def test_a_scan_of_zeros_in_few_bytes_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    header = nibabel.Nifti1Header()
    header.set_data_dtype(np.int16)
    header.set_data_shape((640, 640, 600))
    content = bytearray(
        nibabel.Nifti1Image(np.zeros((16, 16, 4), np.int16), np.diag([1, 1, 3, 1])).to_bytes()
    )
    content[40:56] = header["dim"].tobytes()
    member = gzip.compress(bytes(1 << 20), 9)
    (tmp_path / "T1.nii.gz").write_bytes(gzip.compress(bytes(content)) + member * 470)
    assert (tmp_path / "T1.nii.gz").stat().st_size < 1 << 19
    with in_little_memory(), pytest.raises(ScanInvalid, match="more than it does"):
        read_nifti(tmp_path / "T1.nii.gz", contrast="T1")


def test_a_store_s_file_that_says_more_than_it_holds_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "ab-cd.h5"
    write_pair(path, Pair(make_volume(1, "T2"), make_volume(1, "T1"), patient="ab"), {})
    with h5py.File(path, "a") as file:
        del file["target"]
        file.create_dataset("target", (64, 2048, 2048), "f4", chunks=(1, 512, 512), compression="gzip")
    with pytest.raises(StoreDamaged, match=r"in \d+ bytes"), open_pair(path):
        pass


def test_a_checkpoint_that_describes_a_giant_is_refused_before_it_is_built(tmp_path: Path) -> None:
    small = ModelSettings(n_groups=1, n_blocks=1, n_features=4, reduction=2)
    weights = learnable(build_model(small.model_dump(), scale=2))
    giant = small.model_copy(update={"n_features": 4096})
    manifest = describe(weights, model=giant, scale=2, round_number=1, provenance={})
    save_checkpoint(tmp_path / "m", weights, manifest)
    with in_little_memory(), pytest.raises(CheckpointInvalid, match="does not hold the model it describes"):
        load_model(tmp_path / "m")


@pytest.mark.parametrize("kind", ["sparse", "time"])
def test_a_back_up_s_member_that_no_back_up_of_ours_has_is_refused(tmp_path: Path, kind: str) -> None:
    info = tarfile.TarInfo("runs/x")
    sparse = {"major": "0", "minor": "1", "map": "0,1", "size": "999999"}
    said_of = {f"GNU.sparse.{key}": value for key, value in sparse.items()}
    info.pax_headers = said_of if kind == "sparse" else {"mtime": "nan"}
    info.size = 1
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as tar:
        tar.addfile(info, io.BytesIO(b"x"))
    (tmp_path / "b.tar").write_bytes(stream.getvalue())
    said = "holds what no back-up of ours does" if kind == "sparse" else "impossible time"
    with pytest.raises(BackupDamaged, match=said):
        restore(tmp_path / "b.tar", tmp_path / "home")


def test_json_that_is_nested_too_deep_is_no_crash(tmp_path: Path) -> None:
    (tmp_path / "declaration.json").write_text("[" * 50_000)
    with pytest.raises(ConfigurationError):
        read_declaration(tmp_path / "declaration.json")


def test_a_run_s_page_with_a_number_that_is_none_is_damaged(tmp_path: Path) -> None:
    (tmp_path / "tests.json").write_text(json.dumps({"sms": {"psnr_db": float("nan")}, SEAL: "0" * 64}))
    with pytest.raises(RunDamaged):
        read_page(tmp_path / "tests.json")


@pytest.mark.parametrize("content", [b"\xff\xfea,b", b"a" * 200_000 + b",b"])
def test_a_pair_list_that_is_no_csv_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "pairs.csv").write_bytes(content)
    with pytest.raises(InvalidSetting, match=r"pairs\.csv"):
        _read(tmp_path / "pairs.csv")
