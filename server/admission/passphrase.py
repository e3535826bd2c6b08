"""Where the passphrase of the authority's key comes from: a file, or the terminal."""

from __future__ import annotations

import getpass
import os
import sys
from pathlib import Path

from minet_core.errors import FileMissing, InvalidSetting
from minet_core.runtime.files.private_files import require_secret_file
from server.admission.encrypted_key import require_long_enough

PASSPHRASE_VARIABLE = "FEDMINET_CA_PASSPHRASE_FILE"  # noqa: S105 - a name, no secret
"""Environment variable with the path of a file whose first line is the passphrase: a container's secret."""


def read_passphrase(file: Path | None, *, new: bool = False) -> str:
    """The passphrase from `file`, from the file that the environment names, or from the terminal.

    new: it is to be chosen, so it is asked for twice. Raises FileMissing (FM-C103), InvalidSetting (FM-C102) for one
    that is empty or, where it is new, too short, in a file that others can read, and where there is neither a file nor
    a terminal.
    """
    named = os.environ.get(PASSPHRASE_VARIABLE)
    if file is None and named:
        file = Path(named)
    passphrase = _asked(new=new) if file is None else _from_file(file)
    if new:
        require_long_enough(passphrase)
    return passphrase


def _from_file(path: Path) -> str:
    if not path.is_file():
        raise FileMissing("the file with the authority's passphrase is missing", got=path)
    require_secret_file(path, what="the passphrase of the authority's key")
    lines = path.read_text(encoding="utf-8").splitlines()
    if not lines or not lines[0]:
        raise InvalidSetting(f"{path} holds no passphrase", expected="it on the first line")
    return lines[0]


def _asked(*, new: bool) -> str:
    if not sys.stdin.isatty():
        raise InvalidSetting(
            "the passphrase of the authority's key is needed",
            got="no terminal to ask at",
            action=f"Give --passphrase-file, or the path in {PASSPHRASE_VARIABLE}",
        )
    first = getpass.getpass("Passphrase of the federation's authority: ")
    if new and getpass.getpass("The same again: ") != first:
        raise InvalidSetting("the two passphrases differ")
    return first
