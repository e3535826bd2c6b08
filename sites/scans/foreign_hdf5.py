"""Asking about foreign HDF5 files: they are opened in a process of their own, which a damaged one may bring down.

One process serves all files, one after another, and is started again after its end: such a file costs itself alone.
Nothing that comes from it is run or unpickled: numbers, text and the bytes of slices.
"""

from __future__ import annotations

import atexit
import itertools
import json
import os
import select
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minet_core.errors import DataError, ScanInvalid, ScanReaderFailed, ScanUnreadable
from sites.scans.unreadable import unreadable

PATIENCE_S = 300.0
"""For an answer to come on, whatever the share takes; the process' own limit is on its processor time."""
MAX_LINE_BYTES = 8 << 20
"""An answer's: a text of 1 MiB, with every character escaped."""
_OF_H5PY = (
    "OSError",
    "KeyError",
    "RuntimeError",
    "ValueError",
    "TypeError",
    "BlockingIOError",
    "FileNotFoundError",
)
"""What h5py raises for files that are cut off or not HDF5."""
_ENVIRONMENT = {
    "HDF5_PLUGIN_PRELOAD": "::",  # HDF5's own word for: load no filter from anywhere
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
}


_numbers = itertools.count()


class ForeignFile:
    """One file, opened by another process.

    Parameters
    ----------
    path
        A plain file; what it holds is asked for by the methods.

    Raises
    ------
    ScanUnreadable
        FM-D201: at once where the path is no plain file, at a question where it is no whole HDF5 file.
    ScanInvalid
        FM-D202, at a question: the file holds what is not taken.
    ScanReaderFailed
        FM-D211, at a question: the file brings the reading process down.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._number = next(_numbers)
        try:
            regular = stat.S_ISREG(path.stat().st_mode)
        except OSError as failure:
            raise unreadable(failure, path) from failure
        if not regular:  # to open a pipe would wait for ever
            raise ScanUnreadable("a scan is no plain file", got=path.name, expected="a file")

    def attribute(self, name: str) -> str | float | int | None:
        """An attribute of the file: one text or number.

        Parameters
        ----------
        name
            The attribute's name, of the root group.

        Returns
        -------
        str | float | int | None
            The value; None where the attribute is not there, is empty or not finite.
        """
        value: str | float | int | None = self._ask("attribute", name)
        return value

    def text(self, name: str) -> str | None:
        """The text in a dataset of one value.

        Parameters
        ----------
        name
            The dataset's name in the root group.

        Returns
        -------
        str | None
            At most 1 MiB; None where there is no such dataset or it is empty.
        """
        value: str | None = self._ask("text", name)
        return value

    def mask(self, name: str) -> tuple[int, int] | None:
        """How many values of a small dataset are set.

        Parameters
        ----------
        name
            The dataset's name in the root group; it holds numbers or truth values.

        Returns
        -------
        tuple[int, int] | None
            (values that are not zero, values in all); None where there is no such dataset.
        """
        value = self._ask("mask", name)
        return None if value is None else (int(value[0]), int(value[1]))

    def array(self, name: str) -> tuple[tuple[int, ...], bool] | None:
        """What an array of slices is, without its values.

        Parameters
        ----------
        name
            The dataset's name in the root group.

        Returns
        -------
        tuple[tuple[int, ...], bool] | None
            The stored shape, slices first, and whether the values are complex; None where there is no such dataset.
        """
        value = self._ask("array", name)
        return None if value is None else (tuple(int(n) for n in value["shape"]), value["kind"] == "complex")

    def slice(self, name: str, index: int) -> NDArray[Any]:
        """One slice of an array that `array` told about.

        Parameters
        ----------
        name
            The dataset's name in the root group.
        index
            Along the first axis, from 0.

        Returns
        -------
        NDArray[Any]
            The stored shape without its first axis; complex64 or float32. Values that are not finite stay in it.
        """
        value: NDArray[Any] = self._ask("slice", name, index)
        return value

    def _ask(self, ask: str, *about: object) -> Any:
        path = str(self._path.absolute())
        return _process.ask(self._path, {"ask": ask, "path": path, "number": self._number, "about": about})


class _Process:
    """The process behind all files of this one."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None
        self._started_by = 0
        self._alone = threading.Lock()

    def ask(self, path: Path, question: dict[str, Any]) -> Any:
        with self._alone:
            child = self._running()
            try:
                return self._answered(child, path, question)
            except DataError:
                raise
            except BaseException:  # in the middle of an answer the next one would be taken for another
                self._end()
                raise

    def _answered(self, child: subprocess.Popen[bytes], path: Path, question: dict[str, Any]) -> Any:
        assert child.stdin is not None
        line = b""
        try:
            child.stdin.write(json.dumps(question).encode() + b"\n")
            child.stdin.flush()
            line = _read_line(child)
            reply = json.loads(line)
            if "answer" in reply and question["ask"] == "slice":
                return _read_array(child, reply["answer"])
        except (OSError, EOFError, ValueError) as failure:
            raise self._brought_down(child, path) from failure
        if "not_taken" in reply:
            what, got, expected = reply["not_taken"]
            raise ScanInvalid(f"{path.name} is not taken: {what}", got=got, expected=expected)
        if "failed" in reply:
            raise _failed(path, *reply["failed"])
        return reply["answer"]

    def _running(self) -> subprocess.Popen[bytes]:
        if self._child is not None and self._started_by == os.getpid() and self._child.poll() is None:
            return self._child
        if self._started_by == os.getpid():
            self._end()
        self._child = subprocess.Popen(
            [sys.executable, "-m", "sites.scans.hdf5_worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **_ENVIRONMENT, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        if self._started_by != os.getpid():
            self._started_by = os.getpid()
            atexit.register(self._end)
        return self._child

    def _brought_down(self, child: subprocess.Popen[bytes], path: Path) -> ScanReaderFailed:
        self._end()
        number = -child.returncode if child.returncode is not None else 0
        why = {signal.SIGXCPU: "it took too long", signal.SIGKILL: "it gave no answer, or took too long"}
        ended = {int(one): why.get(one, one.name) for one in signal.Signals}
        return ScanReaderFailed(
            f"{path.name} brought its reader down",
            got=ended.get(number, f"exit {child.returncode}"),
            action="Fetch or export it again; the other scans are not concerned",
        )

    def _end(self) -> None:
        child, self._child = self._child, None
        if child is None or self._started_by != os.getpid():
            return
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            child.wait(timeout=0.2)  # one that has crashed says how
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        for stream in (child.stdin, child.stdout):
            try:
                stream.close()
            except OSError:  # what was not written yet is for nobody
                continue


_process = _Process()


def _failed(path: Path, kind: str, text: str, number: int | None) -> DataError:
    if kind in _OF_H5PY or number is not None:
        if number is not None:
            return unreadable(OSError(number, os.strerror(number)), path)
        return ScanUnreadable(
            "a fastMRI file cannot be read",
            got=f"{path.name}: {text}",
            expected="a whole HDF5 file of the set",
            action="Fetch it again",
        )
    return ScanReaderFailed(
        f"{path.name} made its reader fail",
        got=kind,
        action="Fetch it again; the other scans are not concerned",
    )


def _read_line(child: subprocess.Popen[bytes]) -> bytes:
    """Up to and with the line's end, one byte after another at first: what follows is a slice's."""
    assert child.stdout is not None
    _await(child)
    line: bytes = child.stdout.readline(MAX_LINE_BYTES)
    if not line.endswith(b"\n"):
        raise EOFError("no whole answer")
    return line


def _read_array(child: subprocess.Popen[bytes], head: dict[str, Any]) -> NDArray[Any]:
    assert child.stdout is not None
    dtype = {"complex64": np.complex64, "float32": np.float32}[head["dtype"]]
    array: NDArray[Any] = np.empty(tuple(int(n) for n in head["shape"]), dtype)
    view = memoryview(array.reshape(-1).view(np.uint8).data)
    filled = 0
    while filled < len(view):
        count = child.stdout.readinto(view[filled:])  # type: ignore[attr-defined]
        if not count:
            raise EOFError("a slice was cut off")
        filled += count
    return array


def _await(child: subprocess.Popen[bytes]) -> None:
    assert child.stdout is not None
    ends = time.monotonic() + PATIENCE_S
    while not select.select([child.stdout], [], [], 1.0)[0]:
        if time.monotonic() > ends:
            raise EOFError("no answer in time")
