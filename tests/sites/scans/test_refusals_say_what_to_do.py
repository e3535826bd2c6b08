"""A scan or a model that a person hands in and that is refused: each refusal says what was got and what to do."""

from __future__ import annotations

import ast
import errno
from pathlib import Path

import nibabel
import numpy as np
import pytest

from minet_core.checkpoint import load_checkpoint
from minet_core.errors import ScanInvalid, ScanUnreadable
from sites.scans.nifti import read_nifti
from tests.support.repository import ROOT

HANDED_IN = (
    "sites/quality/scan_quality.py",
    "sites/scans/nifti.py",
    "sites/scans/nifti_file.py",
    "sites/registration/checks.py",
    "minet_core/checkpoint.py",
    "minet_core/checkpoint_manifest.py",
    "minet_core/exported/onnx_runtime.py",
)
FAILURES = ("ScanInvalid", "ScanUnreadable", "RegistrationRefused", "MotionUnsure", "CheckpointInvalid")


@pytest.mark.parametrize("name", HANDED_IN)
def test_each_refusal_has_an_action(name: str) -> None:
    mute = []
    for node in ast.walk(ast.parse((ROOT / name).read_text())):
        if not (isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call)):
            continue
        call = node.exc
        if isinstance(call.func, ast.Name) and call.func.id in FAILURES:
            said = {keyword.arg for keyword in call.keywords}
            if "action" not in said:
                mute.append(f"{name}:{node.lineno}")
    assert not mute


@pytest.mark.parametrize("shape", [(20, 20), (20, 20, 1), (20, 20, 6, 2)], ids=str)
def test_what_is_no_volume_is_told_what_to_give(tmp_path: Path, shape: tuple[int, ...]) -> None:
    path = tmp_path / "scan.nii.gz"
    values = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    nibabel.save(nibabel.Nifti1Image(values, np.diag([1.0, 1.0, 4.0, 1.0])), path)  # type: ignore[no-untyped-call]
    with pytest.raises(ScanInvalid, match=r"got shape .*; expected .*\. Give "):
        read_nifti(path, contrast="T2")


def test_a_file_that_may_not_be_read_is_called_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a scan the answer was to export it again; of a model came a traceback, that it is not there."""
    for name in ("scan.nii.gz", "model.safetensors"):
        (tmp_path / name).write_bytes(b"content")

    def denied(path: Path, *_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", denied)  # root may read everything
    with pytest.raises(
        ScanUnreadable, match=r"FM-D201: this user may not read .*scan.nii.gz; .*the right to"
    ):
        read_nifti(tmp_path / "scan.nii.gz", contrast="T2")
    with pytest.raises(PermissionError, match=r"model.safetensors"):  # the command line says whose it is
        load_checkpoint(tmp_path / "model.safetensors")
