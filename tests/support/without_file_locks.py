"""Running a command where no file system has locks: the kernel itself answers flock and fcntl's locks with an error.

A filter of system calls (seccomp), as in a container's profile, on a child process: Python, HDF5 and SQLite get what a
share without a lock service gives them.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import subprocess
import sys

import pytest

from tests.support.repository import ROOT

_NUMBERS = {"x86_64": (73, 72), "aarch64": (32, 25)}
"""flock and fcntl (asm/unistd.h)."""
_LOCKING = (6, 7)
"""F_SETLK and F_SETLKW."""
_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 38, 22, 2


def forbid_locks(number: int) -> None:
    """From here on every lock of this process and its children is answered with the error of this number."""
    flock, fcntl_ = _NUMBERS[platform.machine()]
    refuse = 0x00050000 | number  # SECCOMP_RET_ERRNO
    program = [
        (0x20, 0, 0, 0),  # load the call's number
        (0x15, 6, 0, flock),  # flock: refuse
        (0x15, 0, 4, fcntl_),  # not fcntl: allow
        (0x20, 0, 0, 24),  # load its second argument, the command
        *[(0x15, 3 - at, 0, command) for at, command in enumerate(_LOCKING)],
        (0x06, 0, 0, 0x7FFF0000),  # allow
        (0x06, 0, 0, 0x7FFF0000),
        (0x06, 0, 0, refuse),
    ]
    code = b"".join(struct.pack("HBBI", *step) for step in program)
    buffer = ctypes.create_string_buffer(code)

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))

    libc = ctypes.CDLL(None, use_errno=True)
    filtered = Program(len(program), ctypes.addressof(buffer))
    assert libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
    if libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(filtered), 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "seccomp")


def run_without_locks(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run Python code, which calls `forbid_locks`, in a child. Skips where the kernel has no such filter."""
    if platform.machine() not in _NUMBERS:
        pytest.skip("the numbers of the system calls of this machine are not known here")
    begin = (
        "import os, sys\nfrom tests.support.without_file_locks import forbid_locks\n"
        "child = os.fork()\n"
        "if not child:\n    forbid_locks(37)\n    os._exit(0)\n"
        "if os.waitpid(child, 0)[1]:\n    sys.exit(77)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", begin + code, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 77:
        pytest.skip("system calls cannot be filtered here")
    return done


NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)
