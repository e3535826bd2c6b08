"""Making a coordinator's folder: its settings, its authority, its first certificate."""

from __future__ import annotations

from pathlib import Path

from minet_core.errors import ConfigurationError
from minet_core.runtime.files.private_files import private_files, tighten
from minet_core.settings.federation import FederationSettings
from minet_core.settings.yaml_file import write_settings
from server.admission.encrypted_key import require_long_enough
from server.admission.pki import issue_backup_key, issue_server_certificate, make_ca
from server.admission.revocation import write_crl, write_node_map
from server.server_home import LOCAL_NAMES, OWN_FOLDERS, ServerHome, ServerSettings


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
