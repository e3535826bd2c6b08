"""Reading the kit that the coordinator gave, and holding every file of it to its digest."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from minet_core.federation import FederationSettings
from minet_core.kit import CA_FILE, FEDERATION_FILE, KIT_FILE, KitSettings
from minet_core.runtime.durable import sha256_of_file
from minet_core.runtime.errors import AdmissionRefused, ConfigurationError, FileMissing
from minet_core.runtime.yaml_file import parse_settings, read_settings


@dataclass(frozen=True)
class Kit:
    """A kit that was found whole."""

    folder: Path
    settings: KitSettings
    federation: FederationSettings

    @property
    def ca(self) -> Path:
        return self.folder / CA_FILE

    @property
    def fingerprint(self) -> str:
        """SHA-256 of kit.json, which holds the digests of the rest: to compare by telephone."""
        return sha256_of_file(self.folder / KIT_FILE)


def read_kit(folder: Path) -> Kit:
    """The kit in `folder`.

    Raises FileMissing (FM-C103), AdmissionRefused (FM-F404) where a file is not the one that was admitted.
    """
    for name in (KIT_FILE, CA_FILE, FEDERATION_FILE):
        if not (folder / name).is_file():
            raise FileMissing(
                "the site's kit is incomplete",
                got=f"no {folder / name}",
                action="Ask the coordinator for the kit of `fedminet server admit`",
            )
    try:
        content = json.loads((folder / KIT_FILE).read_text(encoding="utf-8"))
    except (ValueError, UnicodeDecodeError) as failure:
        raise ConfigurationError(f"{folder / KIT_FILE} is not a JSON file") from failure
    if not isinstance(content, dict):
        raise ConfigurationError(f"{folder / KIT_FILE} holds no settings")
    settings = parse_settings(content, KitSettings, source=str(folder / KIT_FILE))
    if sha256_of_file(folder / CA_FILE) != settings.ca_digest:
        raise _altered(folder / CA_FILE)
    federation = read_settings(folder / FEDERATION_FILE, FederationSettings)
    if federation.digest() != settings.federation_digest or federation.name != settings.federation:
        raise _altered(folder / FEDERATION_FILE)
    if settings.site not in federation.sites:
        raise AdmissionRefused(
            "the kit's site is no member of its federation",
            got=settings.site,
            expected=", ".join(federation.sites),
        )
    return Kit(folder, settings, federation)


def _altered(path: Path) -> AdmissionRefused:
    return AdmissionRefused(
        f"{path.name} of the kit is not the file that the coordinator admitted the site with",
        got=path,
        action="Ask the coordinator for a new kit",
    )
