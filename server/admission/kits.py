"""Writing a site's kit; its form is in minet_core.admission.kit."""

from __future__ import annotations

import datetime
import shutil
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from minet_core.admission.kit import (
    CA_FILE,
    CERTIFICATE_FILE,
    DIGESTED_FILES,
    FEDERATION_FILE,
    KIT_FILE,
    SIGNATURE_FILE,
    KitSettings,
    kit_bytes,
)
from minet_core.admission.request import CheckedRequest
from minet_core.runtime.files.atomic_write import replacing, sha256_of_file
from server.admission.pki import Authority, ca_files
from server.flower.bundle import build_bundle, read_bundle, write_bundle
from server.server_home import ServerHome


def write_kit(
    home: ServerHome,
    authority: Authority,
    request: CheckedRequest,
    certificate: x509.Certificate,
    *,
    folder: Path,
    address: str | None = None,
    now: datetime.datetime | None = None,
) -> KitSettings:
    """Write the kit of an admitted site to `folder`, signed by the authority."""
    if not (home.superlink / "fedminet.fab").exists():
        write_bundle(home.superlink, build_bundle())
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(ca_files(home.pki).certificate, folder / CA_FILE)
    shutil.copyfile(home.path / "federation.yaml", folder / FEDERATION_FILE)
    (folder / CERTIFICATE_FILE).write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    federation = home.federation()
    settings = KitSettings(
        site=request.site,
        address=address or home.settings().address,
        federation=federation.name,
        federation_digest=federation.digest(),
        bundle_digest=read_bundle(home.superlink).digest,
        key_fingerprint=request.node_fingerprint,
        tls_digest=request.tls_digest,
        issued_at=now or datetime.datetime.now(datetime.UTC),
        expires_at=certificate.not_valid_after_utc,
        files={name: sha256_of_file(folder / name) for name in DIGESTED_FILES},
    )
    sign_kit(authority, folder, settings)
    return settings


def sign_kit(authority: Authority, folder: Path, settings: KitSettings) -> None:
    """Write kit.json and the authority's signature over its bytes."""
    content = kit_bytes(settings)
    for name, written in ((KIT_FILE, content), (SIGNATURE_FILE, authority.sign(content))):
        with replacing(folder / name) as temporary:
            temporary.write_bytes(written)
