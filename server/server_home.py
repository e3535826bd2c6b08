"""The coordinator's folder: everything the server keeps, on its own disk.

federation.yaml   what all members agree on
server.yaml       addresses and storage
pki/              CA, server certificate, revocations: see server.admission.revocation
proxy/            copies of what the proxy in front needs (server.processes.proxy_files)
screen/           what the screen needs that is a container of its own (server.processes.node_snapshot)
sites/            keys, request and certificate of every admitted site: see server.admission.enrolment
superlink/        the SuperLink's database, Flower's home, the executor's secret
runs/             one run directory a run
logs/
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import Field, PositiveInt

from minet_core.errors import ConfigurationError, FileMissing
from minet_core.runtime.files.private_files import private_files, tighten
from minet_core.settings.federation import PRESETS, FederationSettings
from minet_core.settings.yaml_file import Settings, parse_settings, read_settings, write_settings
from server.admission.encrypted_key import require_long_enough
from server.admission.pki import issue_backup_key, issue_server_certificate, make_ca
from server.admission.revocation import write_crl, write_node_map
from server.flower.file_names import ProgramFiles

PAPER_ROUNDS = 50
"""Epochs of the paper, Section 3: one epoch a round."""

QUICK_ROUNDS = 24
"""Short rounds drift apart less; docs/results/main-job.md has the figures."""

LOCAL_NAMES = ("127.0.0.1", "localhost")

OWN_FOLDERS = ("pki", "proxy", "screen", "sites", "superlink", "runs", "logs", "dashboard")
"""What may lie on another disk, with a link in its place."""


class ServerSettings(Settings):
    """`server.yaml`."""

    hosts: tuple[str, ...] = Field(
        LOCAL_NAMES, min_length=1, description="names and addresses the certificate is for"
    )
    bind: str = Field("127.0.0.1", description="the address to listen on; keep it loopback behind a proxy")
    port: int = Field(9443, ge=1, le=65535, description="the port to listen on")
    public_port: int | None = Field(
        None, ge=1, le=65535, description="the port that sites reach, where a proxy is in front; null: `port`"
    )
    keep_checkpoints: PositiveInt | None = Field(
        None, description="how many of a run's last checkpoints stay on the disk; null: all"
    )

    accept_shared_machine: bool = Field(
        False,
        description="start although other users of the machine can read the coordinator's secrets, as on a file system "
        "without owners; who logs in there is then as the coordinator",
    )

    @property
    def address(self) -> str:
        """What a site connects to: `host:port`."""
        return f"{self.hosts[0]}:{self.public_port or self.port}"


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
    def proxy(self) -> Path:
        return self.path / "proxy"

    @property
    def screen(self) -> Path:
        return self.path / "screen"

    @property
    def sites(self) -> Path:
        return self.path / "sites"

    @property
    def superlink(self) -> Path:
        return self.path / "superlink"

    @property
    def bundle(self) -> Path:
        """The only app bundle that the server runs."""
        return ProgramFiles(self.path).bundle

    @property
    def control_credential(self) -> Path:
        """See server.flower.control_credential."""
        return ProgramFiles(self.path).control_credential

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
    local_steps: int | None = None,
    seed: int = 1,
    algorithm: str = "fedavg",
) -> FederationSettings:
    """A federation file from a preset; every site is needed for a round until the file is edited.

    rounds, local_steps: None for the preset's own.
    """
    if preset not in PRESETS:
        raise ConfigurationError("no such preset", got=preset, expected=" or ".join(PRESETS))
    model, training = PRESETS[preset]
    steps = {} if local_steps is None else {"local_steps": local_steps, "local_epochs": None}
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
            "training": training.model_dump() | steps,
        },
        FederationSettings,
        source="the options",
    )


def with_local_name(hosts: tuple[str, ...], *, bind: str) -> tuple[str, ...]:
    """`hosts`, and a name by which the coordinator's own processes reach a server that listens on loopback.

    The name that sites use leads to the proxy, and not to the server behind it.
    """
    if bind not in (*LOCAL_NAMES, "0.0.0.0") or set(hosts) & set(LOCAL_NAMES):  # noqa: S104
        return hosts
    return (*hosts, "localhost")


def init_server(
    path: Path, federation: FederationSettings, settings: ServerSettings, *, passphrase: str
) -> ServerHome:
    """Make the coordinator's folder, its owner's alone, the key of its authority under `passphrase`.

    Raises ConfigurationError (FM-C100) where one is already there, InvalidSetting (FM-C102) for a short passphrase.
    """
    require_new(path)
    require_long_enough(passphrase)
    with private_files():
        path.mkdir(parents=True, exist_ok=True)
        home = ServerHome(path.resolve())
        for folder in (home.sites, home.superlink, home.runs, home.logs, home.proxy, home.screen):
            folder.mkdir(exist_ok=True)
        authority = make_ca(home.pki, name=federation.name, passphrase=passphrase)
        issue_server_certificate(authority, hosts=settings.hosts)
        issue_backup_key(authority)
        write_crl(authority)
        write_node_map(home.pki, {})
        write_settings(path / "federation.yaml", federation)
        write_settings(path / "server.yaml", settings)
    tighten(home.path, linked=OWN_FOLDERS)
    return home


def require_new(path: Path) -> None:
    """Raises ConfigurationError (FM-C100) where a coordinator is already at `path`."""
    if (path / "server.yaml").exists():
        raise ConfigurationError(
            "a coordinator is already here",
            got=path,
            action="Choose another folder; keys are never overwritten",
        )
