"""`fedminet server admit|renew|renew-server|revoke|certificates|passphrase`: who is let in, and until when."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from minet_core.protocol.cohort_declaration import CohortDeclaration
    from server.admission.enrolment import Admission
    from server.admission.pki import Authority
    from server.server_home import ServerHome

MAX_SLICES = 100_000
"""`minet_core.protocol.cohort_declaration.MAX_SLICES`, which would take a second to import."""

Home = Annotated[Path, typer.Argument(help="The coordinator's folder.")]
SiteName = Annotated[str, typer.Option("--name", help="The site's name, as federation.yaml has it.")]
KitFolder = Annotated[Path, typer.Option("--kit", help="Where to write the site's kit: a new folder.")]
PassphraseFile = Annotated[
    Path | None,
    typer.Option(
        help="A file with the passphrase of the authority's key; else FEDMINET_CA_PASSPHRASE_FILE, else you are asked."
    ),
]
CaKey = Annotated[
    Path | None,
    typer.Option("--ca-key", help="The authority's key, where it is not kept in the coordinator's folder."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a script.")]


@dataclass(frozen=True)
class IssueOptions:
    """How a certificate and its kit are issued, and how the command answers."""

    kit: KitFolder
    days: Annotated[int, typer.Option(min=1, max=366, help="How long the certificate is valid.")] = 90
    passphrase_file: PassphraseFile = None
    ca_key: CaKey = None
    json_output: AsJson = False


def admit(
    home: Home,
    name: SiteName,
    request: Annotated[Path, typer.Option(help="The request.json that the site sent.")],
    issue: IssueOptions,
    fingerprint: Annotated[
        str | None, typer.Option(help="The digits that the site reads out by telephone; else you are asked.")
    ] = None,
    declaration: Annotated[
        Path | None, typer.Option(help="The site's declaration, if its request does not hold it.")
    ] = None,
    max_slices: Annotated[
        int, typer.Option(min=1, help="Refuse a site that declares more training slices.")
    ] = MAX_SLICES,
) -> None:
    """Admit a site, and write its signed kit. Its fingerprint is compared by telephone before."""
    from minet_core.admission.request import read_request
    from minet_core.errors import AdmissionRefused
    from minet_core.protocol.cohort_declaration import read_declaration
    from server.admission.enrolment import KitTerms, admitted_sites, require_admissible
    from server.admission.enrolment import admit as admit_site
    from server.ledger import note_act
    from server.server_home import ServerHome

    coordinator = ServerHome.at(home)
    _, checked = read_request(request)
    require_admissible(coordinator, name, checked, fingerprint=fingerprint)
    cohort = checked.declaration if declaration is None else read_declaration(declaration)
    _say_declared(coordinator, name, cohort, max_slices=max_slices)
    known = name in admitted_sites(coordinator)  # by these very keys: they were compared once
    if fingerprint is None and not known:
        typer.echo(f"The fingerprint of {name}, of its name and both its keys:", err=True)
        typer.echo(f"  {checked.fingerprint}", err=True)
        _require_terminal("--fingerprint with the digits that the site reads out")
        if not typer.confirm("Does the site read out the same digits by telephone?"):
            raise AdmissionRefused("the fingerprints were not the same", got=checked.fingerprint)
    authority = opened_authority(coordinator, issue.passphrase_file, issue.ca_key)
    admitted = admit_site(
        coordinator,
        authority,
        name,
        request,
        KitTerms(issue.kit, issue.days),
        declaration=declaration,
        fingerprint=checked.fingerprint,
    )
    note_act(coordinator, "admitted", site=name, fingerprint=admitted.fingerprint)
    _say_admitted(coordinator, admitted, verb="admitted", json_output=issue.json_output)


def renew(
    home: Home,
    name: SiteName,
    issue: IssueOptions,
) -> None:
    """Issue a site's next certificate, and its next kit. The keys are those that it was admitted with."""
    from server.admission.enrolment import KitTerms
    from server.admission.enrolment import renew as renew_site
    from server.ledger import note_act
    from server.server_home import ServerHome

    coordinator = ServerHome.at(home)
    authority = opened_authority(coordinator, issue.passphrase_file, issue.ca_key)
    renewed = renew_site(coordinator, authority, name, KitTerms(issue.kit, issue.days))
    note_act(coordinator, "renewed", site=name, fingerprint=renewed.fingerprint)
    _say_admitted(coordinator, renewed, verb="renewed", json_output=issue.json_output)


def renew_server(home: Home, passphrase_file: PassphraseFile = None, ca_key: CaKey = None) -> None:
    """Issue the server's next certificate. A proxy and a started server take it into use by themselves."""
    from server.admission.pki import expires_at, issue_server_certificate
    from server.admission.revocation import changing, write_crl
    from server.server_home import ServerHome

    coordinator = ServerHome.at(home)
    authority = opened_authority(coordinator, passphrase_file, ca_key)
    with changing(coordinator.pki):
        files = issue_server_certificate(authority, hosts=coordinator.settings().hosts)
        write_crl(authority)
    typer.echo(f"The server's certificate is valid until {expires_at(files.certificate):%Y-%m-%d}.")


