"""The stored values of frames, one frame at a time.

Uncompressed ones are read here, from plain files in one step (`plain_pixels.py`); compressed ones come from a process
of their own (`decode_worker.py`).
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.pixels.utils import iter_pixels

from minet_core.errors import ScanReaderFailed, ScanUnreadable
from sites.scans.dicom.bounded_header import MAX_HEADER_BYTES, opened_plainly, read_header, silent_pydicom
from sites.scans.dicom.decode_worker import FAILED
from sites.scans.dicom.elements import value_of
from sites.scans.dicom.frames import Frame, transfer_syntax_of
from sites.scans.dicom.plain_pixels import plain_image
from sites.scans.dicom.transfer_syntax import is_native, require_decoder

PATIENCE_S = 300.0
"""For the next bytes of a frame to come, whatever the share takes; the process' own limit is on its processor time."""
_ENVIRONMENT = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


def stored_frames(frames: Sequence[Frame]) -> Iterator[NDArray[Any]]:
    """The stored values of each frame, in the order given.

    Parameters
    ----------
    frames
        Of a stack.

    Yields
    ------
    NDArray[Any]
        (row, column) whole numbers, as stored: neither slope nor intercept are applied.

    Raises
    ------
    ScanUnreadable
        FM-D201: cut off, or the decoder refuses it.
    DecoderMissing
        FM-D214: compressed, and no decoder of it is here.
    ScanReaderFailed
        FM-D211: the decoder was brought down, or took too long.
    """
    with _Decoder() as decoder:
        for path, of_file in groupby(frames, key=lambda frame: frame.path):
            yield from _of_file(path, list(of_file), decoder)


def _of_file(path: Path, frames: Sequence[Frame], decoder: _Decoder) -> Iterator[NDArray[Any]]:
    name = frames[0].name
    with opened_plainly(path, name=name) as stream:
        if [frame.index for frame in frames] == [0]:
            with silent_pydicom(name):  # its text may hold values of the header
                image = plain_image(stream, frames[0].shape, max_bytes=MAX_HEADER_BYTES)
            if image is not None:
                yield image
                return
        with silent_pydicom(name):
            dataset = read_header(stream, name=name)
            syntax = transfer_syntax_of(dataset)
            signed = value_of(dataset, "PixelRepresentation") == 1
            dtype = np.dtype(f"{'i' if signed else 'u'}{int(value_of(dataset, 'BitsAllocated')) // 8}")
        stream.seek(0)
        indices = [frame.index for frame in frames]
        if not is_native(syntax):
            require_decoder(syntax, name=name)
            yield from decoder.frames(
                path, name, stream.fileno(), indices, shape=frames[0].shape, dtype=dtype
            )
            return
        with silent_pydicom(name):
            for image in iter_pixels(io.BufferedReader(stream), indices=indices, raw=True):
                if image.shape != frames[0].shape:
                    raise ScanUnreadable("a DICOM file has changed meanwhile", got=name)
                yield image


class _Decoder:
    """A process for the compressed frames of one stack, started at the first of them."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> _Decoder:
        return self

    def __exit__(self, *_: object) -> None:
        if self._child is None:
            return
        self._child.kill()
        self._child.wait()
        for stream in (self._child.stdin, self._child.stdout):
            assert stream is not None
            with contextlib.suppress(OSError):  # what was not written yet is for nobody
                stream.close()

    def frames(
        self,
        path: Path,
        name: str,
        descriptor: int,
        indices: Sequence[int],
        *,
        shape: tuple[int, int],
        dtype: np.dtype[Any],
    ) -> Iterator[NDArray[Any]]:
        """Frames of one file, by their index in it."""
        child = self._running()
        opened = f"/proc/{os.getpid()}/fd/{descriptor}" if sys.platform == "linux" else str(path.absolute())
        question = {"path": opened, "indices": list(indices), "shape": shape, "dtype": dtype.str}
        assert child.stdin is not None
        for count in range(len(indices)):
            image = np.empty(shape, dtype)
            try:
                if count == 0:
                    child.stdin.write(json.dumps(question).encode() + b"\n")
                    child.stdin.flush()
                _fill(child, image)
            except (OSError, EOFError) as failure:
                raise _failed(child, name) from failure
            yield image

    def _running(self) -> subprocess.Popen[bytes]:
        if self._child is None:
            self._child = subprocess.Popen(
                [sys.executable, "-m", "sites.scans.dicom.decode_worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**os.environ, **_ENVIRONMENT, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )
        return self._child


def _fill(child: subprocess.Popen[bytes], image: NDArray[Any]) -> None:
    assert child.stdout is not None
    view = memoryview(image.reshape(-1).view(np.uint8).data)
    filled = 0
    while filled < len(view):
        ends = time.monotonic() + PATIENCE_S
        while not select.select([child.stdout], [], [], 1.0)[0]:
            if time.monotonic() > ends:
                raise EOFError("no frame in time")
        content = os.read(child.stdout.fileno(), len(view) - filled)
        if not content:
            raise EOFError("a frame was cut off")
        view[filled : filled + len(content)] = content
        filled += len(content)


def _failed(child: subprocess.Popen[bytes], name: str) -> ScanUnreadable | ScanReaderFailed:
    try:
        status = child.wait(timeout=1.0)
    except subprocess.TimeoutExpired:
        child.kill()
        status = child.wait()
    if status == FAILED:
        return ScanUnreadable(
            "a compressed DICOM file cannot be decoded",
            got=name,
            expected="a whole object",
            action="Export it again, as Explicit VR Little Endian",
        )
    return ScanReaderFailed(
        f"{name} brought its decoder down",
        got=f"signal {-status}" if status < 0 else f"exit {status}",
        action="Export it again, as Explicit VR Little Endian; the other scans are not concerned",
    )
