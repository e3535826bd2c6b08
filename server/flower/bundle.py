"""The app bundle that a run ships to the sites: names of two apps and no code.

What travels is one `pyproject.toml`. Both ends resolve `server.app:app` and `client.app:app` in what they
installed themselves. The bundle is built in memory from the text below, so that no file that happens to lie
somewhere can get into it, and written once: its digest stands in every site's kit, and the bytes of an archive
may change with the library that packs them.
"""

from __future__ import annotations

import hashlib
import io
import struct
import zipfile
from dataclasses import dataclass
from pathlib import Path

from minet_core.errors import ConfigurationError, FileMissing
from minet_core.runtime.files.atomic_write import replacing
from server.flower.file_names import BUNDLE_FILE

SERVER_APP = "server.app:app"
CLIENT_APP = "client.app:app"
CONTENT = frozenset({"pyproject.toml", ".info/CONTENT"})
"""All that a bundle holds: its description and Flower's list of digests."""

_MAX_BYTES = 1 << 20

_PYPROJECT = """\
[project]
name = "fedminet-bundle"
version = "1.0.0"
description = "Names of the apps that every end has installed; holds no code"
license = "Apache-2.0"
dependencies = []

[tool.flwr.app]
publisher = "fedminet"
fab-include = ["pyproject.toml"]

[tool.flwr.app.components]
serverapp = "{server_app}"
clientapp = "{client_app}"

[tool.flwr.app.config]
run = ""
"""
"""`run`: the name of the run; Flower lets a run override only keys that are here."""


@dataclass(frozen=True)
class Bundle:
    """The bytes that travel, and their SHA-256."""

    content: bytes
    digest: str


def build_bundle(*, server_app: str = SERVER_APP, client_app: str = CLIENT_APP) -> Bundle:
    """Build the bundle."""
    from flwr.cli.build import build_fab_from_files  # who only reads a bundle needs no Flower

    text = _PYPROJECT.format(server_app=server_app, client_app=client_app)
    content, _ = build_fab_from_files({"pyproject.toml": text.encode()})
    return _checked(content, source="the bundle")


def write_bundle(folder: Path, bundle: Bundle) -> Path:
    """Write the bundle to `folder`, durably. Raises ConfigurationError (FM-C100) where another one is there."""
    path = folder / BUNDLE_FILE
    if path.exists() and read_bundle(folder).digest != bundle.digest:
        raise ConfigurationError(
            "another bundle is already here", got=path, action="Every admitted site expects the present one"
        )
    with replacing(path) as temporary:
        temporary.write_bytes(bundle.content)
    return path


def read_bundle(folder: Path) -> Bundle:
    """The bundle in `folder`.

    Raises FileMissing (FM-C103), ConfigurationError (FM-C100) where it holds anything but the two apps' names.
    """
    path = folder / BUNDLE_FILE
    if not path.is_file():
        raise FileMissing("the app bundle is missing", got=path, action="Run `fedminet server init`")
    with path.open("rb") as stream:
        content = stream.read(_MAX_BYTES + 1)
    if len(content) > _MAX_BYTES:
        raise ConfigurationError(f"{path} is not an app bundle", got="over 1 MiB", expected="about 1 KB")
    return _checked(content, source=str(path))


def _checked(content: bytes, *, source: str) -> Bundle:
    # Besides BadZipFile, zipfile raises these for an archive whose directory says what it cannot be, such as a version
    # of the format that nothing writes (NotImplementedError is zipfile's own, and nothing of ours is unfinished here).
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OverflowError, struct.error) as failure:
        raise ConfigurationError(f"{source} is not an app bundle") from failure
    if sorted(names) != sorted(CONTENT):
        got = ", ".join(sorted(names))[:200]
        raise ConfigurationError(f"{source} holds more than names", got=got, expected="no code")
    return Bundle(content, hashlib.sha256(content).hexdigest())
