"""The coordinator's password for the screen, of which its argon2id hash alone is kept."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError

from minet_core.errors import FileMissing, InvalidSetting
from minet_core.runtime.files.atomic_write import write_private
from server.server_home import ServerHome

MIN_CHARACTERS, MAX_CHARACTERS = 15, 1024
"""NIST SP 800-63B-4, 3.1.1.2: a password that is the only factor has 15; the guide says so. Argon2 makes each guess
cost 64 MiB and tens of milliseconds; the length does the rest. No rule of composition."""


def password_file(home: ServerHome) -> Path:
    """Where the hash is kept."""
    return home.path / "dashboard" / "password.argon2"


def set_password(home: ServerHome, password: str) -> Path:
    """Keep the password's hash, readable by its owner alone; a former one no longer counts.

    argon2-cffi's own parameters: argon2id, 64 MiB, 3 passes, 4 lanes (RFC 9106, the second recommendation). Raises
    InvalidSetting (FM-C102) for a password that is too short or too long.
    """
    if not MIN_CHARACTERS <= len(password) <= MAX_CHARACTERS:
        raise InvalidSetting(
            "the password has another length",
            got=f"{len(password)} characters",
            expected=f"{MIN_CHARACTERS} to {MAX_CHARACTERS}",
        )
    path = password_file(home)
    write_private(path, (PasswordHasher().hash(password) + "\n").encode("ascii"))
    return path


@dataclass
class Password:
    """The password of `home`, as its file has it at each call.

    One guess at a time is tried, so that many at once take no more than one's memory.
    """

    path: Path
    _alone: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def of(cls, home: ServerHome) -> Password:
        """Raises FileMissing (FM-C103) where none was set."""
        path = password_file(home)
        if not path.is_file():
            raise FileMissing(
                "no password is set for the screen",
                got=path,
                action="Run `fedminet server dashboard-password` first",
            )
        return cls(path)

    def kept(self) -> str:
        """The hash; empty where it cannot be read, which nothing matches."""
        try:
            return self.path.read_text(encoding="ascii").strip()
        except (OSError, ValueError):
            return ""

    def matches(self, guess: str) -> bool:
        """Whether it is the password; argon2 compares in constant time."""
        if len(guess) > MAX_CHARACTERS:
            return False
        with self._alone:
            try:
                return PasswordHasher().verify(self.kept(), guess)
            except (Argon2Error, InvalidHashError):
                return False
