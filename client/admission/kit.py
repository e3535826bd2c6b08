"""The site's kit: the one in use, and taking another one into use.

The site trusts one authority, which it pins when it accepts its first kit: a person compares the authority's
fingerprint with the coordinator by telephone. From then on a kit is taken only if that authority has signed it, for
this site and its keys, and if it is not older than any that was taken before.
"""

from __future__ import annotations

import contextlib
import datetime
import shutil
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import AwareDatetime, Field

from client.admission.agreed_federation import Agree, changes_of, require_agreed
from client.admission.keys import SiteKeys, read_site_keys, read_tls_private
from client.admission.kit_folder import copied_kit, put_into_place
from client.admission.model_size import keep_model_size
from client.admission.policy import require_policy
from client.site_home import SiteHome
from minet_core.admission.expiry import Expiry
from minet_core.admission.fingerprints import authority_fingerprint, same_fingerprint, tls_key_digest
from minet_core.admission.kit import (
    CA_FILE,
    CERTIFICATE_FILE,
    FEDERATION_FILE,
    KitSettings,
    read_authority,
    require_current,
    verified_settings,
)
from minet_core.errors import AdmissionRefused, ConfigurationError, FedminetError, FileMissing
from minet_core.ledger.records import Ledger
from minet_core.runtime.files.atomic_write import write_json
from minet_core.runtime.json_text import parse_json
from minet_core.settings.federation import FederationSettings
from minet_core.settings.names import Digest
from minet_core.settings.yaml_file import Settings, parse_settings, read_settings

PIN_FILE = "authority.json"


@dataclass(frozen=True)
class Kit:
    """A kit that was found whole, signed by the authority that it was held to."""

    folder: Path
    settings: KitSettings
    federation: FederationSettings

    @property
    def ca(self) -> Path:
        return self.folder / CA_FILE

    @property
    def certificate(self) -> Path:
        """The site's TLS certificate."""
        return self.folder / CERTIFICATE_FILE

    def expiry(self) -> Expiry:
        """When the site's certificate ends."""
        return Expiry(
            f"the certificate of {self.settings.site}",
            self.settings.expires_at,
            "Ask the coordinator for the next kit, and take it with `fedminet site accept`",
        )


class Pin(Settings):
    """`keys/authority.json`: whom the site trusts, and the newest kit that it has taken."""

    authority: str = Field(description="certificate of the federation's authority, PEM")
    newest_kit: AwareDatetime = Field(description="issue time of the newest kit that was taken")
    federation_digest: Digest | None = Field(
        None, description="the federation file that the hospital agreed to last; null: of an earlier version"
    )


@dataclass(frozen=True)
class Accepted:
    """A kit that is in use from now on.

    restart: why the running client has to be started again for it; None where it goes on as it is. changes: of the
    federation file, that were agreed to.
    """

    kit: Kit
    restart: str | None
    changes: tuple[str, ...] = ()


def read_kit(folder: Path, *, authority: x509.Certificate) -> Kit:
    """The kit in `folder`, signed by `authority`.

    Raises FileMissing (FM-C103), AdmissionRefused (FM-F404) with what was altered.
    """
    settings = verified_settings(folder, authority=authority)
    if read_authority(folder / CA_FILE) != authority:
        raise AdmissionRefused("the kit holds another authority than the one that signed it", got=folder)
    federation = read_settings(folder / FEDERATION_FILE, FederationSettings, ours_to_edit=False)
    if federation.name != settings.federation:
        raise AdmissionRefused("the kit's federation file is another one than it says", got=folder)
    if federation.digest() != settings.federation_digest:  # the file itself is as it was signed
        raise AdmissionRefused(
            "the kit was made by another release: its federation file has other settings here",
            got=folder,
            expected="one of the release that is installed here",
            action="Coordinator and sites run the same release: ask for a kit of it, and take it with "
            "`fedminet site accept`",
        )
    if settings.site not in federation.sites:
        raise AdmissionRefused(
            "the kit's site is no member of its federation",
            got=settings.site,
            expected=", ".join(federation.sites),
        )
    return Kit(folder, settings, federation)


