"""The types of names and digests in settings."""

from __future__ import annotations

from typing import Annotated

from pydantic import StringConstraints

SiteName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,30}$")]
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
