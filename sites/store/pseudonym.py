"""Names that stand for patients: keyed, so that nobody without the site's key can test a guess.

The key is made at the first ingest and kept in the store, readable by its owner alone. With it the same patient gets
the same pseudonym in every ingest; without it no pseudonym leads back. No table of names is kept.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from pathlib import Path

from minet_core.errors import StoreDamaged
from minet_core.runtime.files.atomic_write import replacing
from minet_core.runtime.files.file_failures import naming_failures
from sites.store.store import COHORT_FILE

KEY_FILE = "pseudonym.key"
KEY_BYTES = 32
DIGITS = 12
"""48 bits: two of 10,000 patients share a pseudonym with a chance of 2e-7."""


def site_key(store: Path, *, may_make: bool) -> bytes:
    """The store's key.

    Parameters
    ----------
    store
        The folder of the store.
    may_make
        Make a key where there is none.

    Returns
    -------
    bytes
        `KEY_BYTES` long.

    Raises
    ------
    StoreDamaged
        FM-D207: there is none and none may be made, or it has another length.
    FileNotWritten
        FM-S509 or its kind: the file system does not give it.
    """
    path = store / KEY_FILE
    if not path.exists():
        if not may_make:
            raise StoreDamaged(
                "the store's key is missing: patients would be ingested again under new names",
                expected=path,
                action="Restore it from a backup, or remove the store and ingest everything again",
            )
        keep_key(store, secrets.token_bytes(KEY_BYTES))
    with naming_failures("the store's key cannot be read", path=path):
        key = path.read_bytes()
    if len(key) != KEY_BYTES:
        raise StoreDamaged("the store's key is damaged", got=f"{len(key)} bytes", expected=KEY_BYTES)
    return key


def naming_key(store: Path) -> bytes:
    """The key by which an ingest into a store names what it finds; made where neither it nor a pair is there.

    Parameters
    ----------
    store
        The folder of the store.

    Returns
    -------
    bytes
        As `site_key` gives it.

    Raises
    ------
    StoreDamaged
        FM-D207: the store has pairs and no key.
    """
    return site_key(store, may_make=not any(store.glob("*.h5")) and not (store / COHORT_FILE).exists())


def keep_key(store: Path, key: bytes) -> None:
    """Give a store its key, for made-up patients, whose pseudonyms may be alike everywhere; one that is there stays.

    Parameters
    ----------
    store
        The folder of the store; made where there is none, for its owner alone.
    key
        `KEY_BYTES` long.
    """
    store.mkdir(parents=True, exist_ok=True, mode=0o700)
    if (store / KEY_FILE).exists():
        return
    with replacing(store / KEY_FILE) as temporary:
        descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(key)


def pseudonym(key: bytes, patient_id: str) -> str:
    """The patient's name in the store.

    Parameters
    ----------
    key
        The store's.
    patient_id
        The hospital's identifier.

    Returns
    -------
    str
        12 hexadecimal digits.
    """
    return keyed(key, "patient", patient_id)[:DIGITS]


def keyed(key: bytes, purpose: str, *parts: str) -> str:
    """HMAC-SHA-256 of some texts for one purpose.

    Parameters
    ----------
    key
        The store's.
    purpose
        So that the same texts give other digits elsewhere.
    *parts
        Texts; their lengths are hashed too, so that no two lists of them are alike.

    Returns
    -------
    str
        64 hexadecimal digits.

    References
    ----------
    RFC 2104, HMAC: Keyed-Hashing for Message Authentication.
    """
    message = "\x1f".join([purpose, *(f"{len(part)}:{part}" for part in parts)])
    return hmac.new(key, message.encode("utf-8", "surrogateescape"), hashlib.sha256).hexdigest()
