"""A coordinator with an opened authority, and sites with keys, for tests of admission."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from client.enrol import init_site
from client.kit import Kit
from client.site_home import SiteHome
from fedminet.admission_here import admit_one_here
from minet_core.federation import FederationSettings
from server.enrolment import Admission, admit
from server.pki import Authority, open_authority
from server.server_home import ServerHome, ServerSettings, init_server

PASSPHRASE = "four words of a trial"


@dataclass(frozen=True)
class Coordinator:
    """A coordinator's folder, and its authority opened."""

    home: ServerHome
    authority: Authority

    def admit(self, site: SiteHome, kit: Path, *, name: str | None = None, **options: object) -> Admission:
        """Admit the site by the request in its folder."""
        chosen = name or site.settings().name
        return admit(self.home, self.authority, chosen, site.request, kit=kit, **options)  # type: ignore[arg-type]

    def admitted(self, site: SiteHome, *, address: str | None = None) -> Kit:
        """Admit the site and let it accept its kit."""
        return admit_one_here(self.home, self.authority, site.settings().name, site, address=address)


def make_coordinator(
    path: Path, *, sites: tuple[str, ...] = ("sms", "umr"), quorum: int = 1, **settings: object
) -> Coordinator:
    """A federation of these sites; settings: of server.yaml."""
    federation = FederationSettings(name="trial", sites=sites, participation={"quorum": quorum})
    home = init_server(path, federation, ServerSettings.model_validate(settings), passphrase=PASSPHRASE)
    return Coordinator(home, open_authority(home.pki, PASSPHRASE))


def make_site(path: Path, name: str = "sms") -> SiteHome:
    """A site's folder with settings, keys and request, and no scans."""
    init_site(path, chosen="sms", name=name)
    return SiteHome(path)
