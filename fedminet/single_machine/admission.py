"""A coordinator and its sites on one machine: admission without the telephone, since both ends are here.

By the same steps as between hospitals: keys and request at the site, certificate and signed kit at the coordinator,
the authority pinned at the site. The authority is a throw-away: nobody learns its passphrase.
"""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Mapping
from pathlib import Path

from client.admission.keys import SiteKeys, make_site_keys
from client.admission.kit import Kit, accept_kit
from client.admission.request import make_request
from client.site_home import SiteHome
from minet_core.settings.federation import FederationSettings
from server.admission.enrolment import KitTerms, admit
from server.admission.init_server import init_server
from server.admission.pki import Authority, open_authority
from server.server_home import ServerHome, ServerSettings


def make_coordinator_here(
    path: Path, federation: FederationSettings, settings: ServerSettings
) -> tuple[ServerHome, Authority]:
    """Make a coordinator's folder under a random passphrase; its authority, opened."""
    passphrase = secrets.token_urlsafe(32)
    home = init_server(path, federation, settings, passphrase=passphrase)
    return home, open_authority(home.pki, passphrase)


def admit_here(server: ServerHome, authority: Authority, homes: Mapping[str, SiteHome]) -> dict[str, Kit]:
    """Make every site's keys where it has none, admit it with what it declares, and let it accept its kit."""
    return {name: admit_one_here(server, authority, name, home) for name, home in homes.items()}


def admit_one_here(
    server: ServerHome, authority: Authority, name: str, home: SiteHome, *, address: str | None = None
) -> Kit:
    """The same for one site; address: where it reaches the server, if not where all do."""
    if not SiteKeys.of(home.keys).private_key.exists():
        make_site_keys(home.keys, name=name)
    request = make_request(home)
    with tempfile.TemporaryDirectory() as folder:
        kit = Path(folder) / "kit"
        admit(
            server,
            authority,
            name,
            request.path,
            KitTerms(kit, address=address),
            fingerprint=request.fingerprint,
        )
        return accept_kit(home, kit, fingerprint=authority.fingerprint, agree=lambda _: True).kit
