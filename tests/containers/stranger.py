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

OUTSIDE = f"{PROJECT}-outside"  # the network, and the container on it
FLEET_CALL = "/v1/fleet/pull-messages"


class Stranger:
    """A peer from outside, who shows what certificate it likes: one container, and a new process for each program."""

    def __init__(self, federation: Federation, folder: Path) -> None:
        self.federation, self.folder = federation, folder
        folder.chmod(0o755)
        made = federation.made
        (folder / "ca.pem").write_bytes((made / "coordinator" / "pki" / "ca.pem").read_bytes())

    def python(self, program: str, argument: str) -> str:
        """What a Python program prints outside; `folder` is its /peer."""
        return self.federation.engine.docker(
            "exec", "--interactive", OUTSIDE, "python", "-I", "-", argument, stdin=program
        )

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
        return [(status, text) for status, text in json.loads(self.python(ASK, as_argument(wish)))]

    def status(self, identity: Identity | None, **request: object) -> int | str:
        ((status, _),) = self.ask(identity, [{"method": "POST", "path": FLEET_CALL, **request}])
        return status


@contextmanager
def stranger_outside(federation: Federation, folder: Path) -> Iterator[Stranger]:
    """A stranger in a network of its own, on which the proxy is and nothing else of the federation."""
    engine, proxy = federation.engine, federation.container("proxy")
    stranger = Stranger(federation, folder)
    engine.tried("rm", "--force", OUTSIDE)
    engine.tried("network", "rm", OUTSIDE)
    engine.docker("network", "create", "--internal", OUTSIDE)
    try:
        engine.docker("network", "connect", "--alias", COORDINATOR_NAME, OUTSIDE, proxy)
        engine.docker(
            *("run", "--detach", "--name", OUTSIDE, "--network", OUTSIDE, "--user", "10001:10001"),
            *("--read-only", "--cap-drop", "ALL", "--volume", f"{folder}:/peer:ro", "--entrypoint", "python"),
            *(federation.images["site"], "-I", "-c", "import signal; signal.pause()"),
        )
        yield stranger
    finally:
        engine.tried("rm", "--force", OUTSIDE)
        engine.tried("network", "disconnect", OUTSIDE, proxy)
        engine.tried("network", "rm", OUTSIDE)


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
