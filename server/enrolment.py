"""Admitting a site: its key is recorded, and it gets a kit.

A site is known by its key. The name it is registered under is chosen here, by the coordinator, after the
fingerprint was compared by telephone.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from minet_core.cohort_declaration import CohortDeclaration, read_declaration
from minet_core.kit import CA_FILE, FEDERATION_FILE, KIT_FILE, KitSettings, key_fingerprint
from minet_core.runtime.durable import sha256_of_file, write_json, write_text
from minet_core.runtime.errors import AdmissionRefused, ConfigurationError, FileMissing
from server.bundle import build_bundle, read_bundle, write_bundle
from server.pki import ca_files
from server.server_home import ServerHome


@dataclass(frozen=True)
class Admission:
    """An admitted site."""

    site: str
    public_key: Path
    fingerprint: str
    kit: Path
    kit_fingerprint: str


def admit(
    home: ServerHome, name: str, public_key: Path, *, kit: Path, declaration: Path | None = None
) -> Admission:
    """Record the key of the site `name` and write its kit to the folder `kit`.

    declaration: what the site declares of its cohort; its replies are held to it.

    Raises AdmissionRefused (FM-F404) for a name that is no member or is admitted with another key, and for a key
    that another site has; FileMissing (FM-C103); ConfigurationError (FM-C100) for a kit folder that is in use.
    The same name with the same key gets its kit again.
    """
    federation = home.federation()
    if name not in federation.sites:
        raise AdmissionRefused(
            "the site is no member of the federation",
            got=name,
            expected=", ".join(federation.sites),
            action="Add it to `sites` in federation.yaml first",
        )
    if not public_key.is_file():
        raise FileMissing("the site's public key is missing", got=public_key)
    fingerprint = key_fingerprint(public_key)
    for other, path in admitted_sites(home).items():
        if (other == name) != (key_fingerprint(path) == fingerprint):
            raise AdmissionRefused(
                f"{other} is admitted with another key" if other == name else f"the key is that of {other}",
                got=fingerprint,
                action="Compare the fingerprints by telephone; remove sites/NAME.pub to admit a site anew",
            )
    if kit.exists() and any(kit.iterdir()):
        raise ConfigurationError("the kit's folder is not empty", got=kit, action="Name a new folder")
    if declaration is not None:
        cohort = read_declaration(declaration)
        if cohort.site != name:
            raise AdmissionRefused("the declaration is another site's", got=cohort.site, expected=name)
        write_json(_declaration(home, name), cohort.model_dump(mode="json"))
    recorded = home.sites / f"{name}.pub"
    write_text(recorded, public_key.read_text(encoding="ascii"))
    _write_kit(home, name, fingerprint=fingerprint, kit=kit)
    return Admission(name, recorded, fingerprint, kit, sha256_of_file(kit / KIT_FILE))


def admitted_sites(home: ServerHome) -> dict[str, Path]:
    """The registered key of every admitted site."""
    return {path.stem: path for path in sorted(home.sites.glob("*.pub"))}


def declared_cohorts(home: ServerHome) -> dict[str, CohortDeclaration]:
    """What every admitted site declared; a site that declared nothing is not in it."""
    paths = {name: _declaration(home, name) for name in admitted_sites(home)}
    return {name: read_declaration(path) for name, path in paths.items() if path.exists()}


def _declaration(home: ServerHome, name: str) -> Path:
    return home.sites / f"{name}.declaration.json"


def _write_kit(home: ServerHome, name: str, *, fingerprint: str, kit: Path) -> None:
    if not (home.superlink / "fedminet.fab").exists():
        write_bundle(home.superlink, build_bundle())
    ca = ca_files(home.pki).certificate
    kit.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(ca, kit / CA_FILE)
    shutil.copyfile(home.path / "federation.yaml", kit / FEDERATION_FILE)
    federation = home.federation()
    settings = KitSettings(
        site=name,
        address=home.settings().address,
        federation=federation.name,
        federation_digest=federation.digest(),
        ca_digest=sha256_of_file(ca),
        bundle_digest=read_bundle(home.superlink).digest,
        key_fingerprint=fingerprint,
    )
    write_json(kit / KIT_FILE, settings.model_dump(mode="json"))
