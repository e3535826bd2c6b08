"""The kit: what the coordinator gives a site when it is admitted, and at each renewal.

    kit.json          who it is for, until when, and the SHA-256 of every other file
    kit.sig           the authority's signature over the bytes of kit.json: ECDSA-P384/SHA-384, DER
    ca.pem            certificate of the federation's authority
    site.pem          the site's TLS certificate
    federation.yaml   what all members agree on

Nothing in it is secret. `openssl dgst -sha384 -verify KEY -signature kit.sig kit.json` verifies it without us.
A signature over a kit is none over a certificate: a certificate's first byte is no brace.
"""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Annotated, Literal

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import AwareDatetime, Field, StringConstraints

from minet_core.admission.expiry import CLOCK_SKEW
from minet_core.errors import AdmissionRefused, ConfigurationError, FileMissing
from minet_core.runtime.files.atomic_write import sha256_of_file
from minet_core.runtime.json_text import parse_json
from minet_core.settings.names import Digest, SiteName
from minet_core.settings.yaml_file import Settings, parse_settings

KIT_FILE = "kit.json"
SIGNATURE_FILE = "kit.sig"
CA_FILE = "ca.pem"
CERTIFICATE_FILE = "site.pem"
FEDERATION_FILE = "federation.yaml"
DIGESTED_FILES = (CA_FILE, CERTIFICATE_FILE, FEDERATION_FILE)
ALL_FILES = (KIT_FILE, SIGNATURE_FILE, *DIGESTED_FILES)

MAX_FILE_BYTES = 1 << 20
"""No file of a kit is near it; what comes from outside is not read without a bound."""


class KitSettings(Settings):
    """`kit.json`."""

    form: Literal["fedminet kit 1"] = "fedminet kit 1"
    site: SiteName = Field(description="the name under which the site is admitted")
    address: Annotated[str, StringConstraints(pattern=r"^[^/\s]+:[0-9]{1,5}$")] = Field(
        description="host:port of the coordinator's server"
    )
    federation: str = Field(description="the federation's name")
    federation_digest: Digest = Field(description="digest of the settings in federation.yaml")
    bundle_digest: Digest = Field(description="SHA-256 of the only app bundle that the site runs")
    key_fingerprint: str = Field(description="fingerprint of the site's node key, as it was admitted")
    tls_digest: Digest = Field(description="SHA-256 of the site's TLS key, as it was admitted")
    issued_at: AwareDatetime = Field(description="when the kit was made; a site takes no older one after it")
    expires_at: AwareDatetime = Field(description="when the site's certificate expires")
    files: dict[str, Digest] = Field(description="SHA-256 of every other file")


def kit_bytes(settings: KitSettings) -> bytes:
    """`kit.json` in its one form: keys sorted, so that equal kits are equal bytes.

    Parameters
    ----------
    settings
        Of the kit.

    Returns
    -------
    bytes
        JSON, UTF-8, which the authority signs.
    """
    return (json.dumps(settings.model_dump(mode="json"), sort_keys=True, indent=2) + "\n").encode()


