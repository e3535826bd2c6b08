"""Where Flower's programs find what they need in the coordinator's folder. Imports nothing: each starts in a moment."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

BUNDLE_FILE = "fedminet.fab"
CREDENTIAL_FILE = "control.secret"


@dataclass(frozen=True)
class ProgramFiles:
    """Of the coordinator's folder at `path`."""

    path: Path

    @property
    def bundle(self) -> Path:
        """The only app bundle that the server runs."""
        return self.path / "superlink" / BUNDLE_FILE

    @property
    def control_credential(self) -> Path:
        """See server.flower.control_credential."""
        return self.path / "pki" / CREDENTIAL_FILE
