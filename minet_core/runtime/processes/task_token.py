"""Handing a task's token to its program: through its standard input, never in its arguments.

The arguments of a process can be read by every user of the machine (/proc/PID/cmdline), its input by none.
"""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Sequence
from typing import IO

STDIN_OPTION = "--token-stdin"
"""In the program's arguments: the token is the first line of the standard input. Flower's own word for it."""

MAX_TOKEN = 1024
"""Characters. Flower's have 64."""


def start_with_token(argv: Sequence[str], token: str, *, quiet: bool = False) -> subprocess.Popen[bytes]:
    """Start a program with `STDIN_OPTION` and give it the token.

    A program that ends at once gets no token, which is for its supervisor to notice.

    Parameters
    ----------
    argv
        Program and arguments, without the option.
    token
        Of the task.
    quiet
        Without its output.

    Returns
    -------
    subprocess.Popen
        Which runs.
    """
    output = subprocess.DEVNULL if quiet else None
    process = subprocess.Popen(
        [*argv, STDIN_OPTION], stdin=subprocess.PIPE, stdout=output, stderr=output, umask=0o077
    )
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError), process.stdin as stream:
        stream.write(token.encode() + b"\n")
    return process


def with_token_from(argv: Sequence[str], stream: IO[str]) -> list[str]:
    """The arguments of this program with the token in the place of `STDIN_OPTION`.

    For the memory of the program alone: its arguments as others see them stay what they were.

    Parameters
    ----------
    argv
        As the program got them.
    stream
        Its standard input; one line is read, where the option is there.

    Returns
    -------
    list of str
        With `--token TOKEN`; as they are without the option.
    """
    if STDIN_OPTION not in argv:
        return list(argv)
    place = list(argv).index(STDIN_OPTION)
    token = stream.readline(MAX_TOKEN).strip()
    return [*argv[:place], "--token", token, *argv[place + 1 :]]
