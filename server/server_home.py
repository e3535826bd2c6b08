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

from minet_core.errors import FileMissing, HostError
from minet_core.settings.federation import FederationSettings
from minet_core.settings.names import HostName
from minet_core.settings.yaml_file import Settings, read_settings
from server.flower.file_names import ProgramFiles

LOCAL_NAMES = ("127.0.0.1", "localhost")

OWN_FOLDERS = ("pki", "proxy", "screen", "sites", "superlink", "runs", "logs", "dashboard")
"""What may lie on another disk, with a link in its place."""


def endpoint(host: str, port: int) -> str:
    """`host:port` as a URL has it: an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host and not host.startswith("[") else f"{host}:{port}"


class ServerSettings(Settings):
    """`server.yaml`."""

    hosts: tuple[HostName, ...] = Field(
        LOCAL_NAMES, min_length=1, description="names and addresses the certificate is for"
    )
    bind: HostName = Field(
        "127.0.0.1", description="the address to listen on; keep it loopback behind a proxy"
    )
    port: int = Field(9443, ge=1, le=65535, description="the port to listen on")
    public_port: int | None = Field(
        None, ge=1, le=65535, description="the port that sites reach, where a proxy is in front; null: `port`"
    )
    keep_checkpoints: PositiveInt | None = Field(
        10, description="how many of a run's last checkpoints stay on the disk; null: all, for ever"
    )

    accept_shared_machine: bool = Field(
        False,
        description="start although other users of the machine can read the coordinator's secrets, as on a file system "
        "without owners; who logs in there is then as the coordinator",
    )

    @property
    def address(self) -> str:
        """What a site connects to: `host:port`, an IPv6 address in brackets."""
        return endpoint(self.hosts[0], self.public_port or self.port)


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
                action="Correct the path, or mount the disk that it is on; a new one is made by `fedminet server init`",
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


def local_address(home: ServerHome) -> str:
    """How a process on the coordinator's machine reaches the SuperLink: a name that its certificate holds.

    Raises HostError (FM-S500) where the certificate is for none that leads here.
    """
    settings = home.settings()
    local = ("127.0.0.1", "localhost") if settings.bind in ("127.0.0.1", "0.0.0.0") else (settings.bind,)  # noqa: S104
    for host in (*local, *settings.hosts):
        if host in settings.hosts:
            return endpoint(host, settings.port)
    raise HostError("the server's certificate names no host", got=settings.hosts)
