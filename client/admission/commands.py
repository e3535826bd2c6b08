"""`fedminet site request|renew|accept`: asking for admission, and taking the coordinator's kit into use."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from client.admission.kit import Accepted

Home = Annotated[Path, typer.Argument(help="The site's folder.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a script.")]


def request(home: Home, json_output: AsJson = False) -> None:
    """Write the site's request for admission. With its declaration, if scans were ingested."""
    from client.admission.request import make_request
    from client.site_home import SiteHome

    made = make_request(SiteHome.at(home))
    if json_output:
        typer.echo(json.dumps({"request": str(made.path), "fingerprint": made.fingerprint}))
        return
    declared = "with" if made.declares else "without"
    typer.echo(f"Send the coordinator {made.path} ({declared} a declaration); its fingerprint, by telephone:")
    typer.echo(f"  {made.fingerprint}")


def renew(home: Home, json_output: AsJson = False) -> None:
    """Ask for the next certificate, with the same keys. It says until when the present one is valid."""
    from client.admission.kit import kit_in_use
    from client.admission.request import make_request
    from client.site_home import SiteHome

    site = SiteHome.at(home)
    expires_at = kit_in_use(site).settings.expires_at
    made = make_request(site)
    if json_output:
        facts = {"request": str(made.path), "fingerprint": made.fingerprint, "expires_at": str(expires_at)}
        typer.echo(json.dumps(facts))
        return
    typer.echo(f"The present certificate is valid until {expires_at:%Y-%m-%d}.")
    typer.echo(f"Send the coordinator {made.path}; the keys are the same, so nothing is compared again.")


def accept(
    home: Home,
    kit: Annotated[Path, typer.Argument(help="The folder that the coordinator gave.")],
    fingerprint: Annotated[
        str | None,
        typer.Option(help="The authority's digits, as the coordinator reads them out; else you are asked."),
    ] = None,
    new_authority: Annotated[
        bool, typer.Option("--new-authority", help="Trust another authority from now on.")
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", help="Agree to what the kit changes of the federation file.")
    ] = False,
    json_output: AsJson = False,
) -> None:
    """Take the coordinator's kit into use. The first is compared by telephone; later ones may come at any time.

    Where its federation file is another than that of the kit in use, what it changes is shown, and you are asked.
    """
    from client.admission.kit import accept_kit, read_pin
    from client.site_home import SiteHome

    site = SiteHome.at(home)
    if fingerprint is None and (read_pin(site) is None or new_authority) and sys.stdin.isatty():
        fingerprint = _compared_fingerprint(kit)

    def agree(changes: tuple[str, ...]) -> bool:
        typer.echo("The coordinator has changed what the site agreed to:", err=True)
        for change in changes:
            typer.echo(f"  {change}", err=True)
        return yes or (
            sys.stdin.isatty() and typer.confirm("Does the hospital agree?", default=False, err=True)
        )

    accepted = accept_kit(site, kit, fingerprint=fingerprint, new_authority=new_authority, agree=agree)
    _say_accepted(accepted, json_output=json_output)


def _compared_fingerprint(kit: Path) -> str:
    """The authority's fingerprint, once the person here has compared it by telephone. Raises AdmissionRefused."""
    from client.admission.kit import authority_of
    from minet_core.errors import AdmissionRefused

    shown = authority_of(kit)
    typer.echo("The fingerprint of the federation's authority:", err=True)
    typer.echo(f"  {shown}", err=True)
    if not typer.confirm("Does the coordinator read out the same digits by telephone?"):
        raise AdmissionRefused("the fingerprints were not the same", got=shown)
    return shown


def _say_accepted(accepted: Accepted, *, json_output: bool) -> None:
    from minet_core.settings.federation_changes import federation_in_words

    settings = accepted.kit.settings
    if json_output:
        facts = {
            "site": settings.site,
            "federation": settings.federation,
            "address": settings.address,
            "expires_at": settings.expires_at.isoformat(),
            "restart": accepted.restart,
            "changes": list(accepted.changes),
        }
        typer.echo(json.dumps(facts))
        return
    typer.echo(
        f"The kit of {settings.site} in {settings.federation} is in use; "
        f"its certificate is valid until {settings.expires_at:%Y-%m-%d}."
    )
    for line in federation_in_words(accepted.kit.federation):
        typer.echo(f"  {line}")
    if accepted.restart is not None:
        typer.echo(f"Start the site's client again: {accepted.restart}.")
