"""What keeps the machine's other users from the coordinator, and the checks that it is there.

Three things make the wall, and none needs root:

- files: the coordinator's folder and all in it is its owner's alone, so no other user reads a key, a site's update, or
  the credential of the SuperLink;
- the interface: the SuperLink's port answers nobody without the credential, and with it nobody who comes over a
  network, but for the sites' own calls (server.flower.interface_guard); both are tried, not believed;
- the bundle: the server runs the federation's own and no other (server.flower.programs).

A machine is shared, in the sense of `accept_shared_machine`, where the first cannot be had, as on a file system without
owners: whoever logs in there can then do what the coordinator can. The port itself stays open to every local user, who
can keep it busy. A rule of the packet filter takes that away too
(docs/shared-machine.md).
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import sqlite3
import ssl
import stat
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx

from minet_core.admission.kit import read_authority
from minet_core.errors import HostError, MachineShared, ServerUnreachable
from minet_core.runtime.files.private_files import open_to_others, tighten
from server.admission.pki import ca_files, server_files
from server.flower.control_credential import HEADER, read_credential
from server.flower.superlink_control import SuperLinkControl
from server.server_home import OWN_FOLDERS, ServerHome

CLOSED_PATHS = (
    "/v1/control/list-nodes",
    "/v1/control/start-run",
    "/v1/runtime/acquire-task",
    "/docs",
    "/openapi.json",
)
"""What is tried without the credential, and with a wrong one."""

DATABASE_PATIENCE_S = 1.0


def hold_files(home: ServerHome) -> list[str]:
    """Make the folder its owner's alone; what was changed, in words.

    Raises MachineShared (FM-S516) where other users can read its secrets all the same and `accept_shared_machine` does
    not say that this is known.
    """
    changed = tighten(home.path, linked=OWN_FOLDERS)
    said = (
        [f"{changed} files and folders of {home.path} were open to others; now to their owner alone."]
        if changed
        else []
    )
    found = open_secrets(home)
    if not found:
        return said
    if not home.settings().accept_shared_machine:
        raise MachineShared(
            "other users of this machine can reach the coordinator's secrets",
            got=", ".join(map(str, found[:3])),
            expected="a folder that is its owner's alone, in one that others cannot replace",
            action="Move it to a file system with owners, or set accept_shared_machine in server.yaml",
        )
    return [
        *said,
        "Warning: other users of this machine can reach the coordinator's secrets; server.yaml accepts it.",
    ]


def open_secrets(home: ServerHome) -> list[Path]:
    """Which secrets and folders others can read, and which folder above them others can exchange."""
    secrets = [
        home.path,
        home.pki,
        home.superlink,
        ca_files(home.pki).private_key,
        server_files(home.pki).private_key,
        home.control_credential,
        home.bundle,
        *sorted(home.superlink.glob("*.secret")),
        *sorted(home.superlink.glob("state.db*")),
    ]
    exchangeable = [above for above in home.path.resolve().parents if _others_may_exchange(above)]
    return [*open_to_others(*secrets), *exchangeable]


def require_closed(home: ServerHome, control: SuperLinkControl) -> bool:
    """Try the SuperLink's interfaces as somebody without a credential, and as somebody who has it and is not here.

    Returns whether the second could be tried: it takes an address of this machine besides loopback, and the right to
    ask for one. Who cannot even connect from there is kept out too. Raises MachineShared (FM-S516) where one answers,
    ServerUnreachable (FM-S502) where nobody does.
    """
    context = _context(home)
    elsewhere = next(_addresses_of_this_machine(), None)
    try:
        with httpx.Client(verify=context, trust_env=False, timeout=10.0) as stranger:
            for path in CLOSED_PATHS:
                for headers in ({}, {HEADER: "0" * 64}):
                    status = stranger.post(f"https://{control.address}{path}", headers=headers).status_code
                    _require_forbidden(path, status, who="who has no credential")
        if elsewhere is None or not _is_on_loopback(control.address):
            return False
        transport = httpx.HTTPTransport(verify=context, trust_env=False, local_address=elsewhere)
        with httpx.Client(transport=transport, timeout=10.0) as proxy:
            shown = {HEADER: read_credential(home.control_credential)}
            with contextlib.suppress(httpx.ConnectError, httpx.ConnectTimeout):  # a packet filter
                for path in CLOSED_PATHS:
                    status = proxy.post(f"https://{control.address}{path}", headers=shown).status_code
                    _require_forbidden(path, status, who="another address that shows the credential")
    except httpx.TransportError as failure:
        raise ServerUnreachable(
            f"the SuperLink at {control.address} does not answer", got=failure
        ) from failure
    return True


def forget_deleted(database: Path, *, at_rest: bool = False) -> None:
    """Cut off SQLite's log, which else keeps deleted content until it is written over.

    at_rest: nobody has it open, and what was deleted before deletions were overwritten is dropped too. A database that
    is busy is left for the next time. Raises HostError (FM-S500) at rest, where it cannot be read.
    """
    if not database.is_file():
        return
    try:
        with contextlib.closing(sqlite3.connect(database, timeout=DATABASE_PATIENCE_S)) as connection:
            connection.execute("PRAGMA temp_store = MEMORY")
            ((unused,),) = connection.execute("PRAGMA freelist_count").fetchall()
            if at_rest and unused:
                connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    except sqlite3.Error as failure:
        if at_rest:
            raise HostError("the SuperLink's database cannot be read", got=failure) from failure


def _context(home: ServerHome) -> ssl.SSLContext:
    read_authority(ca_files(home.pki).certificate)  # a damaged one is named
    return ssl.create_default_context(cafile=str(ca_files(home.pki).certificate))


def _others_may_exchange(folder: Path) -> bool:
    mode = folder.stat().st_mode
    return bool(mode & stat.S_IWOTH) and not mode & stat.S_ISVTX


def _require_forbidden(path: str, status: int, *, who: str) -> None:
    if status != httpx.codes.FORBIDDEN:
        raise MachineShared(
            f"the SuperLink answers {who}",
            got=f"{path}: status {status}",
            expected="403",
            action="Stop what listens there, and start it with `fedminet server start`",
        )


def _is_on_loopback(address: str) -> bool:
    """Whether the SuperLink is reached there by loopback, so that a peer with another address is told from it."""
    host = address.rpartition(":")[0]
    if host.startswith("["):  # IPv6, and the other addresses of this machine that are tried are IPv4
        return False
    found = socket.getaddrinfo(host, None, family=socket.AF_INET)
    return all(ipaddress.ip_address(peer[0]).is_loopback for *_, peer in found)


def _addresses_of_this_machine() -> Iterator[str]:
    """The IPv4 addresses of the network cards; on Linux alone, whose call it is (netdevice(7), SIOCGIFADDR)."""
    if sys.platform != "linux":
        return
    import fcntl

    try:
        cards = socket.if_nameindex()
    except OSError:  # it asks by netlink, which a service manager may have taken away
        return
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        for _, name in cards:
            with contextlib.suppress(OSError):  # a card without an address
                answer = fcntl.ioctl(asked, 0x8915, struct.pack("256s", name.encode()))
                address = ipaddress.IPv4Address(answer[20:24])
                if not address.is_loopback:
                    yield str(address)
