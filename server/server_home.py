"""The coordinator's folder: everything the server keeps, on its own disk.

federation.yaml   what all members agree on
server.yaml       addresses and storage
pki/              CA and server certificate; the private keys never leave the folder
sites/            NAME.pub, the registered key of every admitted site
superlink/        the SuperLink's database, Flower's home, the executor's secret
runs/             one run directory a run
logs/
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import Field, PositiveInt

from minet_core.federation import PRESETS, FederationSettings
from minet_core.runtime.errors import ConfigurationError, FileMissing
from minet_core.runtime.yaml_file import Settings, parse_settings, read_settings, write_settings
from server.pki import issue_server_certificate, make_ca

PAPER_ROUNDS = 50
"""Epochs of the paper, Section 3: one epoch a round."""

QUICK_ROUNDS = 24
"""Short rounds drift apart less; docs/results/main-job.md has the figures."""


class ServerSettings(Settings):
    """`server.yaml`."""

    hosts: tuple[str, ...] = Field(
        ("127.0.0.1", "localhost"), min_length=1, description="names and addresses the certificate is for"
    )
    bind: str = Field("127.0.0.1", description="the address to listen on; keep it loopback behind a proxy")
    port: int = Field(9443, ge=1, le=65535, description="the port to listen on")
    keep_checkpoints: PositiveInt | None = Field(
        None, description="how many of a run's last checkpoints stay on the disk; null: all"
    )

    @property
    def address(self) -> str:
        """What a site connects to: `host:port`."""
        return f"{self.hosts[0]}:{self.port}"


@dataclass(frozen=True)
class ServerHome:
    """The coordinator's folder."""

    path: Path

    @classmethod
    def at(cls, path: Path) -> ServerHome:
        """The coordinator at `path`. Raises FileMissing (FM-C103) where none was initialised."""
        if not (path / "server.yaml").is_file():
            raise FileMissing(
                "no coordinator is here",
                got=path,
                expected="a folder with server.yaml",
                action="Run `fedminet server init` first",
            )
        return cls(path.resolve())

    @property
    def pki(self) -> Path:
        return self.path / "pki"

    @property
    def sites(self) -> Path:
        return self.path / "sites"

    @property
    def superlink(self) -> Path:
        return self.path / "superlink"

    @property
    def runs(self) -> Path:
        return self.path / "runs"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    def settings(self) -> ServerSettings:
        """server.yaml."""
        return read_settings(self.path / "server.yaml", ServerSettings)

    def federation(self) -> FederationSettings:
        """federation.yaml."""
        return read_settings(self.path / "federation.yaml", FederationSettings)


def federation_of(
    *,
    name: str,
    sites: tuple[str, ...],
    preset: str,
    scale: int,
    rounds: int | None,
    seed: int = 1,
    algorithm: str = "fedavg",
) -> FederationSettings:
    """A federation file from a preset; every site is needed for a round until the file is edited."""
    if preset not in PRESETS:
        raise ConfigurationError("no such preset", got=preset, expected=" or ".join(PRESETS))
    model, training = PRESETS[preset]
    return parse_settings(
        {
            "name": name,
            "sites": sites,
            "scale": scale,
            "rounds": rounds or {"quick": QUICK_ROUNDS, "paper": PAPER_ROUNDS}[preset],
            "participation": {"quorum": len(sites)},
            "seed": seed,
            "algorithm": {"name": algorithm},
            "model": model.model_dump(),
            "training": training.model_dump(),
        },
        FederationSettings,
        source="the options",
    )


def init_server(path: Path, federation: FederationSettings, settings: ServerSettings) -> ServerHome:
    """Make the coordinator's folder. Raises ConfigurationError (FM-C100) where one is already there."""
    if (path / "server.yaml").exists():
        raise ConfigurationError(
            "a coordinator is already here",
            got=path,
            action="Choose another folder; keys are never overwritten",
        )
    path.mkdir(parents=True, exist_ok=True)
    home = ServerHome(path.resolve())
    for folder in (home.sites, home.superlink, home.runs, home.logs):
        folder.mkdir(exist_ok=True)
    make_ca(home.pki, name=federation.name)
    issue_server_certificate(home.pki, hosts=settings.hosts)
    write_settings(path / "federation.yaml", federation)
    write_settings(path / "server.yaml", settings)
    return home
