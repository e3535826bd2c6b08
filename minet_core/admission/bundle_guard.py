"""The one check of an app bundle, at both ends: only the federation's own is run, byte for byte.

Whoever may start a run at Flower's SuperLink chooses the bundle, and a bundle may hold code. The site holds every task
to the digest in its kit (client.flower.task_host); the server holds every run to the bundle in its own folder
(server.flower.programs), before anything of it is unpacked.
"""

from __future__ import annotations

import hashlib

from minet_core.errors import AdmissionRefused


def guard_bundle(content: bytes, *, digest: str) -> None:
    """Refuse an app bundle that is not the federation's own.

    Parameters
    ----------
    content
        Bytes of the bundle.
    digest
        SHA-256 of the federation's own, 64 hexadecimal digits.

    Raises
    ------
    AdmissionRefused
        FM-F404, where the SHA-256 of `content` is another.
    """
    found = hashlib.sha256(content).hexdigest()
    if found != digest:
        raise AdmissionRefused("the app bundle is not the federation's own", got=found, expected=digest)
