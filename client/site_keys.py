"""The site's key pair: what the SuperLink knows the site by.

keys/node      private, OpenSSH form, readable by its owner alone; never leaves the folder
keys/node.pub  public, sent to the coordinator
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from minet_core.kit import key_fingerprint
from minet_core.runtime.durable import replacing, write_text
from minet_core.runtime.errors import AdmissionRefused, ConfigurationError, FileMissing, InvalidSetting


@dataclass(frozen=True)
class SiteKeys:
    """A site's key pair, as files."""

    private_key: Path
    public_key: Path

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the public key, to compare by telephone."""
        return key_fingerprint(self.public_key)


def make_site_keys(folder: Path, *, name: str) -> SiteKeys:
    """Make the key pair of the site `name`. Raises ConfigurationError (FM-C100) where there is one."""
    keys = SiteKeys(folder / "node", folder / "node.pub")
    if keys.private_key.exists():
        raise ConfigurationError(
            "the site has a key already",
            got=keys.private_key,
            action="Keep it: the coordinator knows the site by it",
        )
    key = ec.generate_private_key(ec.SECP384R1())  # the curve that Flower's node authentication names
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    with replacing(keys.private_key) as temporary:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(private)
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    write_text(keys.public_key, f"{public.decode()} {name}\n")
    return keys


def read_site_keys(folder: Path) -> SiteKeys:
    """The key pair in `folder`.

    Raises FileMissing (FM-C103), InvalidSetting (FM-C102) where others may read the private key,
    AdmissionRefused (FM-F404) where the public key is not the private key's.
    """
    keys = SiteKeys(folder / "node", folder / "node.pub")
    for path in (keys.private_key, keys.public_key):
        if not path.is_file():
            raise FileMissing("a key of the site is missing", got=path, action="Run `fedminet site init`")
    mode = stat.S_IMODE(keys.private_key.stat().st_mode)
    if mode & 0o077:
        raise InvalidSetting(
            f"{keys.private_key} can be read by others",
            got=f"mode {mode:o}",
            expected="mode 600",
            action="chmod 600 it",
        )
    try:
        private = serialization.load_ssh_private_key(keys.private_key.read_bytes(), password=None)
    except ValueError as failure:
        raise InvalidSetting(f"{keys.private_key} is not a private key in OpenSSH form") from failure
    public = private.public_key().public_bytes(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    )
    if keys.public_key.read_bytes().split()[:2] != public.split()[:2]:
        raise AdmissionRefused("the site's public key is not its private key's", got=keys.public_key)
    return keys