def revoke(
    home: Home,
    name: SiteName,
    reason: Annotated[str, typer.Option(help="Why, for the record.")],
    passphrase_file: PassphraseFile = None,
    ca_key: CaKey = None,
) -> None:
    """Revoke a site. Its keys are refused from now on, and are never admitted again."""
    from server.admission.enrolment import revoke as revoke_site
    from server.admission.sync_registered_nodes import try_sync_registered_nodes
    from server.ledger import note_act
    from server.server_home import ServerHome

    coordinator = ServerHome.at(home)
    authority = opened_authority(coordinator, passphrase_file, ca_key)
    revoked = revoke_site(coordinator, authority, name, reason=reason)
    note_act(coordinator, "revoked", site=name)
    typer.echo(f"{name} is revoked since {revoked.revoked_at}: {revoked.reason}.")
    if try_sync_registered_nodes(coordinator):
        typer.echo("Its node is unregistered; the proxy refuses it when it has read its list again.")
    else:
        typer.echo("The server does not answer from here; it unregisters the node by itself once it runs.")


def certificates(home: Home, json_output: AsJson = False) -> None:
    """List when certificates expire, and who is revoked. From 30 days before an end it warns."""
    from server.admission.expiry import certificate_rows, warnings
    from server.server_home import ServerHome

    coordinator = ServerHome.at(home)
    rows = certificate_rows(coordinator)
    if json_output:
        typer.echo(json.dumps(rows))
        return
    for row in rows:
        if row["state"] == "revoked":
            typer.echo(f"{row['what']}: revoked on {str(row['revoked_at'])[:10]}: {row['reason']}")
        else:
            typer.echo(
                f"{row['what']}: {row['state']}, until {str(row['expires_at'])[:10]} ({row['days_left']} days)"
            )
    for warning in warnings(coordinator):
        typer.echo(warning, err=True)


def passphrase(
    home: Home,
    former_file: Annotated[
        Path | None, typer.Option(help="A file with the present passphrase; else you are asked.")
    ] = None,
    new_file: Annotated[
        Path | None, typer.Option(help="A file with the new passphrase; else you are asked.")
    ] = None,
    ca_key: CaKey = None,
) -> None:
    """Put the authority's key under another passphrase. One that is under none gets its first."""
    from server.admission.passphrase import read_passphrase
    from server.admission.pki import change_passphrase, is_sealed
    from server.server_home import ServerHome

    folder = ServerHome.at(home).pki
    former = read_passphrase(former_file) if is_sealed(folder, key=ca_key) else None
    typer.echo("The new passphrase:", err=True)
    change_passphrase(folder, former=former, passphrase=read_passphrase(new_file, new=True), key=ca_key)
    typer.echo("The authority's key is under the new passphrase. Make a back-up of it.")


def opened_authority(home: ServerHome, passphrase_file: Path | None, ca_key: Path | None) -> Authority:
    """The authority, opened; the moment at which a folder without a key for back-ups gets one."""
    from server.admission.passphrase import read_passphrase
    from server.admission.pki import open_authority
    from server.backup.signature import ensure_backup_key

    authority = open_authority(home.pki, read_passphrase(passphrase_file), key=ca_key)
    ensure_backup_key(authority)
    return authority


def _say_declared(home: ServerHome, name: str, cohort: CohortDeclaration | None, *, max_slices: int) -> None:
    """What the site declares of its cohort, which is its weight in the mean, beside what the others declared."""
    from minet_core.protocol.cohort_declaration import require_believable
    from server.admission.enrolment import declared_cohorts

    if cohort is None:
        typer.echo(f"{name} declares no cohort: its first reply of a run is what it is held to.", err=True)
        return
    require_believable(cohort, max_slices=max_slices)
    typer.echo(f"{name} declares {cohort.n_training_slices} training slices, and is held to them.", err=True)
    others = {site: of.n_training_slices for site, of in declared_cohorts(home).items() if site != name}
    if others:
        text = ", ".join(f"{site} {n_slices}" for site, n_slices in sorted(others.items()))
        typer.echo(f"  The others: {text}.", err=True)


def _say_admitted(home: ServerHome, admitted: Admission, *, verb: str, json_output: bool) -> None:
    from server.admission.sync_registered_nodes import try_sync_registered_nodes

    registered = try_sync_registered_nodes(home)
    until = admitted.certificate.not_valid_after_utc
    if json_output:
        facts = {
            "site": admitted.site,
            "fingerprint": admitted.fingerprint,
            "authority_fingerprint": admitted.authority_fingerprint,
            "expires_at": until.isoformat(),
            "registered": registered,
            "kit": str(admitted.kit),
        }
        typer.echo(json.dumps(facts))
        return
    where = (
        f"It is registered as {admitted.site}" if registered else "The server registers it once it is started"
    )
    typer.echo(f"{admitted.site} is {verb}; its certificate is valid until {until:%Y-%m-%d}. {where}.")
    typer.echo(f"Give the site the folder {admitted.kit}: nothing in it is secret.")
    typer.echo("Read out to the site, when it accepts its first kit, the authority's fingerprint:")
    typer.echo(f"  {admitted.authority_fingerprint}")


def _require_terminal(option: str) -> None:
    from minet_core.errors import InvalidSetting

    if not sys.stdin.isatty():
        raise InvalidSetting(
            "somebody has to compare the fingerprint", got="no terminal", action=f"Give {option}"
        )
