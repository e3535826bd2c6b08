"""A JSON page that carries the digest of its own content: one that was cut, changed or mixed up is not believed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from minet_core.errors import RunDamaged
from minet_core.runtime.files.atomic_write import write_json

SEAL = "sha256_of_page"
"""The key of the digest: SHA-256 of the other keys in a canonical form."""

MAX_BYTES = 4 << 20
"""Of a page, or of a line of records: several times what thousands of rounds or of sites fill. Decoded, a page may take
many times its bytes: none is, before it is known to be no larger.
"""

RESTORE = "Restore the run from a back-up (`fedminet server restore`), or start a new one"


def write_page(path: Path, content: Mapping[str, Any]) -> None:
    """Write a page durably. Raises DiskFull (FM-S504)."""
    write_json(path, {**content, SEAL: page_digest(content)})


def read_page(path: Path, *, may_be_old: bool = False) -> dict[str, Any]:
    """The content of a page, without its digest.

    may_be_old: also take one without a digest, as earlier versions wrote. Raises RunDamaged (FM-S517).
    """
    try:
        content = json.loads(read_bounded(path).decode())
        if not isinstance(content, dict):
            raise ValueError("no object")
        seal = content.pop(SEAL, None)
        found = page_digest(content)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as failure:
        raise damaged(path, "is missing") from failure
    except (ValueError, RecursionError) as failure:
        raise damaged(path, "is no JSON page") from failure
    if seal != found and not (seal is None and may_be_old):
        raise damaged(path, "is not what was written")
    return content


def read_bounded(path: Path) -> bytes:
    """A page's bytes. Raises ValueError for one that is larger than any of ours, unread."""
    with path.open("rb") as stream:
        content = stream.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ValueError(f"over {MAX_BYTES} bytes")
    return content


def page_digest(content: Mapping[str, Any]) -> str:
    """SHA-256 of a page's content in a canonical form, as 64 hexadecimal digits."""
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def damaged(path: Path, what: str) -> RunDamaged:
    """The failure that a file of a run is."""
    return RunDamaged(f"{path.name} of a run {what}", got=path, action=RESTORE)
