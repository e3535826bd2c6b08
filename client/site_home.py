"""The site's folder: everything a site keeps, on its own disk.

site.yaml    the site's own configuration
request.json what the coordinator needs to admit the site; nothing in it is secret
keys/        the site's keys; the private ones never leave the folder. authority.json: whom the site trusts
kit/         what the coordinator gave at admission: CA, certificate, address, federation file; a link into kits/
kits/        the kit in use, in a folder of its own, so that another one takes its place in one step
inbox/       what `fedminet site receive` took, until an ingest empties it (client.receive.inbox)
store/       the ingested pairs and cohort.json
state/       what the site keeps of the rounds it took part in
results/     what the site found about the global model on its own patients; stays here
flower/      Flower's own
link/        the way from the trainer to its node where they are two containers (client.processes.node_and_trainer)
status/      what `fedminet site status` reads: of the node in node/, of the trainer and its tasks in trainer/
logs/
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from client.status_folders import NODE_NOTES, TRAINER_NOTES
from minet_core.errors import FileMissing
from minet_core.runtime.files.private_files import open_to_others, stay_private, tighten
from minet_core.settings.yaml_file import read_settings
from sites.settings.site_settings import SiteSettings

if TYPE_CHECKING:
    from minet_core.settings.federation import FederationSettings

FOLDERS = ("keys", "store", "state", "results", "flower", "link", str(NODE_NOTES), str(TRAINER_NOTES), "logs")
REQUEST_FILE = "request.json"
OWN_FOLDERS = (*FOLDERS, "inbox", "kit", "kits", "status")
"""What may lie on another disk, with a link in its place."""


@dataclass(frozen=True)
class SiteHome:
    """One site's folder."""

    path: Path

    @classmethod
    def at(cls, path: Path) -> SiteHome:
        """The site at `path`. Raises FileMissing (FM-C103) where no site was initialised."""
        if not (path / "site.yaml").is_file():
            raise FileMissing(
                "no site is here",
                got=path,
                expected="a folder with site.yaml",
                action="Correct the path, or mount the disk that it is on; a new one is made by `fedminet site init`",
            )
        return cls(path)

    def make_folders(self) -> None:
        """Make the folders that are not there yet: a container that is given one must find it its own."""
        for name in FOLDERS:
            (self.path / name).mkdir(parents=True, exist_ok=True, mode=0o700)

    def hold_files(self) -> list[str]:
        """Make the folder its owner's alone, and let this process write nothing else; what there is to say of it."""
        stay_private()
        changed = tighten(self.path, linked=OWN_FOLDERS)
        said = [
            f"{changed} files and folders of {self.path} were open to others; now they are its owner's alone."
        ]
        found = open_to_others(self.path, *(self.path / name for name in OWN_FOLDERS))
        warning = f"Warning: other users of this machine can open {', '.join(map(str, found[:3]))}."
        return (said if changed else []) + ([warning] if found else [])

    @property
    def keys(self) -> Path:
        return self.path / "keys"

    @property
    def kit(self) -> Path:
        return self.path / "kit"

    @property
    def kits(self) -> Path:
        return self.path / "kits"

    @property
    def request(self) -> Path:
        return self.path / REQUEST_FILE

    @property
    def store(self) -> Path:
        return self.path / "store"

    @property
    def inbox(self) -> Path:
        return self.path / "inbox"

    @property
    def results(self) -> Path:
        return self.path / "results"

    @property
    def state(self) -> Path:
        return self.path / "state"

    @property
    def node_notes(self) -> Path:
        """What the node tells of itself; where it is a container of its own, nobody else writes here."""
        return self.path / NODE_NOTES

    @property
    def trainer_notes(self) -> Path:
        """What the trainer and its tasks tell of themselves; likewise."""
        return self.path / TRAINER_NOTES

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    def settings(self) -> SiteSettings:
        """The site's own configuration."""
        return read_settings(self.path / "site.yaml", SiteSettings)

    def federation(self) -> FederationSettings:
        """The federation file this site was admitted with."""
        from minet_core.settings.federation import FederationSettings

        return read_settings(self.kit / "federation.yaml", FederationSettings, ours_to_edit=False)
