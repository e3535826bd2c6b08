"""The process that decodes compressed frames: what a decoder of C does on damaged bytes costs this process alone.

It reads one JSON line: `path`, `indices` of frames, and `shape` and `dtype` of each. It gives the frames' bytes one
after another, in C order, and ends. It ends with another status than 0 at the first frame that cannot be decoded or is
of another size; what a library prints stays here.
"""

from __future__ import annotations

import json
import math
import os
import resource
import sys
import warnings
from typing import BinaryIO

import numpy as np
from pydicom.pixels.utils import iter_pixels

MEMORY_BYTES = 3 << 29
"""Of address space (1.5 GiB): a codestream may claim another size than the header. An estimate."""
PROCESSOR_S = 20
"""For one frame: the vendor files take 0.02 s."""
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
                _allow_time()
        answers.flush()


def _allow_time() -> None:
    """PROCESSOR_S more from here on; past them the kernel ends this process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    limit = math.ceil(used.ru_utime + used.ru_stime) + PROCESSOR_S
    resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.getrlimit(resource.RLIMIT_CPU)[1]))


def main() -> None:
    """The process."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # no scan in a core file
    warnings.simplefilter("ignore")
    _allow_time()
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # a library that prints does not print into the frames
    try:
        decode(sys.stdin.buffer, answers)
    except Exception:  # its text may hold values of the header: the status alone says that it failed
        os._exit(FAILED)
    os._exit(0)


if __name__ == "__main__":
    main()