def verified_settings(folder: Path, *, authority: x509.Certificate) -> KitSettings:
    """The settings of a kit that an authority has signed and whose every file is the one it was signed with.

    The signature comes first: nothing of a kit is read before it holds.

    Parameters
    ----------
    folder
        Of the kit; `ALL_FILES` must be in it.
    authority
        Its certificate, as `read_authority` gives it.

    Returns
    -------
    KitSettings
        Of kit.json. Whether the kit has expired, `require_current` says.

    Raises
    ------
    FileMissing
        FM-C103, where a file is not there.
    AdmissionRefused
        FM-F404, with what was altered.
    ConfigurationError, UnknownKey, InvalidSetting
        FM-C100 to FM-C102, for a kit.json of another form.
    """
    for name in ALL_FILES:
        path = folder / name
        if not path.is_file():
            raise FileMissing(
                "the site's kit is incomplete",
                got=f"no {path}",
                action="Ask the coordinator for the kit of `fedminet server admit`",
            )
        if path.stat().st_size > MAX_FILE_BYTES:
            raise AdmissionRefused("a file of the kit is too large", got=path)
    content = (folder / KIT_FILE).read_bytes()
    key = authority.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)  # read_authority refuses any other
    try:
        key.verify((folder / SIGNATURE_FILE).read_bytes(), content, ec.ECDSA(hashes.SHA384()))
    except InvalidSignature as failure:
        raise AdmissionRefused(
            "the federation's authority has not signed the kit as it is: it was altered, or another authority made it",
            got=folder / KIT_FILE,
            action="Ask the coordinator for a new kit",
        ) from failure
    try:
        fields = parse_json(content)
    except ValueError as failure:
        raise ConfigurationError(f"{folder / KIT_FILE} is not a JSON file") from failure
    settings = parse_settings(fields, KitSettings, source=str(folder / KIT_FILE))
    if set(settings.files) != set(DIGESTED_FILES):
        raise AdmissionRefused("the kit lists other files than a kit has", got=", ".join(settings.files))
    for name in DIGESTED_FILES:
        if sha256_of_file(folder / name) != settings.files[name]:
            raise AdmissionRefused(
                f"{name} of the kit is not the file that the coordinator admitted the site with",
                got=folder / name,
                action="Ask the coordinator for a new kit",
            )
    return settings


def require_current(settings: KitSettings, *, now: datetime.datetime | None = None) -> None:
    """Refuse a kit that has expired, or that is of a time to come.

    A site takes no kit that is older than its newest: one that was made by a clock far ahead would keep it from every
    kit until then.

    Parameters
    ----------
    settings
        Of the kit.
    now
        With a time zone; None for the machine's clock.

    Raises
    ------
    AdmissionRefused
        FM-F404, from the moment at which it expires, and until `CLOCK_SKEW` before it was made.
    """
    moment = now or datetime.datetime.now(datetime.UTC)
    clock = f"this machine's clock says {moment:%Y-%m-%d %H:%M} UTC"
    if settings.expires_at <= moment:
        raise AdmissionRefused(
            "the kit is stale: it has expired",
            got=f"{settings.expires_at:%Y-%m-%d %H:%M} UTC, and {clock}",
            action="Set the clock if it is wrong; else ask the coordinator for the kit of `fedminet server renew`",
        )
    if settings.issued_at - CLOCK_SKEW > moment:
        raise AdmissionRefused(
            "the kit was made in the future",
            got=f"{settings.issued_at:%Y-%m-%d %H:%M} UTC, and {clock}",
            expected=f"at most {CLOCK_SKEW.seconds // 60} minutes ahead",
            action="Set the clock if it is wrong; else tell the coordinator, who sets his and makes the kit anew",
        )


def read_authority(path: Path) -> x509.Certificate:
    """The certificate of a federation's authority.

    Parameters
    ----------
    path
        Of a PEM file.

    Returns
    -------
    Certificate
        Of a certificate authority with an elliptic-curve key.

    Raises
    ------
    FileMissing
        FM-C103, where there is no file.
    AdmissionRefused
        FM-F404, for any other file.
    """
    if not path.is_file():
        raise FileMissing("the authority's certificate is missing", got=path)
    try:
        with path.open("rb") as stream:
            certificate = x509.load_pem_x509_certificate(stream.read(MAX_FILE_BYTES))
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
        key = certificate.public_key()
    except (
        ValueError,
        TypeError,
        x509.ExtensionNotFound,
        x509.DuplicateExtension,
        UnsupportedAlgorithm,
    ) as failure:
        raise AdmissionRefused("an authority's certificate cannot be read", got=path) from failure
    if not constraints.ca or not isinstance(key, ec.EllipticCurvePublicKey):
        raise AdmissionRefused("a certificate is none of a federation's authority", got=path)
    return certificate
