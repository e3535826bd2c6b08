"""Admitting a site, renewing its certificate, and revoking it.

    sites/NAME.pub                its Flower node key, which the SuperLink registers it by
    sites/NAME.request.json       the request that it was admitted by; a renewal issues for the keys in it
    sites/NAME.pem                the certificate that it was issued last
    sites/NAME.declaration.json   what it declared of its cohort

A site is known by its two keys. The name it is registered under is chosen here, by the coordinator, after the
fingerprint was compared by telephone.
"""

from __future__ import annotations

import contextlib
import datetime
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from minet_core.admission.fingerprints import key_fingerprint, same_fingerprint
from minet_core.admission.request import CheckedRequest, read_request
from minet_core.errors import AdmissionRefused, ConfigurationError
from minet_core.protocol.cohort_declaration import CohortDeclaration, read_declaration
from minet_core.runtime.files.atomic_write import write_json, write_text
from server.admission.kits import write_kit
from server.admission.pki import SITE_DAYS, Authority, issue_site_certificate
from server.admission.revocation import (
    Revocation,
    changing,
    record_revocation,
    revocations,
    write_crl,
    write_node_map,
)
from server.server_home import ServerHome


@dataclass(frozen=True)
class Admission:
    """A site that was admitted, or whose certificate was renewed."""

    site: str
    fingerprint: str
    authority_fingerprint: str
    certificate: x509.Certificate
    kit: Path


@dataclass(frozen=True)
class KitTerms:
    """How a certificate and its kit are issued. folder: for the kit, a new one. days: how long the certificate is
    valid, from `now`. address: where this site reaches the server, if not where all do.
    """

    folder: Path
    days: int = SITE_DAYS
    address: str | None = None
    now: datetime.datetime | None = None


def admit(
    home: ServerHome,
    authority: Authority,
    name: str,
    request: Path,
    terms: KitTerms,
    *,
    declaration: Path | None = None,
    fingerprint: str | None = None,
) -> Admission:
    """Admit the site `name` by its request and write its signed kit to the folder of `terms`.

    declaration: what the site declares of its cohort, if not in the request; its replies are held to it.
    fingerprint: what the site reads out by telephone; None where the caller has compared it.

    Raises AdmissionRefused (FM-F404) for a name that is no member or is admitted with other keys, for keys that
    another site has or that were revoked, and for a request that was altered; FileMissing (FM-C103);
    ConfigurationError (FM-C100) for a kit folder that is in use. The same name with the same keys gets a new
    certificate and a new kit.
    """
    federation = home.federation()
    if name not in federation.sites:
        raise AdmissionRefused(
            "the site is no member of the federation",
            got=name,
            expected=", ".join(federation.sites),
            action="Add it to `sites` in federation.yaml first",
        )
    content, checked = read_request(request)
    require_admissible(home, name, checked, fingerprint=fingerprint)
    _require_unused(terms.folder)
    cohort = checked.declaration
    if declaration is not None:
        cohort = read_declaration(declaration)
    if cohort is not None and cohort.site != name:
        raise AdmissionRefused("the declaration is another site's", got=cohort.site, expected=name)
    with changing(home.pki):
        require_admissible(home, name, checked, fingerprint=fingerprint)  # nobody was faster
        if cohort is not None:
            write_json(_declaration(home, name), cohort.model_dump(mode="json"))
        write_json(_request(home, name), content.model_dump(mode="json"))
        write_text(home.sites / f"{name}.pub", checked.node_key + "\n")
        return _issue(home, authority, name, checked, terms)


def require_admissible(
    home: ServerHome, name: str, request: CheckedRequest, *, fingerprint: str | None = None
) -> None:
    """Raises AdmissionRefused (FM-F404) for a request that cannot be admitted under `name`."""
    if request.site != name:
        raise AdmissionRefused("the request is another site's", got=request.site, expected=name)
    if fingerprint is not None and not same_fingerprint(fingerprint, request.fingerprint):
        raise AdmissionRefused(
            "the request has another fingerprint than the site reads out",
            got=request.fingerprint,
            expected=fingerprint,
            action="Do not admit it: ask the site for its request by another way",
        )
    for revoked in revocations(home.pki):
        if request.node_fingerprint == revoked.node_fingerprint or request.tls_digest == revoked.tls_digest:
            raise AdmissionRefused(
                f"a key of the request was revoked on {revoked.revoked_at[:10]}, as that of {revoked.site}",
                got=revoked.reason,
                action="The site makes new keys in a new folder: `fedminet site init`",
            )
    for other in admitted_sites(home):
        admitted = admitted_request(home, other)
        same_node = admitted.node_fingerprint == request.node_fingerprint
        same_tls = admitted.tls_digest == request.tls_digest
        if other == name and not (same_node and same_tls):
            raise AdmissionRefused(
                f"{name} is admitted with another key",
                got=request.fingerprint,
                expected=admitted.fingerprint,
                action=f"Compare by telephone; to admit it anew, `fedminet server revoke` {name} first",
            )
        if other != name and (same_node or same_tls):
            raise AdmissionRefused(f"a key of the request is that of {other}", got=request.fingerprint)


