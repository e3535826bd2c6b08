"""When the coordinator's certificates expire, and what to do about each."""

from __future__ import annotations

from minet_core.admission.expiry import Expiry
from server.admission.enrolment import admitted_sites
from server.admission.pki import ca_files, expires_at, server_files
from server.admission.revocation import crl_is_behind, read_crl, revocations
from server.server_home import ServerHome


def expiries(home: ServerHome) -> list[Expiry]:
    """Of the authority, the server, the revocation list and every admitted site."""
    found = [
        Expiry(
            "the authority's certificate",
            expires_at(ca_files(home.pki).certificate),
            "Make a new federation folder and admit every site anew; docs/admission.md says how",
        ),
        Expiry(
            "the server's certificate",
            expires_at(server_files(home.pki).certificate),
            "Run `fedminet server renew-server`",
        ),
    ]
    crl = read_crl(home.pki)
    if crl is not None and crl.next_update_utc is not None:
        action = "Renew any certificate: the list is made anew each time"
        found.append(Expiry("the revocation list", crl.next_update_utc, action))
    for name in admitted_sites(home):
        path = home.sites / f"{name}.pem"
        if path.is_file():
            action = f"Run `fedminet server renew --name {name}` and give the site its kit"
            found.append(Expiry(f"the certificate of {name}", expires_at(path), action))
    return found


def warnings(home: ServerHome) -> list[str]:
    """What the coordinator is to be told: what expires within 30 days, and a revocation that was cut off."""
    said = [warning for expiry in expiries(home) if (warning := expiry.warning()) is not None]
    if read_crl(home.pki) is None:
        said.append("Warning: there is no revocation list. Renew any certificate to make it.")
    elif crl_is_behind(home.pki):
        names = ", ".join(sorted({revocation.site for revocation in revocations(home.pki)}))
        said.append(
            "Warning: a revocation was cut off, and the proxy's list lacks it. "
            f"Run `fedminet server revoke` again ({names})."
        )
    return said


def certificate_rows(home: ServerHome) -> list[dict[str, object]]:
    """One row each for `fedminet server certificates`; revoked sites last."""
    rows: list[dict[str, object]] = [
        {
            "what": expiry.what,
            "state": expiry.state(),
            "expires_at": expiry.expires_at.isoformat(),
            "days_left": expiry.days_left(),
            "warning": expiry.warning(),
        }
        for expiry in expiries(home)
    ]
    rows += [
        {
            "what": f"the certificate of {revocation.site}",
            "state": "revoked",
            "revoked_at": revocation.revoked_at,
            "reason": revocation.reason,
            "warning": None,
        }
        for revocation in revocations(home.pki)
    ]
    return rows