def pinned_kit(home: SiteHome) -> Kit:
    """The kit that the site uses, held to the pinned authority: what can be seen of it without the site's keys.

    Raises FileMissing (FM-C103) where none was accepted, AdmissionRefused (FM-F404).
    """
    pin = read_pin(home)
    if pin is None:
        raise FileMissing(
            "the site has accepted no kit",
            got=f"no {home.keys / PIN_FILE}",
            action="Take the kit of `fedminet server admit` with `fedminet site accept`",
        )
    return read_kit(home.kit, authority=_pinned(pin))


def kit_in_use(home: SiteHome) -> Kit:
    """`pinned_kit`, held to the site's name and keys too. Raises as it does."""
    kit = pinned_kit(home)
    _require_ours(home, kit)
    return kit


def authority_of(folder: Path) -> str:
    """The fingerprint of the authority that the kit in `folder` names: to compare by telephone."""
    return authority_fingerprint(read_authority(folder / CA_FILE))


def accept_kit(
    home: SiteHome,
    folder: Path,
    *,
    fingerprint: str | None = None,
    new_authority: bool = False,
    agree: Agree | None = None,
    now: datetime.datetime | None = None,
) -> Accepted:
    """Take the kit in `folder` into use, in one step, also while the client runs; the site's ledger has it.

    fingerprint: the authority's, as the coordinator reads it out; needed for the first kit, and with `new_authority`,
    which replaces the pinned one. agree: asked where the federation file is another than that of the kit in use; None
    refuses it. Raises AdmissionRefused (FM-F404) with the reason, FileMissing (FM-C103), PolicyRefused (FM-F420) where
    the policy does not allow what the file asks for, or nobody agreed to what it changes.
    """
    try:
        return _accept(
            home, folder, fingerprint=fingerprint, new_authority=new_authority, agree=agree, now=now
        )
    except FedminetError as failure:
        Ledger(home.state).append("kit-refused", code=failure.code)
        raise


def _accept(
    home: SiteHome,
    folder: Path,
    *,
    fingerprint: str | None,
    new_authority: bool,
    agree: Agree | None,
    now: datetime.datetime | None,
) -> Accepted:
    pin = read_pin(home)
    copy = copied_kit(home, folder)
    try:
        authority = read_authority(copy / CA_FILE)
        _require_trusted(authority, pin, fingerprint=fingerprint, new_authority=new_authority)
        kit = read_kit(copy, authority=authority)
        _require_ours(home, kit)
        require_current(kit.settings, now=now)
        if pin is not None and not new_authority and kit.settings.issued_at < pin.newest_kit:
            raise AdmissionRefused(
                "the kit is stale: the site has taken a newer one",
                got=f"one of {kit.settings.issued_at:%Y-%m-%d %H:%M:%S} UTC",
                expected=f"none before {pin.newest_kit:%Y-%m-%d %H:%M:%S} UTC",
                action="Use the coordinator's last kit",
            )
        n_parameters = require_policy(home.settings(), kit.federation).n_parameters
        former = _former(home, pin)
        changes = changes_of(
            None if former is None else former.federation,
            None if pin is None else pin.federation_digest,
            kit.federation,
        )
        require_agreed(changes, agree)
        Ledger(home.state).append(
            "kit-accepted",
            study=kit.federation.name,
            federation=kit.settings.federation_digest,
            bundle=kit.settings.bundle_digest,
            issued=kit.settings.issued_at.isoformat(),
            changes=list(changes),
        )
        _write_pin(home, authority, kit.settings)
        keep_model_size(home, kit.federation, n_parameters)
        return Accepted(
            Kit(put_into_place(home, kit.folder), kit.settings, kit.federation),
            _why_restart(former, kit),
            changes,
        )
    finally:
        shutil.rmtree(copy, ignore_errors=True)


