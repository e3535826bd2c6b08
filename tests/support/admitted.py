"""A coordinator with an opened authority, and sites with keys, for tests of admission."""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from client.admission.init_site import init_site
from client.admission.kit import Kit
from client.site_home import SiteHome
from fedminet.single_machine.admission import admit_one_here
from minet_core.settings.federation import FederationSettings
from minet_core.settings.yaml_file import write_settings
from server.admission.enrolment import Admission, KitTerms, admit
from server.admission.init_server import init_server
from server.admission.pki import Authority, open_authority
from server.server_home import ServerHome, ServerSettings

PASSPHRASE = "four words of a trial"


@dataclass(frozen=True)
class Coordinator:
    """A coordinator's folder, and its authority opened."""

    home: ServerHome
    authority: Authority

    def admit(self, site: SiteHome, kit: Path, *, name: str | None = None, **options: object) -> Admission:
        """Admit the site by the request in its folder."""
        chosen = name or site.settings().name
        terms = {key: options.pop(key) for key in ("days", "address", "now") if key in options}
        return admit(
            self.home,
            self.authority,
            chosen,
            site.request,
            KitTerms(kit, **terms),  # type: ignore[arg-type]
            **options,  # type: ignore[arg-type]
        )

    def admitted(self, site: SiteHome, *, address: str | None = None) -> Kit:
        """Admit the site and let it accept its kit."""
        return admit_one_here(self.home, self.authority, site.settings().name, site, address=address)


def make_coordinator(
    path: Path, *, sites: tuple[str, ...] = ("sms", "umr"), quorum: int = 1, **settings: object
) -> Coordinator:
    """A federation of these sites; settings: of server.yaml.

    Coordinators whose folders have the same name are copies of one, with one authority, since a key under a passphrase
    is meant to cost half a second; those of another name have another authority.
    """
    chosen = ServerSettings.model_validate(settings)
    made = _made(path.name, sites, quorum, chosen.hosts)
    shutil.copytree(made.home.path, path)
    write_settings(path / "server.yaml", chosen)
    home = ServerHome.at(path)
    return Coordinator(home, replace(made.authority, folder=home.pki))


@functools.cache
def _made(name: str, sites: tuple[str, ...], quorum: int, hosts: tuple[str, ...]) -> Coordinator:
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    federation = FederationSettings(name="trial", sites=sites, participation={"quorum": quorum})
    home = init_server(folder / name, federation, ServerSettings(hosts=hosts), passphrase=PASSPHRASE)
    return Coordinator(home, open_authority(home.pki, PASSPHRASE))


def make_site(path: Path, name: str = "sms") -> SiteHome:
    """A site's folder with settings, keys and request, and no scans."""
    init_site(path, chosen="sms", name=name)
    return SiteHome(path)
