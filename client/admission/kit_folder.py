"""The folders of kits at a site: a copy to verify, and the step in which it becomes the one in use."""

from __future__ import annotations

import os
import secrets
import shutil
from pathlib import Path

from client.site_home import SiteHome
from minet_core.admission.kit import ALL_FILES, KIT_FILE, MAX_FILE_BYTES
from minet_core.errors import FileMissing
from minet_core.runtime.files.atomic_write import sha256_of_file


def copied_kit(home: SiteHome, folder: Path) -> Path:
    """The kit's files in the site's own folder: what is verified there is what is used afterwards."""
    if not folder.is_dir():
        raise FileMissing(
            "the kit's folder is missing",
            got=folder,
            expected="the folder that the coordinator sent, unpacked",
            action="Correct the path, or ask the coordinator for the kit of `fedminet server admit`",
        )
    copy = home.kits / f".{os.getpid()}.partial"
    shutil.rmtree(copy, ignore_errors=True)
    copy.mkdir(parents=True)
    for name in ALL_FILES:
        source = folder / name
        if not source.is_file():
            shutil.rmtree(copy)
            raise FileMissing(
                "the site's kit is incomplete",
                got=f"no {source}",
                action="Ask the coordinator for the kit of `fedminet server admit`",
            )
        with source.open("rb") as stream:
            content = stream.read(MAX_FILE_BYTES + 1)
        with (copy / name).open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
    return copy


def put_into_place(home: SiteHome, folder: Path) -> Path:
    """Give the kit in `folder` its own folder and let `kit` lead to it: whoever reads sees the one kit or the other.

    The former one stays for whoever is reading it just now.
    """
    target = home.kits / f"{sha256_of_file(folder / KIT_FILE)[:16]}-{secrets.token_hex(4)}"
    folder.rename(target)
    _fsync(home.kits)
    if home.kit.exists() and not home.kit.is_symlink():
        home.kit.rename(home.kits / "of-an-earlier-version")
    kept = {target.name, home.kit.readlink().name if home.kit.is_symlink() else ""}
    link = home.path / f".kit.{os.getpid()}.partial"
    link.unlink(missing_ok=True)
    link.symlink_to(Path(home.kits.name) / target.name)
    link.replace(home.kit)
    _fsync(home.path)
    for other in home.kits.iterdir():
        if other.name not in kept:
            shutil.rmtree(other, ignore_errors=True)
    return home.kit


def _fsync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