def read_pin(home: SiteHome) -> Pin | None:
    """Whom the site trusts; None before its first kit. Raises ConfigurationError and its kin."""
    path = home.keys / PIN_FILE
    if not path.is_file():
        return None
    try:
        content = parse_json(path.read_bytes())
    except ValueError as failure:
        raise ConfigurationError(f"{path} is not a JSON file") from failure
    return parse_settings(content, Pin, source=str(path))


def _pinned(pin: Pin) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pin.authority.encode("ascii"))


def _write_pin(home: SiteHome, authority: x509.Certificate, taken: KitSettings) -> None:
    pem = authority.public_bytes(serialization.Encoding.PEM).decode("ascii")
    pin = Pin(authority=pem, newest_kit=taken.issued_at, federation_digest=taken.federation_digest)
    write_json(home.keys / PIN_FILE, pin.model_dump(mode="json"))


def _require_trusted(
    authority: x509.Certificate, pin: Pin | None, *, fingerprint: str | None, new_authority: bool
) -> None:
    """Hold the authority of a kit to the pinned one, or to what a person has compared."""
    found = authority_fingerprint(authority)
    if pin is not None and not new_authority and authority != _pinned(pin):
        raise AdmissionRefused(
            "the kit is of another authority than the one that this site trusts",
            got=found,
            expected=authority_fingerprint(_pinned(pin)),
            action="Do not use it. If the coordinator has made a new authority, he reads out its fingerprint: "
            "then `--new-authority --fingerprint`",
        )
    if fingerprint is None and (pin is None or new_authority):
        raise AdmissionRefused(
            "the authority of a first kit is to be compared by telephone",
            got="no fingerprint",
            action="Give --fingerprint with the digits that the coordinator reads out",
        )
    if fingerprint is not None and not same_fingerprint(fingerprint, found):
        raise AdmissionRefused(
            "the kit's authority has another fingerprint than the coordinator reads out",
            got=found,
            expected=fingerprint,
            action="Do not use it: ask the coordinator for the kit by another way",
        )


def _require_ours(home: SiteHome, kit: Kit) -> None:
    """Raises AdmissionRefused (FM-F404) for the kit of another site, or of other keys than the site has."""
    keys, settings = read_site_keys(home.keys), kit.settings
    name = home.settings().name
    if settings.site != name:
        raise AdmissionRefused("the kit is for another site", got=settings.site, expected=name)
    tls = _public_of(keys)
    if settings.key_fingerprint != keys.fingerprint or settings.tls_digest != tls_key_digest(tls):
        raise AdmissionRefused(
            "the kit was made for another key",
            got=keys.fingerprint,
            expected=settings.key_fingerprint,
            action="Send the coordinator this site's request, or use the kit that belongs to it",
        )
    certificate = x509.load_pem_x509_certificate(kit.certificate.read_bytes())
    if certificate.public_key() != tls:
        raise AdmissionRefused("the kit's certificate is for another key", got=kit.certificate)


def _public_of(keys: SiteKeys) -> ec.EllipticCurvePublicKey:
    return read_tls_private(keys).public_key()


def _former(home: SiteHome, pin: Pin | None) -> Kit | None:
    """The kit in use before, if it can still be read: only what changed is said of it."""
    if pin is None:
        return None
    with contextlib.suppress(AdmissionRefused, ConfigurationError):
        return read_kit(home.kit, authority=_pinned(pin))
    return None


def _why_restart(former: Kit | None, kit: Kit) -> str | None:
    if former is None:
        return None
    if former.settings.address != kit.settings.address:
        return f"the coordinator's address is now {kit.settings.address}"
    if former.settings.bundle_digest != kit.settings.bundle_digest:
        return "the coordinator runs another app bundle"
    return None
