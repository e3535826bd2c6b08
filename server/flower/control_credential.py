"""The credential of the SuperLink's control and runtime interface: a file that the server's user alone can read.

Flower's open edition asks nobody who he is at these interfaces, and the certificate that it takes to reach them is
public. So the coordinator's SuperLink answers there to who knows a secret (server.flower.interface_guard). It is made
anew at each start of the server and kept beside the authority's certificate, in `pki/`, with mode 0600. It travels
inside TLS to a peer that has shown the server's own certificate. It is in no back-up, and not among the proxy's
files.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path

import httpx
from flwr.supercore.protobuf.client import ProtobufCall, ProtobufRequestContext

from minet_core.errors import HostError
from minet_core.runtime.files.atomic_write import write_private

HEADER = "fedminet-control"


def make_credential(path: Path) -> None:
    """Write a new one; a former one no longer counts for a SuperLink that is started after it."""
    write_private(path, secrets.token_hex(32).encode("ascii"))


def read_credential(path: Path) -> str:
    """The credential. Raises HostError (FM-S500) where this user cannot read it, or no server was started here."""
    try:
        return path.read_text(encoding="ascii")
    except (OSError, ValueError) as failure:
        raise HostError(
            "the SuperLink's credential cannot be read",
            got=failure,
            action="Give the command as the user who started the server, on its machine and in its folder",
        ) from failure


@dataclass(frozen=True)
class CredentialInterceptor:
    """Shows the credential with each request, as its file has it then; without the file, none is shown."""

    path: Path

    def intercept(self, context: ProtobufRequestContext, call_next: ProtobufCall) -> httpx.Response:
        """Add the header, and pass the request on."""
        if self.path.exists():
            context.request.headers[HEADER] = read_credential(self.path)
        return call_next(context)
