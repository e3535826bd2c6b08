"""The process that decodes compressed frames: what a decoder of C does on damaged bytes costs this process alone.

It reads one JSON line: `path`, `indices` of frames, and `shape` and `dtype` of each. It gives the frames' bytes one
after another, in C order, and ends. It ends with another status than 0 at the first frame that cannot be decoded or is
of another size; what a library prints stays here.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from typing import BinaryIO

import numpy as np
from pydicom.pixels.utils import iter_pixels

from sites.scans.worker_limits import allow_time, limit_memory

MEMORY_BYTES = 3 << 29
"""Of address space (1.5 GiB): a codestream may claim another size than the header. An estimate."""
FAILED = 3


def decode(questions: BinaryIO, answers: BinaryIO) -> None:
    """Answer each question until they end.

    Parameters
    ----------
    questions
        JSON lines.
    answers
        Gets the frames.

    Raises
    ------
    ValueError
        A frame has another shape than its header says.
    """
    for line in questions:
        question = json.loads(line)
        expected = tuple(question["shape"])
        with open(question["path"], "rb") as stream:  # noqa: PTH123  # a descriptor's path, not a file's
            for frame in iter_pixels(stream, indices=question["indices"], raw=True):
                if frame.shape != expected:
                    raise ValueError("a frame of another shape")
                answers.write(np.ascontiguousarray(frame, dtype=question["dtype"]).data)
                allow_time()
        answers.flush()


def main() -> None:
    """The process."""
    limit_memory(MEMORY_BYTES)
    warnings.simplefilter("ignore")
    allow_time()
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # a library that prints does not print into the frames
    try:
        decode(sys.stdin.buffer, answers)
    except Exception:  # its text may hold values of the header: the status alone says that it failed
        os._exit(FAILED)
    os._exit(0)


if __name__ == "__main__":
    main()
