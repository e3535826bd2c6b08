"""The site's two keys: by one the SuperLink knows it, by the other the coordinator's proxy lets it in.

keys/node      the Flower node key, private, OpenSSH form, readable by its owner alone; never leaves the folder
keys/node.pub  its public half
keys/tls.key   the key of its TLS certificate, private, PKCS#8, readable by its owner alone; never leaves the folder

What the coordinator gets of both is in request.json: see client.admission.request.
"""

from __future__ import annotations

import stat
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from minet_core.admission.fingerprints import key_fingerprint
from minet_core.errors import AdmissionRefused, ConfigurationError, FileMissing, InvalidSetting
from minet_core.runtime.files.atomic_write import write_private, write_text


@dataclass(frozen=True)
class SiteKeys:
    """A site's keys, as files."""

    private_key: Path
    public_key: Path
    tls_key: Path

    @classmethod
    def of(cls, folder: Path) -> SiteKeys:
        """Where the keys of `folder` are kept."""
        return cls(folder / "node", folder / "node.pub", folder / "tls.key")

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the node key, as `ssh-keygen -l` prints it."""
        return key_fingerprint(self.public_key)


def make_site_keys(folder: Path, *, name: str) -> SiteKeys:
    """Make both keys of the site `name`. Raises ConfigurationError (FM-C100) where there is one."""
    keys = SiteKeys.of(folder)
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
    make_tls_key(keys)
    write_private(keys.private_key, private)
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    write_text(keys.public_key, f"{public.decode()} {name}\n")
    return keys


def read_site_keys(folder: Path) -> SiteKeys:
    """The key pair in `folder`.

    Raises FileMissing (FM-C103), InvalidSetting (FM-C102) where others may read the private key,
    AdmissionRefused (FM-F404) where the public key is not the private key's.
    """
    keys = SiteKeys.of(folder)
    for path in (keys.private_key, keys.public_key, keys.tls_key):
        if not path.is_file():
            action = "Run `fedminet site request`" if path == keys.tls_key else "Run `fedminet site init`"
            raise FileMissing("a key of the site is missing", got=path, action=action)
    private = read_node_private(keys)
    read_tls_private(keys)
    public = private.public_key().public_bytes(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    )
    if keys.public_key.read_bytes().split()[:2] != public.split()[:2]:
        raise AdmissionRefused("the site's public key is not its private key's", got=keys.public_key)
    return keys


def make_tls_key(keys: SiteKeys) -> None:
    """Make the TLS key where there is none: a site that was made by an earlier version has only its node key."""
    if keys.tls_key.exists():
        return
    key = ec.generate_private_key(ec.SECP384R1())
    content = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    write_private(keys.tls_key, content)


def read_node_private(keys: SiteKeys) -> ec.EllipticCurvePrivateKey:
    """The private node key. Raises InvalidSetting (FM-C102) where others may read it, or it is none."""
    _require_private(keys.private_key)
    try:
        key = serialization.load_ssh_private_key(keys.private_key.read_bytes(), password=None)
    except ValueError as failure:
        raise InvalidSetting(f"{keys.private_key} is not a private key in OpenSSH form") from failure
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise InvalidSetting(f"{keys.private_key} is of another kind", expected="EC P-384")
    return key


def read_tls_private(keys: SiteKeys) -> ec.EllipticCurvePrivateKey:
    """The private TLS key. Raises as `read_node_private`."""
    _require_private(keys.tls_key)
    try:
        key = serialization.load_pem_private_key(keys.tls_key.read_bytes(), password=None)
    except (ValueError, TypeError) as failure:
        raise InvalidSetting(f"{keys.tls_key} is not a private key") from failure
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise InvalidSetting(f"{keys.tls_key} is of another kind", expected="EC P-384")
    return key


def _require_private(path: Path) -> None:
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        raise InvalidSetting(
            f"{path} can be read by others", got=f"mode {mode:o}", expected="mode 600", action="chmod 600 it"
        )