def renew(home: ServerHome, authority: Authority, name: str, terms: KitTerms) -> Admission:
    """Issue an admitted site's next certificate for the keys that it was admitted with, and write its kit.

    Raises AdmissionRefused (FM-F404) for a site that is not admitted, ConfigurationError (FM-C100) for a kit folder
    that is in use.
    """
    _require_unused(terms.folder)
    with changing(home.pki):
        if name not in admitted_sites(home):
            raise _not_admitted(home, name)
        checked = admitted_request(home, name)
        return _issue(home, authority, name, checked, terms)


def revoke(home: ServerHome, authority: Authority, name: str, *, reason: str) -> Revocation:
    """Revoke the keys of the site `name`: none of its certificates is taken from now on, none is issued again.

    It is on the disk before anything follows from it; given again after an interruption it makes what is missing.
    Raises AdmissionRefused (FM-F404) for a site that is neither admitted nor revoked.
    """
    with changing(home.pki):
        former = [revocation for revocation in revocations(home.pki) if revocation.site == name]
        if name in admitted_sites(home):
            admitted = admitted_request(home, name)
            revocation = record_revocation(
                home.pki,
                name,
                reason=reason,
                node_fingerprint=admitted.node_fingerprint,
                tls_digest=admitted.tls_digest,
            )
        elif former:
            revocation = former[-1]
        else:
            raise _not_admitted(home, name)
        write_crl(authority)
        write_node_map(home.pki, node_keys(home))
        for path in (home.sites / f"{name}.pub", _request(home, name), home.sites / f"{name}.pem"):
            path.unlink(missing_ok=True)
        _declaration(home, name).unlink(missing_ok=True)
    return revocation


def admitted_sites(home: ServerHome) -> dict[str, Path]:
    """The registered key of every admitted site; one that is revoked is none."""
    revoked = {revocation.node_fingerprint for revocation in revocations(home.pki)}
    admitted = {}
    for path in sorted(home.sites.glob("*.pub")):
        with contextlib.suppress(FileNotFoundError):  # revoked at this moment
            if key_fingerprint(path) not in revoked:
                admitted[path.stem] = path
    return admitted


def admitted_request(home: ServerHome, name: str) -> CheckedRequest:
    """What the site `name` was admitted by."""
    return read_request(_request(home, name))[1]


def node_keys(home: ServerHome) -> dict[str, str]:
    """By site, the OpenSSH line of its node key."""
    keys = {}
    for name, path in admitted_sites(home).items():
        with contextlib.suppress(FileNotFoundError):  # as above
            keys[name] = path.read_text(encoding="ascii").strip()
    return keys


def declared_cohorts(home: ServerHome) -> dict[str, CohortDeclaration]:
    """What every admitted site declared; a site that declared nothing is not in it."""
    paths = {name: _declaration(home, name) for name in admitted_sites(home)}
    return {name: read_declaration(path) for name, path in paths.items() if path.exists()}


def _issue(
    home: ServerHome, authority: Authority, name: str, checked: CheckedRequest, terms: KitTerms
) -> Admission:
    """The certificate, the files that the proxy reads, and the kit."""
    now = terms.now
    certificate = issue_site_certificate(authority, name, checked.tls_key, days=terms.days, now=now)
    pem = certificate.public_bytes(serialization.Encoding.PEM).decode("ascii")
    write_text(home.sites / f"{name}.pem", pem)
    write_crl(authority)
    write_node_map(home.pki, node_keys(home))
    write_kit(home, authority, checked, certificate, folder=terms.folder, address=terms.address, now=now)
    return Admission(name, checked.fingerprint, authority.fingerprint, certificate, terms.folder)


def _not_admitted(home: ServerHome, name: str) -> AdmissionRefused:
    known = ", ".join(admitted_sites(home)) or "none is"
    return AdmissionRefused("the site is not admitted", got=name, expected=known)


def _require_unused(kit: Path) -> None:
    if kit.exists() and any(kit.iterdir()):
        raise ConfigurationError("the kit's folder is not empty", got=kit, action="Name a new folder")


def _declaration(home: ServerHome, name: str) -> Path:
    return home.sites / f"{name}.declaration.json"


def _request(home: ServerHome, name: str) -> Path:
    return home.sites / f"{name}.request.json"
