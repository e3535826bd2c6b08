"""The kit: what the coordinator gives a site when it is admitted, and what both ends know of its form.

    kit.json          this page's fields
    ca.pem            certificate of the federation's authority
    federation.yaml   what all members agree on

The site compares the fingerprint of its key and of the kit with the coordinator by telephone; from then on
every file of the kit is held to the digests in kit.json.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from pathlib import Path
from typing import Annotated

from pydantic import Field, StringConstraints

from minet_core.federation import SiteName
from minet_core.runtime.errors import AdmissionRefused
from minet_core.runtime.yaml_file import Settings

KIT_FILE = "kit.json"
CA_FILE = "ca.pem"
FEDERATION_FILE = "federation.yaml"

Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class KitSettings(Settings):
    """`kit.json`."""

    site: SiteName = Field(description="the name under which the site is admitted")
    address: Annotated[str, StringConstraints(pattern=r"^[^/\s]+:[0-9]{1,5}$")] = Field(
        description="host:port of the coordinator's server"
    )
    federation: str = Field(description="the federation's name")
    federation_digest: Digest = Field(description="digest of the settings in federation.yaml")
    ca_digest: Digest = Field(description="SHA-256 of ca.pem")
    bundle_digest: Digest = Field(description="SHA-256 of the only app bundle that the site runs")
    key_fingerprint: str = Field(description="fingerprint of the site's key, as it was admitted")


def key_fingerprint(public_key: Path) -> str:
    """Fingerprint of an OpenSSH public key, `SHA256:...`, as `ssh-keygen -l` prints it.

    Raises AdmissionRefused (FM-F404) for a file that holds no EC P-384 key in OpenSSH form.
    """
    refused = AdmissionRefused(
        "a public key is not of the right kind",
        got=public_key,
        expected="one line, ecdsa-sha2-nistp384 ...",
        action="Use the key that `fedminet site init` made",
    )
    try:
        kind, encoded, *_ = public_key.read_text(encoding="ascii").split()
        blob = base64.b64decode(encoded, validate=True)
    except (UnicodeDecodeError, ValueError, binascii.Error) as failure:
        raise refused from failure
    if kind != "ecdsa-sha2-nistp384":
        raise refused
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")
