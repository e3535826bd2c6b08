"""A peer from outside the federation, on a network on which only its proxy is."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cryptography.hazmat.primitives import serialization

from tests.containers.federation import COORDINATOR_NAME, PROJECT, Federation
from tests.containers.peers import ASK, Identity, as_argument

OUTSIDE = f"{PROJECT}-outside"
FLEET_CALL = "/v1/fleet/pull-messages"


class Stranger:
    """A peer from outside, who shows what certificate it likes."""

    def __init__(self, federation: Federation, folder: Path) -> None:
        self.federation, self.folder = federation, folder
        folder.chmod(0o755)
        made = federation.made
        (folder / "ca.pem").write_bytes((made / "coordinator" / "pki" / "ca.pem").read_bytes())

    def ask(
        self, identity: Identity | None, requests: list[dict[str, object]]
    ) -> list[tuple[int | str, str]]:
        wish = {
            **{"ca": "/peer/ca.pem", "host": COORDINATOR_NAME, "name": COORDINATOR_NAME, "port": 443},
            "requests": requests,
        }
        if identity is not None:
            wish |= {
                "certificate": f"/peer/{identity.certificate.name}",
                "key": f"/peer/{identity.key.name}",
            }
        answer = self.federation.python_in(
            OUTSIDE, ASK, as_argument(wish), options=("--volume", f"{self.folder}:/peer:ro")
        )
        return [(status, text) for status, text in json.loads(answer)]

    def status(self, identity: Identity | None, **request: object) -> int | str:
        ((status, _),) = self.ask(identity, [{"method": "POST", "path": FLEET_CALL, **request}])
        return status


@contextmanager
def outside_network(federation: Federation) -> Iterator[None]:
    """A network of strangers, on which the proxy is and nothing else of the federation."""
    engine = federation.engine
    engine.tried("network", "rm", OUTSIDE)
    engine.docker("network", "create", "--internal", OUTSIDE)
    engine.docker("network", "connect", "--alias", COORDINATOR_NAME, OUTSIDE, federation.container("proxy"))
    yield
    engine.docker("network", "disconnect", OUTSIDE, federation.container("proxy"))
    engine.docker("network", "rm", OUTSIDE)


def identity_of(federation: Federation, stranger: Stranger, site: str) -> Identity:
    """The true certificate of a site, and its key: what a thief of the site's folder would have."""
    home = federation.made / "sites" / site
    identity = Identity(stranger.folder, site)
    identity.certificate.write_bytes((home / "kit" / "site.pem").read_bytes())
    identity.key.write_bytes((home / "keys" / "tls.key").read_bytes())
    identity.key.chmod(0o644)
    return identity


def node_header(federation: Federation, site: str) -> list[list[str]]:
    """Flower's header with the public key of a site's node."""
    line = (federation.made / "sites" / site / "keys" / "node.pub").read_bytes()
    pem = serialization.load_ssh_public_key(line).public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return [["flwr-public-key", base64.b64encode(pem).decode("ascii")]]
