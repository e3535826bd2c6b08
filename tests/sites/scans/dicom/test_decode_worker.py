"""What a decoder does costs its own process alone: a stop, an end by a signal, and frames of another size."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import RLELossless

from minet_core.errors import ScanReaderFailed
from sites.scans.dicom import pixels
from sites.scans.dicom.decode_worker import FAILED
from sites.scans.dicom.frames import read_object
from sites.scans.dicom.pixels import stored_frames
from tests.support.dicom_series import write_classic
from tests.support.repository import ROOT
from tests.support.small_scans import affine_of

STORED = np.arange(4 * 20 * 24).reshape(4, 20, 24).astype(np.uint16)


def write_compressed(folder: Path) -> list[Path]:
    paths = write_classic(folder, STORED, affine_of((4.0, 3.0, 3.0)))
    for path in paths:
        one = dcmread(path)
        one.compress(RLELossless, generate_instance_uid=False)
        one.save_as(path)
    return paths


def test_one_process_decodes_the_files_of_a_stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = []
    real = subprocess.Popen

    def counted(*arguments, **options):
        started.append(real(*arguments, **options))
        return started[-1]

    monkeypatch.setattr(pixels.subprocess, "Popen", counted)
    frames = [frame for path in write_compressed(tmp_path) for frame in read_object(path).frames]
    np.testing.assert_array_equal(np.stack(list(stored_frames(frames))), STORED)
    assert len(started) == 1
    assert started[0].poll() is not None, "it has ended"


def test_a_decoder_that_dies_is_named_and_the_next_stack_is_decoded(tmp_path: Path, monkeypatch) -> None:
    frames = [frame for path in write_compressed(tmp_path) for frame in read_object(path).frames]
    with monkeypatch.context() as patched:
        real = subprocess.Popen
        died = [sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"]
        patched.setattr(pixels.subprocess, "Popen", lambda command, **options: real(died, **options))
        with pytest.raises(ScanReaderFailed, match=r"FM-D211.*brought its decoder down; got signal 11"):
            list(stored_frames(frames))
    assert len(list(stored_frames(frames))) == 4


def test_a_frame_of_another_size_ends_the_process(tmp_path: Path) -> None:
    path = write_compressed(tmp_path)[0]
    question = {"path": str(path), "indices": [0], "shape": [20, 25], "dtype": "<u2"}
    ended = subprocess.run(
        [sys.executable, "-m", "sites.scans.dicom.decode_worker"],
        input=json.dumps(question).encode() + b"\n",
        capture_output=True,
        cwd=ROOT,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (FAILED, b"")
