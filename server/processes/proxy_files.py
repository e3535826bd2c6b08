"""What the proxy needs, in a folder of its own: it faces the network, and must not see the authority's key.

    proxy/ca.pem      the authority's certificate, by which sites' certificates are checked
    proxy/server.pem  the server's certificate, which ends TLS
    proxy/server.key  its private key
    proxy/crl.pem     the revoked certificates
    proxy/nodes.map   nginx's map from a certificate's subject and a node's key to the admitted site:
    server.admission.revocation

Copies of the files of the same names in pki/, brought up to date about once a second while the server runs.
"""

from __future__ import annotations

from pathlib import Path

from minet_core.runtime.files.atomic_write import write_private
from server.admission.pki import settle_server_key
from server.server_home import ServerHome

PROXY_FILES = ("ca.pem", "server.pem", "server.key", "crl.pem", "nodes.map")


def update_proxy_files(home: ServerHome) -> tuple[str, ...]:
    """Bring the proxy's folder up to date; returns the names of the files that were replaced.

    Each file is replaced as a whole. A certificate and its key are two files: the proxy takes up a pair that fits.
    """
    settle_server_key(home.pki)
    return update_copies(home.pki, home.proxy, PROXY_FILES)


def update_copies(pki: Path, folder: Path, names: tuple[str, ...]) -> tuple[str, ...]:
    """Bring the copies of these files of `pki` up to date, each as a whole; the names of those that were replaced."""
    folder.mkdir(mode=0o700, exist_ok=True)
    replaced = []
    for name in names:
        source, copy = pki / name, folder / name
        if not source.exists():
            continue
        content = source.read_bytes()
        if not copy.exists() or copy.read_bytes() != content:
            write_private(copy, content)
            replaced.append(name)
    return tuple(replaced)
